//! What the system tells about a folder: paths to look at, and nothing that is relied on.
//!
//! A hint says where to look, never what is there. When there are more than fit, or some were lost, all of the folder is
//! looked through. On Linux a hint also says that a file was closed or moved here, so it is complete; for a file that was
//! only made (a hard link), or on other systems, it has to stay as it is for a while.

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind},
};
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Paths that are kept. A folder in which more happens at once is looked through as a whole.
const MOST: usize = 10_000;
/// Whether it is told when a file is closed.
const CLOSES: bool = cfg!(target_os = "linux");

/// Watches a folder, and those within it that are added.
pub(super) struct Watch {
    root: PathBuf,
    watcher: Mutex<RecommendedWatcher>,
    pub(super) hints: Arc<Hints>,
}

/// What was told since it was last asked.
#[derive(Default)]
pub(super) struct Hints {
    told: Mutex<Told>,
    news: Notify,
}

#[derive(Default)]
struct Told {
    complete: HashSet<PathBuf>,
    made: HashMap<PathBuf, Made>,
    /// Something was lost, or there was too much.
    all: bool,
}

/// A file that was made and not yet closed.
enum Made {
    /// It may be complete at this time.
    Settling(Instant),
    /// Somebody writes it.
    Opened,
}

/// Where to look now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Paths in the folder. Files there are complete.
    pub(super) at: Vec<PathBuf>,
    /// At all.
    pub(super) all: bool,
}

impl Watch {
    pub(super) fn new(root: &Path, settle: Duration) -> notify::Result<Self> {
        let hints = Arc::<Hints>::default();
        let (told, base) = (Arc::clone(&hints), root.to_owned());
        let watcher = notify::recommended_watcher(move |event| told.tell(&base, settle, event))?;
        Ok(Self { root: root.to_owned(), watcher: Mutex::new(watcher), hints })
    }

    /// Watches a folder within. One that has gone meanwhile is none.
    pub(super) fn add(&self, folder: &Path) -> notify::Result<()> {
        let path = if folder == Path::new("") { self.root.clone() } else { self.root.join(folder) };
        let added =
            self.watcher.lock().unwrap_or_else(PoisonError::into_inner).watch(&path, RecursiveMode::NonRecursive);
        match added {
            Err(error) if folder != Path::new("") && is_gone(&error) => Ok(()),
            added => added,
        }
    }
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        notify::ErrorKind::PathNotFound => true,
        notify::ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

impl Hints {
    /// Waits until there is something to look at, or may be.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// Where to look now.
    pub(super) fn take(&self) -> Look {
        let mut told = self.told();
        let now = Instant::now();
        let Told { complete, made, all } = &mut *told;
        let mut at: Vec<_> = complete.drain().collect();
        made.retain(|path, state| match state {
            Made::Settling(due) if *due <= now => {
                at.push(path.clone());
                false
            }
            _ => true,
        });
        Look { at, all: std::mem::take(all) }
    }

    /// When there will be something to look at without any more news.
    pub(super) fn due(&self) -> Option<Instant> {
        let told = self.told();
        let due = |state: &Made| if let Made::Settling(due) = state { Some(*due) } else { None };
        told.made.values().filter_map(due).min()
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, root: &Path, settle: Duration, event: notify::Result<Event>) {
        let mut told = self.told();
        let mut news = false;
        match event {
            Ok(event) if !event.need_rescan() => {
                for path in event.paths {
                    match path.strip_prefix(root) {
                        // The folder itself: it may be another now.
                        Ok(path) if path == Path::new("") => told.all |= concerns_folder(&event.kind),
                        Ok(path) => news |= told.note(path, settle, &event.kind),
                        Err(_) => told.all = true,
                    }
                }
            }
            Ok(_) | Err(_) => told.all = true,
        }
        if told.complete.len() + told.made.len() > MOST {
            told.complete.clear();
            told.made.clear();
            told.all = true;
        }
        if news || told.all {
            self.news.notify_one();
        }
    }
}

/// Whether what happened to the folder itself takes it away. That it was read or written to does not.
fn concerns_folder(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
}

impl Told {
    /// Takes a hint in, and says whether it leads anywhere. A file that is being written has many that don't.
    fn note(&mut self, path: &Path, settle: Duration, kind: &EventKind) -> bool {
        let settling = || Made::Settling(Instant::now() + settle);
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Create(CreateKind::Folder) => {
                self.complete(path)
            }
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) if CLOSES => self.complete(path),
            // Whoever makes a file opens it at once, unless it is a link to one that was there.
            EventKind::Access(AccessKind::Open(_)) => {
                if let Some(made) = self.made.get_mut(path) {
                    *made = Made::Opened;
                }
                false
            }
            EventKind::Access(_) => self.made.get_mut(path).map(|made| *made = settling()).is_some(),
            // It is closed after that, or was never opened by this name.
            EventKind::Modify(ModifyKind::Data(_)) if CLOSES => false,
            _ => match self.made.get_mut(path) {
                Some(Made::Opened) => false,
                Some(made) => {
                    *made = settling();
                    true
                }
                None => {
                    self.made.insert(path.to_owned(), settling());
                    true
                }
            },
        }
    }

    fn complete(&mut self, path: &Path) -> bool {
        self.made.remove(path);
        self.complete.insert(path.to_owned())
    }
}

/// Whether a folder's file system tells of what other machines do: those of the network don't.
#[cfg(target_os = "linux")]
pub(super) fn tells(folder: &Path) -> bool {
    /// NFS, SMB, CIFS, SMB2, FUSE, 9P, Coda, AFS, Ceph, Lustre, NCP, OCFS2, GFS2: statfs(2), and the kernel's magic.h.
    const NETWORK: [u32; 13] = [
        0x6969,
        0x517b,
        0xff53_4d42,
        0xfe53_4d42,
        0x6573_5546,
        0x0102_1997,
        0x7375_7245,
        0x5346_414f,
        0x00c3_6400,
        0x0bd0_0bd0,
        0x564c,
        0x7461_636f,
        0x0116_1970,
    ];
    rustix::fs::statfs(folder)
        .map_or(true, |found| !NETWORK.iter().any(|kind| u64::from(*kind) == found.f_type as u64 & 0xffff_ffff))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn tells(_: &Path) -> bool {
    true
}
