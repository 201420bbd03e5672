//! Components that were uploaded and are not deployed yet.
//!
//! Their bytes wait in a folder, `<hex digest>.wasm`, for the deploy that hands them to the registry; what is known of
//! them waits in memory. The folder is no store: it is emptied at start, and an upload nobody deploys goes after a while.

use bytes::Bytes;
use dunlin_events::{Component, Digest};
use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tempfile::NamedTempFile;

pub(crate) struct Uploads {
    folder: PathBuf,
    /// Files appear and go under this lock, so that what is in here has a file.
    waiting: Mutex<HashMap<Digest, Upload>>,
}

struct Upload {
    component: Component,
    at: Instant,
}

impl Uploads {
    /// Takes a folder over, makes it where it is missing, and removes what an earlier process left in it.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Arc::new(Self { folder, waiting: Mutex::default() }))
    }

    /// Keeps a component until a deploy takes it. When the disk is full nothing is left behind. Blocks on the disk.
    pub(crate) fn keep(&self, component: Component, bytes: &Bytes, now: Instant) -> io::Result<()> {
        // Not synced: after a crash the folder is emptied anyway. The file removes itself on the way out of an error.
        let mut file = NamedTempFile::new_in(&self.folder)?;
        file.write_all(bytes)?;
        let mut waiting = self.waiting();
        file.persist(self.path(component.digest))?;
        waiting.insert(component.digest, Upload { component, at: now });
        Ok(())
    }

    /// What is known of a component that waits here.
    pub(crate) fn component(&self, digest: Digest) -> Option<Component> {
        self.waiting().get(&digest).map(|upload| upload.component.clone())
    }

    /// The bytes of a component that waits here. Blocks on the disk.
    pub(crate) fn bytes(&self, digest: Digest) -> io::Result<Bytes> {
        fs::read(self.path(digest)).map(Bytes::from)
    }

    pub(crate) fn digests(&self) -> Vec<Digest> {
        self.waiting().keys().copied().collect()
    }

    /// Forgets what was deployed. Blocks on the disk.
    pub(crate) fn forget(&self, digests: impl IntoIterator<Item = Digest>) {
        let mut waiting = self.waiting();
        for digest in digests {
            if waiting.remove(&digest).is_some() {
                remove(&self.path(digest));
            }
        }
    }

    /// Forgets what came longer ago than `age`. Blocks on the disk.
    pub(crate) fn sweep(&self, now: Instant, age: Duration) {
        self.waiting().retain(|digest, upload| {
            let keep = now.saturating_duration_since(upload.at) < age;
            if !keep {
                remove(&self.path(*digest));
            }
            keep
        });
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.hex()).with_extension("wasm")
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Digest, Upload>> {
        // A panic while it was held left at worst a file without an entry, which the next start removes.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "an upload can't be removed");
    }
}
