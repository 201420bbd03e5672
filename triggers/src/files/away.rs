//! Putting files of a folder away once the function has settled them: to `done/`, to `failed/`, or nowhere.
//!
//! ```text
//!   inbox/a.csv ──▶ inbox/.dunlin-<key> ──▶ done/a.csv
//!       ▲                  │           └──▶ deleted
//!       └── not the one ───┘
//! ```
//!
//! A file is first claimed by a rename and looked at then: somebody may have put another one in its place in the moment
//! before, and that one goes back. Each step can be the last before a crash, since what is remembered of the file, and the
//! claim's name, say how far it has come.

use super::folder::{Folder, Stamp, claim};
use cap_std::{ambient_authority, fs::Dir};
use std::{
    ffi::OsString,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Into a folder: one within, or an absolute path.
    Folder(PathBuf),
    Nowhere,
}

/// Keeps what runs on other threads from changing anything once it is dropped.
#[derive(Default)]
pub(super) struct Leash(Arc<Mutex<bool>>);

impl Drop for Leash {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl Leash {
    /// Does something on a thread that may block, unless it is dropped before that begins.
    pub(super) async fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let dropped = Arc::clone(&self.0);
        let acted = tokio::task::spawn_blocking(move || {
            // Held while it acts, so that whoever drops the leash waits for the step it is at.
            let dropped = dropped.lock().unwrap_or_else(PoisonError::into_inner);
            if *dropped { Err(io::Error::other("it was stopped")) } else { act() }
        });
        acted.await.map_err(io::Error::other)?
    }
}

/// Puts a file away. What is no longer as it was is left alone.
pub(super) fn put(folder: &Folder, path: &Path, stamp: Stamp, key: &str, place: &Place) -> io::Result<()> {
    let claimed = claim(path, key);
    // It is there when the platform ended in the middle of this.
    if folder.stamp(&claimed)?.is_none() {
        if folder.stamp(path)? != Some(stamp) {
            return Ok(());
        }
        match folder.dir.rename(path, &folder.dir, &claimed) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
    }
    if folder.stamp(&claimed)? != Some(stamp) {
        let back = if folder.stamp(path)?.is_none() { path.to_owned() } else { marked(path, key) };
        return folder.dir.rename(&claimed, &folder.dir, back);
    }
    let moved = match place {
        Place::Nowhere => folder.dir.remove_file(&claimed),
        Place::Folder(place) => shelve(folder, &claimed, path, key, place),
    };
    if moved.is_err() && folder.stamp(path)?.is_none() {
        // It is seen again by its own name.
        folder.dir.rename(&claimed, &folder.dir, path)?;
    }
    moved
}

fn shelve(folder: &Folder, claimed: &Path, path: &Path, key: &str, place: &Path) -> io::Result<()> {
    let opened;
    let (shelf, base) = if place.is_absolute() {
        opened = Dir::open_ambient_dir(place, ambient_authority())?;
        (&opened, PathBuf::new())
    } else {
        (&folder.dir, place.to_owned())
    };
    let mut target = base.join(path);
    if let Some(parent) = target.parent().filter(|parent| *parent != Path::new("")) {
        shelf.create_dir_all(parent)?;
    }
    // Nobody else puts anything there, so nothing comes between this and the rename.
    if shelf.symlink_metadata(&target).is_ok() {
        let stamp = folder.stamp(claimed)?.map(|stamp| hex::encode(&stamp.bytes()[8..]));
        target = marked(&target, &format!("{key}{}", stamp.unwrap_or_default()));
    }
    folder.dir.rename(claimed, shelf, target)
}

/// A path beside another that is taken: `a.csv` becomes `a.4f1d03c2.csv`.
pub(super) fn marked(path: &Path, of: &str) -> PathBuf {
    use sha2::Digest as _;
    let mark = hex::encode(&sha2::Sha256::digest(of)[..4]);
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(format!(".{mark}"));
    if let Some(ending) = path.extension() {
        name.push(".");
        name.push(ending);
    }
    path.with_file_name(name)
}
