//! Where a trigger's files are: in a folder, or in a bucket. What is done with them is the same for both, and in
//! `files.rs`; how each is looked through, read and put away is here for both, and below for either.

use super::{
    AllowedFolders,
    away::{self, Leash, Place},
    blocking,
    bucket::{self, Bucket, Object},
    content::{self, Read},
    folder::{Folder, Found, Stamp, Step},
    name,
    s3::Wire,
    watch::Watch,
};
use cap_std::fs::{File, FileExt as _};
use dunlin_events::{manifest::FilesTrigger, secrets::Secrets, source::SourceError};
use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{runtime::Handle, sync::mpsc};

/// Where files are.
#[derive(Clone)]
pub(super) enum Inbox {
    Folder(Arc<Folder>),
    Bucket(Arc<Bucket>),
}

/// What a walk sends.
pub(super) enum Walked {
    File(Found),
    Unreadable(PathBuf, io::Error),
    /// A folder can't be watched.
    Unwatched(notify::Error),
    /// It ends here.
    Failed(SourceError),
}

impl Inbox {
    pub(super) async fn open(
        trigger: &FilesTrigger,
        allowed: &AllowedFolders,
        secrets: &dyn Secrets,
        wire: &Wire,
    ) -> Result<Self, SourceError> {
        if trigger.bucket.is_some() {
            return Ok(Self::Bucket(Arc::new(Bucket::open(trigger, secrets, wire.clone())?)));
        }
        let (trigger, allowed) = (trigger.clone(), allowed.clone());
        Ok(Self::Folder(Arc::new(blocking(move || Folder::open(&trigger, &allowed)).await?)))
    }

    /// The folder, where it is one.
    pub(super) fn folder(&self) -> Option<&Arc<Folder>> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Bucket(_) => None,
        }
    }

    /// The source of its events.
    pub(super) fn uri(&self) -> String {
        match self {
            Self::Folder(folder) => name::uri(&folder.real),
            Self::Bucket(bucket) => bucket.uri().to_owned(),
        }
    }

    /// Where a file is: the path it is opened at, if text can say it, or `s3://bucket/key`.
    pub(super) fn location(&self, path: &Path) -> Option<String> {
        match self {
            Self::Folder(folder) => folder.real.join(path).to_str().map(ToOwned::to_owned),
            Self::Bucket(bucket) => Some(bucket.location(path)),
        }
    }

    /// Whether it is still the one that was opened, as far as that must be asked.
    pub(super) async fn is_there(&self) -> Result<(), SourceError> {
        match self.folder().cloned() {
            Some(folder) => blocking(move || folder.is_there()).await,
            None => Ok(()),
        }
    }

    /// Goes through it, in pieces of about `chunk`: all of a folder within, which it has watched, or of the bucket.
    pub(super) fn walk(&self, from: PathBuf, watch: Option<Arc<Watch>>, chunk: usize) -> mpsc::Receiver<Vec<Walked>> {
        match self {
            Self::Folder(folder) => walk(Arc::clone(folder), from, watch, chunk),
            Self::Bucket(bucket) => Arc::clone(bucket).walk(),
        }
    }

    /// Reads files to their ends, and keeps the content of those that are no larger than `inline`.
    pub(super) fn read_all(&self, files: Vec<Found>, inline: u64) -> mpsc::Receiver<(Found, Read)> {
        match self {
            Self::Folder(folder) => content::read_all(Arc::clone(folder), files, inline),
            Self::Bucket(bucket) => Arc::clone(bucket).read_all(files, inline),
        }
    }

    /// Opens a file for reading on a thread that may block, if it is still as it was found.
    pub(super) fn read(&self, file: &Found, runtime: &Handle) -> io::Result<Option<Opened>> {
        Ok(match self {
            Self::Folder(folder) => folder.read(file)?.map(Opened::File),
            Self::Bucket(bucket) => {
                Arc::clone(bucket).open_object(file, runtime.clone())?.map(|object| Opened::Object(Box::new(object)))
            }
        })
    }

    /// Puts a file away. `key` is what tells it from others of the trigger.
    pub(super) async fn put(
        &self,
        leash: &Leash,
        path: PathBuf,
        stamp: Stamp,
        key: &str,
        place: Place,
    ) -> io::Result<()> {
        match self {
            Self::Folder(folder) => {
                let (folder, key) = (Arc::clone(folder), key.to_owned());
                leash.act(move || away::put(&folder, &path, stamp, &key, &place)).await
            }
            Self::Bucket(bucket) => bucket.put(&path, stamp, key, &place).await,
        }
    }

    /// How many files are put away at once.
    pub(super) fn at_once(&self) -> usize {
        match self {
            Self::Folder(_) => 1,
            Self::Bucket(_) => bucket::AT_ONCE,
        }
    }
}

/// Goes through a folder on a thread that may block, and has it watched.
fn walk(folder: Arc<Folder>, from: PathBuf, watch: Option<Arc<Watch>>, chunk: usize) -> mpsc::Receiver<Vec<Walked>> {
    let (sender, receiver) = mpsc::channel(1);
    tokio::task::spawn_blocking(move || {
        let (mut steps, mut watched) = (Vec::new(), true);
        let _ = folder.walk(&from, |step| {
            match step {
                // Before it is read: what comes in between is a hint then.
                Step::Folder(path) => {
                    let added = watch.as_ref().filter(|_| watched).map(|watch| watch.add(&path));
                    if let Some(Err(error)) = added {
                        watched = false;
                        steps.push(Walked::Unwatched(error));
                    }
                }
                Step::File(file) => steps.push(Walked::File(file)),
                Step::Unreadable(path, error) => steps.push(Walked::Unreadable(path, error)),
            }
            if steps.len() >= chunk && sender.blocking_send(std::mem::take(&mut steps)).is_err() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let _ = sender.blocking_send(steps);
    });
    receiver
}

/// A file or object that is read.
pub(super) enum Opened {
    File(File),
    Object(Box<Object>),
}

impl Opened {
    /// The bytes from one place to another, as it was opened. `None` of an object, which nobody can have changed.
    pub(super) fn bytes(&self, from: u64, to: u64) -> io::Result<Option<Vec<u8>>> {
        let Self::File(file) = self else { return Ok(None) };
        let mut bytes = vec![0; usize::try_from(to - from).unwrap_or_default()];
        file.read_exact_at(&mut bytes, from)?;
        Ok(Some(bytes))
    }
}

impl io::Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buffer),
            Self::Object(object) => object.read(buffer),
        }
    }
}

impl io::Seek for Opened {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Object(object) => object.seek(to),
        }
    }
}
