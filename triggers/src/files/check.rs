//! What of a files trigger can't be, as far as it is known at deploy.

use super::{
    AllowedFolders,
    folder::{Folder, cannot},
};
use dunlin_events::manifest::{FilesTrigger, Problem, Then};
use rustix::fs::{Access, access};
use std::{os::unix::fs::MetadataExt as _, path::Path, time::Duration};

/// A network file system whose server is away answers after minutes, or never.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn check(trigger: &FilesTrigger, allowed: &AllowedFolders) -> Vec<Problem> {
    let path = trigger.place();
    if !Path::new(&path).is_absolute() {
        return vec![
            Problem::new("/path", format!("`{path}` is no absolute path"))
                .help("the platform doesn't know what it is relative to; `dunlin deploy` makes it absolute"),
        ];
    }
    let (trigger, allowed) = (trigger.clone(), allowed.clone());
    let found = tokio::task::spawn_blocking(move || found(&trigger, &allowed));
    match tokio::time::timeout(PATIENCE, found).await {
        Ok(found) => found.unwrap_or_default(),
        Err(_) => vec![
            Problem::new("/path", format!("the folder `{path}` doesn't answer"))
                .help("its file system hangs: is its server there?"),
        ],
    }
}

fn found(trigger: &FilesTrigger, allowed: &AllowedFolders) -> Vec<Problem> {
    let folder = match Folder::open(trigger, allowed) {
        Ok(folder) => folder,
        Err(error) => return vec![Problem { pointer: "/path".into(), message: error.message, help: error.help }],
    };
    if trigger.then == Then::Keep {
        return Vec::new();
    }
    let mut problems = Vec::new();
    if access(&folder.real, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let message = format!("files can't be taken away from `{}`", trigger.place());
        problems.push(
            Problem::new("/then", message).help("let the platform's user write to the folder, or write `then: keep`"),
        );
    }
    let done = (trigger.then == Then::Move).then_some(("/done", &trigger.done));
    for (at, place) in done.into_iter().chain([("/failed", &trigger.failed)]) {
        problems.extend(place_problem(&folder, at, place));
    }
    problems
}

/// A place that is there, or can be made, on the folder's own file system.
fn place_problem(folder: &Folder, at: &str, place: &str) -> Option<Problem> {
    let path = folder.real.join(place);
    let Ok(metadata) = std::fs::metadata(&path) else {
        // One within is made when it is needed.
        return Path::new(place).is_absolute().then(|| {
            let error = cannot(&path, &std::io::ErrorKind::NotFound.into());
            Problem { pointer: at.into(), message: error.message, help: error.help }
        });
    };
    if !metadata.is_dir() {
        return Some(Problem::new(at, format!("`{}` is no folder", path.display())).help("name another, or remove it"));
    }
    if access(&path, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        let message = format!("files can't be put into `{}`", path.display());
        return Some(Problem::new(at, message).help("let the platform's user write to it"));
    }
    let device = std::fs::metadata(&folder.real).map(|metadata| metadata.dev());
    device.is_ok_and(|device| device != metadata.dev()).then(|| {
        let message = format!("`{}` is on another file system than `{}`", path.display(), folder.real.display());
        Problem::new(at, message).help("a file can be moved within one only: name a folder there")
    })
}
