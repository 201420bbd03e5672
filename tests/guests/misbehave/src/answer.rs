//! The one place for an answer that a WASI 0.2 call gets, and the response that is put there.

use serde_json::Value;
use wasip2::{
    http::types::{ErrorCode, Fields, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::{OutputStream, StreamError},
};

pub struct Answer(ResponseOutparam);

/// A response whose head is out and whose body is being written.
pub struct Response {
    // Before `body`: a stream must be gone before the body it belongs to.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Answer {
    pub fn new(out: ResponseOutparam) -> Self {
        Self(out)
    }

    pub fn text(self, text: &str) {
        self.status(200, text);
    }

    pub fn status(self, status: u16, text: &str) {
        self.whole(status, "text/plain; charset=utf-8", text.as_bytes());
    }

    pub fn json(self, value: &Value) {
        self.whole(200, "application/json", value.to_string().as_bytes());
    }

    pub fn error(self, code: ErrorCode) {
        ResponseOutparam::set(self.0, Err(code));
    }

    /// Uses the place for the answer a second time, which its handle is not good for any more.
    pub fn twice(self) {
        let handle = self.0.take_handle();
        for _ in 0..2 {
            // SAFETY: the second handle is stale by design; the host has to notice.
            let out = unsafe { ResponseOutparam::from_handle(handle) };
            ResponseOutparam::set(out, Ok(OutgoingResponse::new(Fields::new())));
        }
    }

    /// Sends the head.
    pub fn begin(self, status: u16, headers: &[(String, Vec<u8>)]) -> Response {
        let headers = Fields::from_list(headers).expect("the headers are well-formed");
        let response = OutgoingResponse::new(headers);
        response.set_status_code(status).expect("the status is one of HTTP");
        let body = response.body().expect("nobody took the body yet");
        ResponseOutparam::set(self.0, Ok(response));
        Response { stream: body.write().expect("nobody took the stream yet"), body }
    }

    fn whole(self, status: u16, content_type: &str, body: &[u8]) {
        let response = self.begin(status, &[("content-type".into(), content_type.into())]);
        // The caller may be gone by now.
        if response.write(body).is_ok() {
            response.finish(None);
        }
    }
}

impl Response {
    /// Writes all of it, as fast as the other side takes it.
    pub fn write(&self, mut bytes: &[u8]) -> Result<(), StreamError> {
        while !bytes.is_empty() {
            let room = usize::try_from(self.stream.check_write()?).unwrap_or(usize::MAX);
            if room == 0 {
                self.stream.subscribe().block();
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.stream.write(now)?;
            bytes = later;
        }
        Ok(())
    }

    pub fn flush(&self) -> Result<(), StreamError> {
        self.stream.blocking_flush()
    }

    pub fn finish(self, trailers: Option<Fields>) {
        let Self { stream, body } = self;
        let _ = stream.blocking_flush();
        drop(stream);
        let _ = OutgoingBody::finish(body, trailers);
    }

    /// Writes that much and leaves the body unfinished.
    pub fn abandon(self, bytes: &[u8]) {
        let _ = self.write(bytes);
        let _ = self.flush();
    }
}
