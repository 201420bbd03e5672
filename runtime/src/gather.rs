//! Small answers in one piece.
//!
//! A guest hands out the head of its response before the body, so the head alone would go to the caller first, and body and
//! end in two more packets. Nearly always the rest is there as soon as the guest has had its turn again. So an answer is
//! held for up to [`TURNS`] turns of the thread's event loop, which takes microseconds; what is complete by then goes out
//! whole, with its length known, and a guest that broke off by then is still answered for with a proper status.

use bytes::{Bytes, BytesMut};
use dunlin_events::{Body, Failure};
use futures_util::future::poll_fn;
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

const TURNS: usize = 3;
/// A larger answer streams from here on.
const HELD: usize = 16 << 10;

/// Holds an answer until it is whole, or isn't within a moment.
pub(crate) async fn gather(response: Response<Body>) -> Result<Response<Body>, Failure> {
    let (head, mut body) = response.into_parts();
    let mut held = Held { data: None, trailers: None, rest: None };
    let mut turns = 0;
    while !body.is_end_stream() {
        match poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await {
            Poll::Ready(Some(frame)) => held.push(frame?),
            Poll::Ready(None) => return Ok(Response::from_parts(head, held.whole())),
            Poll::Pending if turns < TURNS => {
                turns += 1;
                tokio::task::yield_now().await;
            }
            Poll::Pending => break,
        }
        if held.trailers.is_some() || held.data.as_ref().is_some_and(|data| data.len() > HELD) {
            break;
        }
    }
    if body.is_end_stream() {
        return Ok(Response::from_parts(head, held.whole()));
    }
    if held.data.is_none() && held.trailers.is_none() {
        return Ok(Response::from_parts(head, body));
    }
    held.rest = Some(body);
    Ok(Response::from_parts(head, held.boxed_unsync()))
}

/// What is there of a body, and what is still to come.
struct Held {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    rest: Option<Body>,
}

impl Held {
    fn push(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => {
                self.data = Some(match self.data.take() {
                    None => data,
                    Some(before) => {
                        let mut all = BytesMut::from(before);
                        all.extend_from_slice(&data);
                        all.freeze()
                    }
                });
            }
            Err(frame) => self.trailers = frame.into_trailers().ok(),
        }
    }

    fn whole(self) -> Body {
        match self.trailers {
            None => Full::new(self.data.unwrap_or_default()).map_err(|never| match never {}).boxed_unsync(),
            Some(_) => self.boxed_unsync(),
        }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest = self.rest.as_ref();
        self.data.is_none() && self.trailers.is_none() && rest.is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.data.as_ref().map_or(0, |data| data.len() as u64);
        let mut hint = SizeHint::new();
        let rest = self.rest.as_ref().map(http_body::Body::size_hint).unwrap_or_else(|| SizeHint::with_exact(0));
        hint.set_lower(rest.lower() + held);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + held);
        }
        hint
    }
}
