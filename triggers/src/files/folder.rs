//! The folder a trigger is for: what is in it, and nothing beyond it.
//!
//! It is opened once, and every path is looked up from there by a library that follows no link out of it. A symbolic link
//! is no file: what it stands for is either in the folder itself, or none of the function's business.

use super::AllowedFolders;
use super::name;
use cap_std::{
    ambient_authority,
    fs::{Dir, File, Metadata, MetadataExt as _, OpenOptions, OpenOptionsExt as _},
};
use dunlin_events::{
    manifest::{FilesTrigger, Selection},
    source::SourceError,
};
use serde::{Deserialize, Serialize};
use std::{
    io::{self, ErrorKind},
    ops::ControlFlow,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How the name of a file begins that is on its way to where it is put.
const CLAIM: &str = ".dunlin-";

/// An opened folder.
pub(super) struct Folder {
    /// As the manifest has it.
    path: PathBuf,
    /// Without links, as what the system tells about it has it.
    pub(super) real: PathBuf,
    pub(super) dir: Dir,
    selection: Selection,
    recursive: bool,
    /// Where files are put, within the folder: what is there has been seen.
    aside: Vec<PathBuf>,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// When its content changed: seconds since the Unix epoch, and nanoseconds.
    pub(super) modified: (i64, u32),
    /// The inode of a file; of an object, a digest of its ETag. Its name is persisted.
    #[serde(rename = "inode")]
    pub(super) identity: u64,
}

/// A file, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// In the folder.
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    /// When anything of it changed, its name included. A file that was moved away and back differs from itself only here;
    /// but so does one whose permissions changed, so this alone makes no file a new one.
    pub(super) changed: (i64, u32),
    /// Of an object: what tells its content from any other.
    pub(super) etag: Option<Arc<str>>,
}

/// What is at a path.
pub(super) enum Look {
    File(Found),
    Folder,
    /// Neither: a link, a pipe, or a file that isn't meant.
    Other,
    Nothing,
}

/// What a walk comes by.
pub(super) enum Step {
    /// It is read next.
    Folder(PathBuf),
    File(Found),
    /// A folder within that can't be read, or a file that can't be looked at.
    Unreadable(PathBuf, io::Error),
}

impl Folder {
    pub(super) fn open(trigger: &FilesTrigger, allowed: &AllowedFolders) -> Result<Self, SourceError> {
        let path = PathBuf::from(trigger.place());
        let failed = |error: io::Error| cannot(&path, &error);
        let real = path.canonicalize().map_err(failed)?;
        allowed.check(&real)?;
        for place in [&trigger.done, &trigger.failed].into_iter().map(Path::new).filter(|place| place.is_absolute()) {
            allowed.check(&place.canonicalize().unwrap_or_else(|_| place.to_owned()))?;
        }
        let dir = Dir::open_ambient_dir(&real, ambient_authority()).map_err(failed)?;
        // That it can be opened says nothing of reading it.
        dir.entries().map_err(failed)?;
        let aside = [&trigger.done, &trigger.failed]
            .into_iter()
            .filter_map(|place| real.join(place).strip_prefix(&real).map(Path::to_owned).ok())
            .collect();
        Ok(Self { path, real, dir, selection: trigger.selection(), recursive: trigger.recursive, aside })
    }

    /// Whether the folder is still the one that was opened.
    pub(super) fn is_there(&self) -> Result<(), SourceError> {
        use std::os::unix::fs::MetadataExt as _;
        let now = std::fs::metadata(&self.path).map_err(|error| cannot(&self.path, &error))?;
        let opened = self.dir.dir_metadata().map_err(|error| cannot(&self.path, &error))?;
        if (now.dev(), now.ino()) == (opened.dev(), opened.ino()) {
            Ok(())
        } else {
            Err(SourceError::new(format!("`{}` is another folder than it was", self.path.display())))
        }
    }

    /// Whether a file at this path would be one of the trigger's.
    fn wants(&self, path: &Path) -> bool {
        let Some(parent) = path.parent() else { return false };
        self.enters(parent) && !is_claim(path) && self.selection.has(path)
    }

    /// Whether files of a folder within are the trigger's.
    fn enters(&self, folder: &Path) -> bool {
        let hidden = |part: Component<'_>| part.as_os_str().as_encoded_bytes().starts_with(b".");
        folder == Path::new("")
            || (self.recursive
                && !folder.components().any(hidden)
                && !self.aside.iter().any(|aside| folder.starts_with(aside)))
    }

    /// Looks at a path within.
    pub(super) fn look(&self, path: &Path) -> io::Result<Look> {
        match self.dir.symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(if self.enters(path) { Look::Folder } else { Look::Other }),
            Ok(metadata) if metadata.is_file() && self.wants(path) => Ok(Look::File(found(path.to_owned(), &metadata))),
            Ok(_) => Ok(Look::Other),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Look::Nothing),
            Err(error) => Err(error),
        }
    }

    /// The stamp of what is at a path, whatever it is. `None` where nothing is.
    pub(super) fn stamp(&self, path: &Path) -> io::Result<Option<Stamp>> {
        match self.dir.symlink_metadata(path) {
            Ok(metadata) => Ok(Some(found(PathBuf::new(), &metadata).stamp)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Goes through a folder within (`""` for all), until it is told to stop.
    pub(super) fn walk(&self, from: &Path, mut each: impl FnMut(Step) -> ControlFlow<()>) -> ControlFlow<()> {
        let mut folders = vec![from.to_owned()];
        while let Some(folder) = folders.pop() {
            each(Step::Folder(folder.clone()))?;
            let read = if folder == Path::new("") { self.dir.entries() } else { self.dir.read_dir(&folder) };
            let entries = match read {
                Ok(entries) => entries,
                // It was there a moment ago.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    each(Step::Unreadable(folder, error))?;
                    continue;
                }
            };
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(error) => {
                        each(Step::Unreadable(folder.clone(), error))?;
                        break;
                    }
                };
                let path = folder.join(entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && self.enters(&path) => folders.push(path),
                    Ok(kind) if kind.is_file() && self.wants(&path) => match entry.metadata() {
                        Ok(metadata) if metadata.is_file() => each(Step::File(found(path, &metadata)))?,
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::NotFound => {}
                        Err(error) => each(Step::Unreadable(path, error))?,
                    },
                    _ => {}
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Opens a file for reading, if it is still as it was found.
    pub(super) fn read(&self, file: &Found) -> io::Result<Option<File>> {
        let mut options = OpenOptions::new();
        // A pipe that has taken the file's place would be waited for.
        options.read(true).custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default());
        let opened = self.dir.open_with(&file.path, &options)?;
        Ok(is_still(&opened, file)?.then_some(opened))
    }
}

/// Whether an opened file is as it was found.
pub(super) fn is_still(opened: &File, file: &Found) -> io::Result<bool> {
    let metadata = opened.metadata()?;
    Ok(metadata.is_file() && found(PathBuf::new(), &metadata).stamp == file.stamp)
}

/// What a file is called on its way to where it is put.
pub(super) fn claim(path: &Path, key: &str) -> PathBuf {
    path.with_file_name(format!("{CLAIM}{key}"))
}

fn is_claim(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(CLAIM.as_bytes()))
}

fn found(path: PathBuf, metadata: &Metadata) -> Found {
    let nanoseconds = |nanoseconds: i64| u32::try_from(nanoseconds).unwrap_or_default();
    Found {
        path,
        stamp: Stamp {
            size: metadata.len(),
            modified: (metadata.mtime(), nanoseconds(metadata.mtime_nsec())),
            identity: metadata.ino(),
        },
        changed: (metadata.ctime(), nanoseconds(metadata.ctime_nsec())),
        etag: None,
    }
}

impl Stamp {
    /// The bytes of what it is made of.
    pub(super) fn bytes(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.modified.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.modified.1.to_le_bytes());
        bytes[20..].copy_from_slice(&self.identity.to_le_bytes());
        bytes
    }

    pub(super) fn modified(&self) -> SystemTime {
        time(self.modified)
    }
}

impl Found {
    /// What an object's ETag says of its content. Of a file, nothing does without reading it.
    pub(super) fn tag(&self) -> &str {
        self.etag.as_deref().unwrap_or_default()
    }

    /// Its name for people.
    pub(super) fn name(&self) -> String {
        name::written(&self.path)
    }

    /// Whether nothing of it has changed for so long, by the clock of this machine.
    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        SystemTime::now().duration_since(time(self.changed)).is_ok_and(|old| old >= age)
    }
}

fn time((seconds, nanoseconds): (i64, u32)) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let second =
        if seconds < 0 { SystemTime::UNIX_EPOCH.checked_sub(whole) } else { SystemTime::UNIX_EPOCH.checked_add(whole) };
    second.unwrap_or(SystemTime::UNIX_EPOCH) + Duration::from_nanos(nanoseconds.into())
}

/// Why a folder can't be used, with what to do about it.
pub(super) fn cannot(path: &Path, error: &io::Error) -> SourceError {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => SourceError::new(format!("the folder `{path}` isn't there"))
            .help(format!("make it on the platform's machine: `mkdir -p {path}`")),
        ErrorKind::NotADirectory => SourceError::new(format!("`{path}` is no folder")).help("name the folder it is in"),
        ErrorKind::PermissionDenied => SourceError::new(format!("the folder `{path}` can't be read: {error}"))
            .help("let the platform's user read and enter it"),
        _ => SourceError::new(format!("the folder `{path}` can't be read: {error}")),
    }
}
