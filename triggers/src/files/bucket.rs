//! The bucket a trigger is for: what is in it below a prefix, and nothing beyond it.
//!
//! An object appears whole, and is told from what it was by its ETag, so there is nothing to wait for and nobody to be told
//! by: the bucket is listed, page by page, and compared with what is remembered. Its paths are keys without the prefix.

#[cfg(test)]
mod tests;

use super::{
    away::{self, Place},
    content::{Content, Read},
    folder::{Found, Stamp},
    inbox::Walked,
    memory::FileKey,
    s3::{self, Head, Remote, S3Error, Wire},
};
use bytes::Bytes;
use dunlin_events::{
    manifest::{FilesTrigger, Problem, Selection},
    secrets::Secrets,
    source::SourceError,
};
use futures_util::{StreamExt as _, stream};
use rusty_s3::actions::list_objects_v2::ListObjectsContent;
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashSet,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{runtime::Handle, sync::mpsc};

/// Objects that are read, or put away, at once: each is a request or a few, and most of the time is the way there.
pub(super) const AT_ONCE: usize = 8;
/// The largest object that S3 copies in one request.
const LARGEST_COPY: u64 = 5 << 30;
/// How often a read that broke off is taken up again where it was.
const ATTEMPTS: u32 = 5;
/// How long an object store may take to answer at deploy.
const PATIENCE: Duration = Duration::from_secs(10);
/// Objects whose going is noticed at the next look. Of more, a part is looked after at each.
const SEEN: usize = 65_536;

pub(super) struct Bucket {
    remote: Remote,
    name: String,
    uri: String,
    /// What its keys begin with: nothing, or what ends with a `/`.
    prefix: String,
    selection: Selection,
    /// Where objects are put: what is there has been seen.
    aside: Vec<String>,
}

/// What of a bucket can't be, as far as it is known at deploy.
pub(super) async fn check(trigger: &FilesTrigger, secrets: &dyn Secrets, wire: Wire) -> Vec<Problem> {
    for (at, secret) in [("/access_key", &trigger.access_key), ("/secret_key", &trigger.secret_key)] {
        if let Some(Err(error)) = secret.as_ref().map(|name| secrets.get(name)) {
            return vec![Problem::new(at, error.to_string())];
        }
    }
    let problem =
        |at: &str, error: SourceError| Problem { pointer: at.into(), message: error.message, help: error.help };
    let bucket = match Bucket::open(trigger, secrets, wire) {
        Ok(bucket) => bucket,
        Err(error) => return vec![problem("/endpoint", error)],
    };
    let listed = bucket.remote.list(&bucket.prefix, None, Some(1));
    let listed = tokio::time::timeout(PATIENCE, listed).await.unwrap_or(Err(S3Error::Late));
    let Err(error) = listed else { return Vec::new() };
    let (at, error) = bucket.remote.explain(&error);
    vec![problem(at, error)]
}

/// The bucket of a trigger and what its keys begin with, as a URI.
pub(super) fn uri(trigger: &FilesTrigger) -> String {
    let name = trigger.bucket.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("s3://{name}/{}", s3::encoded(&trigger.key_prefix()))
}

impl Bucket {
    pub(super) fn open(trigger: &FilesTrigger, secrets: &dyn Secrets, wire: Wire) -> Result<Self, SourceError> {
        let prefix = trigger.key_prefix();
        let aside = [&trigger.done, &trigger.failed].map(|place| format!("{}/", key_of(&prefix, place)));
        Ok(Self {
            remote: Remote::open(trigger, secrets, wire)?,
            name: trigger.bucket.as_ref().map(ToString::to_string).unwrap_or_default(),
            uri: uri(trigger),
            prefix,
            selection: trigger.selection(),
            aside: aside.into(),
        })
    }

    /// The bucket and what its keys begin with, as a URI.
    pub(super) fn uri(&self) -> &str {
        &self.uri
    }

    /// Which object it is, for those who know where the bucket is.
    pub(super) fn location(&self, path: &Path) -> String {
        format!("s3://{}/{}", self.name, self.key(path))
    }

    /// Where an object can be fetched for so long by whoever has the URL. It need not be there.
    pub(super) fn url(&self, path: &Path, expires: Duration) -> String {
        self.remote.url(&self.key(path), expires)
    }

    fn key(&self, path: &Path) -> String {
        format!("{}{}", self.prefix, path.to_string_lossy())
    }

    /// Lists the objects, a page at a time.
    pub(super) fn walk(self: Arc<Self>) -> mpsc::Receiver<Vec<Walked>> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut after = None;
            loop {
                let page = match self.remote.list(&self.prefix, after.as_deref(), None).await {
                    Ok(page) if page.next_continuation_token.is_some() && page.next_continuation_token == after => {
                        Err(S3Error::Strange("a listing goes on where it was".into()))
                    }
                    page => page,
                };
                let (steps, next) = match page {
                    Ok(page) => {
                        let steps = page.contents.into_iter().filter_map(|object| self.step(object)).collect();
                        (steps, page.next_continuation_token)
                    }
                    Err(error) => (vec![Walked::Failed(self.remote.explain(&error).1)], None),
                };
                if sender.send(steps).await.is_err() || next.is_none() {
                    return;
                }
                after = next;
            }
        });
        receiver
    }

    /// An object of a listing, if it is one of the trigger's.
    fn step(&self, object: ListObjectsContent) -> Option<Walked> {
        let path = object.key.strip_prefix(&self.prefix)?;
        // Some programs make an empty object of a folder.
        if path.is_empty() || path.ends_with('/') || self.aside.iter().any(|aside| object.key.starts_with(aside)) {
            return None;
        }
        let path = PathBuf::from(path);
        let mut folders = path.to_str()?.split('/').rev().skip(1);
        if folders.any(|folder| folder.starts_with('.') && !matches!(folder, "." | "..")) || !self.selection.has(&path)
        {
            return None;
        }
        if object.key.split('/').any(|part| matches!(part, "." | "..")) {
            let error = io::Error::new(ErrorKind::InvalidInput, "a key with `.` or `..` in it has no URL");
            return Some(Walked::Unreadable(path, error));
        }
        let etag = s3::unquoted(object.etag.as_deref().unwrap_or_default());
        let modified = object.last_modified.as_deref().and_then(|time| time.parse::<jiff::Timestamp>().ok());
        let modified = modified.unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let modified = (modified.as_second(), modified.subsec_nanosecond().unsigned_abs());
        let stamp = Stamp { size: object.size.unwrap_or_default(), modified, identity: digest(etag) };
        Some(Walked::File(Found { path, stamp, changed: modified, etag: Some(etag.into()) }))
    }

    /// Reads objects, several at once, in their order.
    pub(super) fn read_all(self: Arc<Self>, files: Vec<Found>, inline: u64) -> mpsc::Receiver<(Found, Read)> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let reads = stream::iter(files).map(|file| async {
                let read = self.read(&file, inline).await;
                (file, read)
            });
            let mut reads = pin!(reads.buffered(AT_ONCE));
            while let Some(read) = reads.next().await {
                if sender.send(read).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }

    /// Reads an object that is small. Of others all is known that an event tells.
    async fn read(&self, file: &Found, inline: u64) -> Read {
        if file.stamp.size > inline {
            return Read::Whole(Content { sha256: None, data: None });
        }
        match self.fetch(file).await {
            Ok(data) if data.len() as u64 == file.stamp.size => {
                Read::Whole(Content { sha256: Some(Sha256::digest(&data).into()), data: Some(data) })
            }
            Ok(_) | Err(S3Error::Changed) => Read::Changed,
            Err(S3Error::Gone) => Read::Gone,
            // One that is archived, or not for us; it holds up no other.
            Err(error @ S3Error::Refused { .. }) => Read::Failed(io::Error::other(error)),
            Err(error) => Read::Lost(self.remote.explain(&error).1),
        }
    }

    async fn fetch(&self, file: &Found) -> Result<Vec<u8>, S3Error> {
        let mut content = self.remote.get(&self.key(&file.path), file.tag(), 0).await?;
        let mut data = Vec::new();
        while let Some(piece) = content.next().await? {
            data.extend_from_slice(&piece);
            if data.len() as u64 > file.stamp.size {
                break;
            }
        }
        Ok(data)
    }

    /// Opens an object for reading on a thread that may block, if it is still as it was found.
    pub(super) fn open_object(self: Arc<Self>, file: &Found, runtime: Handle) -> io::Result<Option<Object>> {
        let head = runtime.block_on(self.remote.head(&self.key(&file.path))).map_err(io::Error::other)?;
        let head = head.ok_or(ErrorKind::NotFound)?;
        Ok(is(&head, file.stamp).then(|| Object::new(self, file.clone(), runtime)))
    }

    /// Puts an object away. What is no longer as it was is left alone.
    pub(super) async fn put(&self, path: &Path, stamp: Stamp, mark: &str, place: &Place) -> io::Result<()> {
        match self.put_away(path, stamp, mark, place).await {
            // It was replaced in this moment, and that one has an event of its own.
            Ok(()) | Err(S3Error::Changed) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    async fn put_away(&self, path: &Path, stamp: Stamp, mark: &str, place: &Place) -> Result<(), S3Error> {
        let key = self.key(path);
        let Some(now) = self.remote.head(&key).await?.filter(|now| is(now, stamp)) else { return Ok(()) };
        if let Place::Folder(folder) = place {
            if now.size > LARGEST_COPY {
                let reason = "it has more than 5GiB, which S3 doesn't move: move it yourself, or write `then: keep`";
                return Err(S3Error::Unfit(reason));
            }
            let folder = key_of(&self.prefix, &folder.to_string_lossy());
            let mut target = format!("{folder}/{}", path.to_string_lossy());
            // One with the same content is this one's copy, from before a crash, or as good as it.
            let same = |other: &Head| (other.size, &other.etag) == (now.size, &now.etag);
            if self.remote.head(&target).await?.is_some_and(|other| !same(&other)) {
                let mark = format!("{mark}{}", hex::encode(&stamp.bytes()[8..]));
                target = away::marked(Path::new(&target), &mark).to_string_lossy().into_owned();
            }
            self.remote.copy(&key, &now.etag, &target).await?;
        }
        self.remote.delete(&key, &now.etag).await
    }

    /// Opens an object, if it still is what its event says.
    pub(super) async fn open_as(self: Arc<Self>, path: &Path, etag: &str, size: u64) -> Result<Object, S3Error> {
        let head = self.remote.head(&self.key(path)).await?.ok_or(S3Error::Gone)?;
        if (head.size, &*head.etag) != (size, etag) {
            return Err(S3Error::Changed);
        }
        let stamp = Stamp { size, modified: (head.modified, 0), identity: digest(etag) };
        let file = Found { path: path.to_owned(), stamp, changed: stamp.modified, etag: Some(etag.into()) };
        Ok(Object::new(self, file, Handle::current()))
    }
}

/// An object that is read, piece by piece or like a file. What breaks off goes on where it was.
pub(super) struct Object {
    bucket: Arc<Bucket>,
    runtime: Handle,
    file: Found,
    at: u64,
    content: Option<s3::Content>,
    /// What was received and not read yet.
    piece: Bytes,
}

impl Object {
    fn new(bucket: Arc<Bucket>, file: Found, runtime: Handle) -> Self {
        Self { bucket, runtime, file, at: 0, content: None, piece: Bytes::new() }
    }

    /// The next piece. `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        let left = self.file.stamp.size - self.at;
        if left == 0 {
            return Ok(None);
        }
        let mut piece = self.receive_at_last().await?;
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        self.at += piece.len() as u64;
        Ok(Some(piece))
    }

    async fn receive(&mut self) -> Result<Bytes, S3Error> {
        let mut content = match self.content.take() {
            Some(content) => content,
            None => {
                let key = self.bucket.key(&self.file.path);
                self.bucket.remote.get(&key, self.file.tag(), self.at).await?
            }
        };
        let piece = content.next().await?.ok_or_else(|| S3Error::Broken("it is shorter than it was".into()))?;
        self.content = Some(content);
        Ok(piece)
    }

    async fn receive_at_last(&mut self) -> Result<Bytes, S3Error> {
        let mut pause = Duration::from_millis(100);
        for _ in 1..ATTEMPTS {
            match self.receive().await {
                Err(S3Error::Unreachable(_) | S3Error::Cut(_) | S3Error::Late | S3Error::Broken(_)) => {}
                received => return received,
            }
            tokio::time::sleep(pause).await;
            pause *= 3;
        }
        self.receive().await
    }
}

impl io::Read for Object {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.file.stamp.size {
            return Ok(0);
        }
        if self.piece.is_empty() {
            let runtime = self.runtime.clone();
            self.piece = runtime.block_on(self.receive_at_last()).map_err(|error| match error {
                S3Error::Gone => ErrorKind::NotFound.into(),
                error => io::Error::other(error),
            })?;
        }
        let read = self.piece.split_to(self.piece.len().min(buffer.len()));
        buffer[..read.len()].copy_from_slice(&read);
        self.at += read.len() as u64;
        Ok(read.len())
    }
}

impl io::Seek for Object {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let io::SeekFrom::Start(at) = to else { return Err(ErrorKind::Unsupported.into()) };
        if at != self.at {
            (self.content, self.piece) = (None, Bytes::new());
        }
        self.at = at;
        Ok(at)
    }
}

/// The objects a look came by, as far as it looks after them: what is remembered of others of these has gone.
///
/// It is no more than a part of the bucket, a different one at each look, so that it has the same size for any bucket. What
/// is remembered too long does no harm: an object that comes back is another.
#[derive(Default)]
pub(super) struct Seen {
    names: HashSet<FileKey>,
    /// Into how many parts the bucket falls, and which of them this look is for.
    parts: u64,
    part: u64,
    /// All it came by.
    objects: usize,
}

impl Seen {
    /// Another look begins.
    pub(super) fn begin(&mut self) {
        self.parts = (self.objects / SEEN + 1) as u64;
        self.part = (self.part + 1) % self.parts;
        self.objects = 0;
        self.names.clear();
    }

    pub(super) fn add(&mut self, name: &str) {
        self.objects += 1;
        if let Some(key) = self.mine(name) {
            self.names.insert(key);
        }
        if self.names.len() > SEEN {
            self.parts *= 2;
            let (parts, part) = (self.parts, self.part);
            self.names.retain(|key| is_in(key, parts, part));
        }
    }

    /// Whether an object that is remembered has gone.
    pub(super) fn misses(&self, name: &str) -> bool {
        self.mine(name).is_some_and(|key| !self.names.contains(&key))
    }

    fn mine(&self, name: &str) -> Option<FileKey> {
        let mut key = FileKey::default();
        hex::decode_to_slice(name, &mut key).ok()?;
        is_in(&key, self.parts, self.part).then_some(key)
    }
}

fn is_in(key: &FileKey, parts: u64, part: u64) -> bool {
    u64::from_le_bytes(key[..8].try_into().expect("8 of 16 bytes")) % parts.max(1) == part
}

/// The key of a place below a prefix, or of one that begins with `/` below nothing.
fn key_of(prefix: &str, place: &str) -> String {
    match place.strip_prefix('/') {
        Some(place) => place.to_owned(),
        None => format!("{prefix}{place}"),
    }
}

/// Whether an object is as it was listed. Listings tell its time more exactly than answers about one object do, and who
/// knows which way these are rounded.
fn is(head: &Head, stamp: Stamp) -> bool {
    (head.size, digest(&head.etag)) == (stamp.size, stamp.identity) && head.modified.abs_diff(stamp.modified.0) <= 1
}

fn digest(etag: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(etag).into();
    u64::from_le_bytes(digest[..8].try_into().expect("8 of 32 bytes"))
}
