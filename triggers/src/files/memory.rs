//! What is remembered of the files that were seen, in the platform's own store.
//!
//! An entry for each file in the folder, under a key made of its path, is all there is: a file whose entry has its stamp
//! was seen. Nothing of it is kept in memory, so a folder may hold any number of files. Entries are of the same transaction
//! as the events they tell of.

use super::{
    folder::{Found, Stamp},
    name,
};
use bytes::Bytes;
use dunlin_events::{
    manifest::FilesTrigger,
    source::{Intake, SourceError},
    topics::Offset,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::{Path, PathBuf};

/// The keys of one trigger's files.
pub(super) struct Keys {
    prefix: String,
}

/// What tells a file's key from others of the trigger.
pub(super) type FileKey = [u8; 16];

/// What is remembered of a file. Persisted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    path: String,
    pub(super) stamp: Stamp,
    pub(super) state: State,
}

/// How far a file has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// There is nothing more to do about it: it is kept where it is, was there before the trigger, or can't be an event.
    Seen,
    /// Some of its records are events.
    Reading(Progress),
    /// All of it is events. It is put away once these are settled, unless files are kept.
    Taken(Progress),
}

/// The events of a file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// What their ids begin with.
    pub(super) id: String,
    /// Where they are, where that matters: the first offset of each piece, and the one behind its last.
    ///
    /// They are known once the events are taken, so they are remembered with what is taken next. What a crash leaves
    /// without them is taken again, by its id, which adds nothing and tells them.
    #[serde(default)]
    pub(super) offsets: Vec<(Offset, Offset)>,
    /// Of records: where the next begins, in bytes.
    #[serde(default)]
    pub(super) at: u64,
    /// Of records: how many there were.
    #[serde(default)]
    pub(super) records: u64,
    /// Records that could not be events.
    #[serde(default)]
    pub(super) lost: u64,
    /// Of records: a digest of the bytes before `at`, which tells whether a file that was changed was only added to.
    #[serde(default)]
    pub(super) tail: u64,
}

impl Progress {
    /// An event is at this offset.
    pub(super) fn add(&mut self, offset: Offset) {
        match self.offsets.last_mut() {
            Some((_, end)) if *end == offset => *end += 1,
            _ => self.offsets.push((offset, offset + 1)),
        }
    }
}

impl Entry {
    pub(super) fn new(file: &Found, state: State) -> Self {
        Self { path: name::written(&file.path), stamp: file.stamp, state }
    }

    pub(super) fn path(&self) -> PathBuf {
        name::read(&self.path)
    }

    /// The offset of the first of its events.
    pub(super) fn first(&self) -> Option<Offset> {
        match &self.state {
            State::Seen => None,
            State::Reading(progress) | State::Taken(progress) => progress.offsets.first().map(|(first, _)| *first),
        }
    }

    pub(super) fn bytes(&self) -> Bytes {
        serde_json::to_vec(self).expect("an entry can be written").into()
    }
}

impl Keys {
    pub(super) fn new(trigger: &FilesTrigger, intake: &dyn Intake) -> Self {
        let mut digest = Sha256::new().chain_update(trigger.place());
        if trigger.bucket.is_some() {
            // Buckets of one name may be in several places.
            digest = digest.chain_update([0]).chain_update(trigger.endpoint());
        }
        let digest = digest.chain_update([0]).chain_update(intake.topic().as_str());
        Self { prefix: format!("files/{}", hex::encode(&digest.finalize()[..8])) }
    }

    /// Says that the trigger has begun.
    pub(super) fn begun(&self) -> String {
        self.prefix.clone()
    }

    pub(super) fn of(&self, path: &Path) -> String {
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        self.named(&hex::encode(&digest[..16]))
    }

    /// The key with this name.
    pub(super) fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// What of a key tells it from the trigger's others.
    pub(super) fn name<'a>(&self, key: &'a str) -> &'a str {
        key.rsplit('/').next().unwrap_or(key)
    }

    /// The entries of these keys.
    pub(super) async fn recall(
        &self,
        intake: &dyn Intake,
        keys: Vec<String>,
    ) -> Result<Vec<Option<Entry>>, SourceError> {
        let found = intake.recall(keys).await?;
        // What can't be read is of another version of the platform, and as good as not there.
        Ok(found.into_iter().map(|bytes| serde_json::from_slice(&bytes?).ok()).collect())
    }

    /// The next entries behind a key, in the order of their keys.
    pub(super) async fn page(
        &self,
        intake: &dyn Intake,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Option<Entry>)>, SourceError> {
        let keys = intake.keys(&format!("{}/", self.prefix), after, limit).await?;
        let entries = self.recall(intake, keys.clone()).await?;
        Ok(keys.into_iter().zip(entries).collect())
    }
}
