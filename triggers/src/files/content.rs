//! Reading whole files: their SHA-256, and their content where it is small. Of any size in constant memory, on a thread
//! that may block, and no further once nobody waits for it.

use super::folder::{Folder, Found, is_still};
use dunlin_events::source::SourceError;
use sha2::{Digest as _, Sha256};
use std::{
    io::{self, ErrorKind, Read as _},
    sync::Arc,
};
use tokio::sync::mpsc;

/// What is read at once.
const BLOCK: usize = 256 << 10;

/// A file, read to its end.
pub(super) struct Content {
    /// `None` of an object that wasn't read.
    pub(super) sha256: Option<[u8; 32]>,
    /// All of it, where it isn't larger than asked for.
    pub(super) data: Option<Vec<u8>>,
}

/// What reading a file came to.
pub(super) enum Read {
    Whole(Content),
    /// It was written to meanwhile, or is another by now.
    Changed,
    Gone,
    Failed(io::Error),
    /// No file can be read now.
    Lost(SourceError),
}

/// Reads files one after another.
pub(super) fn read_all(folder: Arc<Folder>, files: Vec<Found>, inline: u64) -> mpsc::Receiver<(Found, Read)> {
    let (sender, receiver) = mpsc::channel(16);
    tokio::task::spawn_blocking(move || {
        let mut block = vec![0; BLOCK];
        for file in files {
            let read = match read(&folder, &file, inline, &mut block, &sender) {
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::NotFound => Read::Gone,
                Err(error) => Read::Failed(error),
            };
            if sender.blocking_send((file, read)).is_err() {
                return;
            }
        }
    });
    receiver
}

fn read(
    folder: &Folder,
    file: &Found,
    inline: u64,
    block: &mut [u8],
    sender: &mpsc::Sender<(Found, Read)>,
) -> io::Result<Read> {
    let Some(mut opened) = folder.read(file)? else { return Ok(Read::Changed) };
    let mut hash = Sha256::new();
    let mut data = (file.stamp.size <= inline).then(Vec::new);
    let mut size = 0;
    while !sender.is_closed() {
        let read = match opened.read(block) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        size += read as u64;
        if size > file.stamp.size {
            return Ok(Read::Changed);
        }
        hash.update(&block[..read]);
        if let Some(data) = &mut data {
            data.extend_from_slice(&block[..read]);
        }
    }
    if size != file.stamp.size || !is_still(&opened, file)? {
        return Ok(Read::Changed);
    }
    Ok(Read::Whole(Content { sha256: Some(hash.finalize().into()), data }))
}
