//! What a function is handed with the event of a file that is too large for one: where it can fetch an object now, or the
//! content itself, as it is read.

use super::{
    AllowedFolders,
    bucket::{self, Bucket, Object},
    event::FILE,
    folder::{Folder, Found, Look},
    name,
    s3::{S3Error, Wire},
};
use bytes::{Bytes, BytesMut};
use dunlin_events::{
    Body, BoxFuture, Event, Failure, Manifest,
    manifest::{Content, FilesTrigger, Trigger},
    secrets::Secrets,
    source::{ContentError, Contents},
};
use futures_util::{Stream, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use std::{
    io::{self, Read as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;

/// What is read at once.
const BLOCK: usize = 256 << 10;
/// How long a URL lasts, beyond what the function may run: it may be handed on.
const SPARE: Duration = Duration::from_secs(3600);
/// The longest that S3 lets one last.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// The files triggers of one function whose events are more than the topic has of them.
pub(crate) struct Handed {
    triggers: Vec<FilesTrigger>,
    /// How long a URL lasts.
    lasts: Duration,
    allowed: AllowedFolders,
    secrets: Arc<dyn Secrets>,
    wire: Wire,
}

impl Handed {
    /// `None` where it has no such trigger.
    pub(crate) fn of(
        manifest: &Manifest,
        allowed: &AllowedFolders,
        secrets: &Arc<dyn Secrets>,
        wire: &Wire,
    ) -> Option<Self> {
        let files = manifest.triggers.iter().filter_map(|trigger| match trigger {
            Trigger::Files(files) if files.bucket.is_some() || files.content == Content::Stream => {
                Some((**files).clone())
            }
            _ => None,
        });
        let triggers: Vec<_> = files.collect();
        (!triggers.is_empty()).then(|| Self {
            triggers,
            lasts: (manifest.limits.time + SPARE).min(LONGEST),
            allowed: allowed.clone(),
            secrets: Arc::clone(secrets),
            wire: wire.clone(),
        })
    }

    /// The bucket of the trigger that made this event, and of the event's own object what the event says.
    fn bucket(&self, trigger: &FilesTrigger, event: &Event) -> Option<Result<Bucket, ContentError>> {
        if trigger.bucket.is_none() || bucket::uri(trigger) != event.source() {
            return None;
        }
        let unavailable = |error: dunlin_events::source::SourceError| ContentError::Unavailable(error.to_string());
        Some(Bucket::open(trigger, &*self.secrets, self.wire.clone()).map_err(unavailable))
    }
}

impl Contents for Handed {
    fn addressed(&self, event: &Event) -> Option<Event> {
        if event.kind() != FILE {
            return None;
        }
        let bucket = self.triggers.iter().find_map(|trigger| self.bucket(trigger, event))?.ok()?;
        let mut event = event.clone();
        let url = bucket.url(&path(&event), self.lasts);
        event.set_extension("filelocation", url).ok()?;
        Some(event)
    }

    fn open<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, Result<Option<(u64, Body)>, ContentError>> {
        Box::pin(async move {
            if event.kind() != FILE || event.data().is_some() {
                return Ok(None);
            }
            for trigger in self.triggers.iter().filter(|trigger| trigger.content == Content::Stream) {
                if let Some(bucket) = self.bucket(trigger, event) {
                    return open_object(Arc::new(bucket?), event).await.map(Some);
                }
                if trigger.bucket.is_none()
                    && let Some(opened) = self.open_file(trigger, event).await?
                {
                    return Ok(Some(opened));
                }
            }
            Ok(None)
        })
    }
}

impl Handed {
    /// Opens the file of an event. `None` where it is not this trigger's.
    async fn open_file(&self, trigger: &FilesTrigger, event: &Event) -> Result<Option<(u64, Body)>, ContentError> {
        let (trigger, allowed, event) = (trigger.clone(), self.allowed.clone(), event.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let folder =
                Folder::open(&trigger, &allowed).map_err(|error| ContentError::Unavailable(error.to_string()))?;
            if name::uri(&folder.real) != event.source() {
                return Ok(None);
            }
            let subject = event.subject().unwrap_or_default();
            let failed = |error: io::Error| ContentError::Unavailable(format!("`{subject}` can't be read: {error}"));
            let lost = |what: &str| ContentError::Lost(format!("the file `{subject}` {what}"));
            let file = match folder.look(&path(&event)).map_err(failed)? {
                Look::File(file) if is(&file, &event) => file,
                Look::File(_) => return Err(lost("is another by now, which has an event of its own")),
                Look::Folder | Look::Other | Look::Nothing => return Err(lost("isn't there any more")),
            };
            match folder.read(&file) {
                Ok(Some(opened)) => Ok(Some((opened, file))),
                Ok(None) => Err(lost("is another by now, which has an event of its own")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(lost("isn't there any more")),
                Err(error) => Err(failed(error)),
            }
        });
        let opened = opened.await.map_err(|error| ContentError::Unavailable(format!("a thread ended: {error}")))?;
        Ok(opened?.map(|(opened, file)| (file.stamp.size, body(read(opened, file)))))
    }
}

/// Whether a file is still the one that its event is about.
fn is(file: &Found, event: &Event) -> bool {
    let time = humantime::format_rfc3339_nanos(file.stamp.modified()).to_string();
    event.time() == Some(&*time) && size(event) == Some(file.stamp.size)
}

fn path(event: &Event) -> PathBuf {
    name::read(event.subject().unwrap_or_default())
}

fn size(event: &Event) -> Option<u64> {
    event.attribute("filesize")?.parse().ok()
}

/// Reads a file piece by piece on a thread that may block, no faster than the pieces are taken.
fn read(mut opened: cap_std::fs::File, file: Found) -> impl Stream<Item = Result<Bytes, Failure>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let broken = |what: &dyn std::fmt::Display| Failure::RequestBody(format!("`{}`: {what}", file.name()));
        let mut left = file.stamp.size;
        while left > 0 {
            let mut block = BytesMut::zeroed(BLOCK.min(usize::try_from(left).unwrap_or(BLOCK)));
            let piece = match opened.read(&mut block) {
                Ok(0) => Err(broken(&"it is shorter than it was")),
                Ok(read) => {
                    left -= read as u64;
                    block.truncate(read);
                    Ok(block.freeze())
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(broken(&error)),
            };
            // The last piece makes it whole, so it goes out only when all of it is known to be of one file.
            let piece = match piece {
                Ok(_) if left == 0 && !super::folder::is_still(&opened, &file).unwrap_or(false) => {
                    Err(broken(&"it was written to meanwhile"))
                }
                piece => piece,
            };
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                return;
            }
        }
    });
    stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|piece| (piece, receiver)) })
}

async fn open_object(bucket: Arc<Bucket>, event: &Event) -> Result<(u64, Body), ContentError> {
    let etag = event.attribute("fileetag").unwrap_or_default().to_string();
    let subject = event.subject().unwrap_or_default().to_owned();
    let size = size(event).unwrap_or_default();
    let object = match bucket.open_as(&path(event), &etag, size).await {
        Ok(object) => object,
        Err(S3Error::Gone) => return Err(ContentError::Lost(format!("the object `{subject}` isn't there any more"))),
        Err(S3Error::Changed) => {
            return Err(ContentError::Lost(format!(
                "the object `{subject}` is another by now, which has an event of its own"
            )));
        }
        Err(error) => return Err(ContentError::Unavailable(format!("`{subject}` can't be read: {error}"))),
    };
    let pieces = stream::unfold(Some(object), move |object: Option<Object>| {
        let subject = subject.clone();
        async move {
            let mut object = object?;
            match object.next().await {
                Ok(piece) => piece.map(|piece| (Ok(piece), Some(object))),
                Err(error) => Some((Err(Failure::RequestBody(format!("`{subject}`: {error}"))), None)),
            }
        }
    });
    Ok((size, body(pieces)))
}

fn body(pieces: impl Stream<Item = Result<Bytes, Failure>> + Send + 'static) -> Body {
    use futures_util::StreamExt as _;
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}
