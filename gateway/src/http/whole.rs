//! Bodies that are read whole before anything is done with them.
//!
//! Nobody may know yet who sends them, so all of them together have a bound. What counts is what has arrived, not what was
//! announced: announcing costs a caller nothing.

use bytes::{Bytes, BytesMut};
use dunlin_events::Failure;
use http_body::Body;
use http_body_util::BodyExt as _;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Memory for all bodies that are being read and handled.
const MOST: usize = 256 << 20;

/// The memory that is taken.
#[derive(Default)]
pub(super) struct Room(AtomicUsize);

/// What one body takes, until this is dropped.
pub(super) struct Held {
    room: Arc<Room>,
    bytes: usize,
}

impl Held {
    /// Takes more, if there is more.
    fn grow(&mut self, bytes: usize) -> bool {
        if self.room.0.fetch_add(bytes, Relaxed) + bytes > MOST {
            self.room.0.fetch_sub(bytes, Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Relaxed);
    }
}

/// Why a request has no body to handle.
pub(super) enum Unread {
    TooLarge,
    /// Too many others are being read.
    NoRoom,
    Broken(Failure),
}

/// Reads a body of at most so many bytes.
pub(super) async fn read<B>(mut body: B, limit: u64, room: &Arc<Room>) -> Result<(Bytes, Held), Unread>
where
    B: Body<Data = Bytes, Error = Failure> + Unpin,
{
    if body.size_hint().lower() > limit {
        return Err(Unread::TooLarge);
    }
    let mut held = Held { room: Arc::clone(room), bytes: 0 };
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Unread::Broken)?;
        if let Ok(data) = frame.into_data() {
            if (bytes.len() + data.len()) as u64 > limit {
                return Err(Unread::TooLarge);
            }
            if !held.grow(data.len()) {
                return Err(Unread::NoRoom);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok((bytes.freeze(), held))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    fn of(bytes: usize) -> impl Body<Data = Bytes, Error = Failure> + Unpin {
        Full::new(Bytes::from(vec![b'x'; bytes])).map_err(|never| match never {})
    }

    #[tokio::test]
    async fn room_is_given_back_and_has_an_end() {
        let room = Arc::<Room>::default();
        let taken = read(of(1000), 1000, &room).await.ok().unwrap();
        assert_eq!((taken.0.len(), room.0.load(Relaxed)), (1000, 1000));
        assert!(matches!(read(of(1001), 1000, &room).await, Err(Unread::TooLarge)));
        room.0.fetch_add(MOST - 1500, Relaxed);
        assert!(matches!(read(of(501), 1000, &room).await, Err(Unread::NoRoom)));
        assert!(read(of(500), 1000, &room).await.is_ok());
        drop(taken);
        assert!(read(of(1000), 1000, &room).await.is_ok());
        assert_eq!(room.0.load(Relaxed), MOST - 1500);
    }
}
