//! What a guest prints, on its way to the log: cut into lines, secrets masked, bounded in volume.

use bytes::Bytes;
use dunlin_events::{
    FunctionName, InvocationId,
    logs::{LogRecord, LogSink, LogStream},
    secrets::SecretValue,
};
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

/// A longer line is cut into several.
const LINE_LIMIT: usize = 8 << 10;
/// Lines of stderr, and bytes of them, that are kept as what a guest said before it trapped.
const LAST_LINES: usize = 4;
const LAST_BYTES: usize = 1 << 10;
/// What a guest may write at once.
const CHUNK: usize = 64 << 10;

/// The log of one function's version, as its sandboxes see it.
pub(crate) struct Log {
    pub(crate) function: FunctionName,
    pub(crate) version: u64,
    pub(crate) sink: Arc<dyn LogSink>,
}

impl Log {
    /// Says something of the platform's own about the function.
    pub(crate) fn platform(&self, invocation: Option<InvocationId>, message: String) {
        let record = LogRecord::new(&self.function, self.version, LogStream::Platform, message);
        self.sink.record(match invocation {
            Some(id) => record.of(id),
            None => record,
        });
    }
}

/// What to mask in a log so that these secrets don't show: their lines, since it is written line by line and keys have
/// several. Longer ones come first, so that of a secret that begins like another nothing is left.
pub(crate) fn to_mask(secrets: &[SecretValue]) -> Arc<[SecretValue]> {
    let lines = secrets.iter().flat_map(|secret| secret.expose().lines());
    // Shorter ones would mask half of an innocent text, and are no secrets.
    let mut lines: Vec<_> = lines.map(str::trim).filter(|line| line.len() >= 4).collect();
    lines.sort_unstable_by_key(|line| std::cmp::Reverse(line.len()));
    lines.into_iter().map(|line| SecretValue::new(line.to_owned())).collect()
}

/// The two output streams of one sandbox.
#[derive(Clone)]
pub(crate) struct Output(Arc<Mutex<State>>);

struct State {
    log: Arc<Log>,
    /// Secret values that must not reach the log.
    masked: Arc<[SecretValue]>,
    invocation: Option<InvocationId>,
    /// Bytes the log still takes.
    left: u64,
    dropped: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The last lines of stderr of the invocation, where it can be told.
    last: VecDeque<String>,
}

impl Output {
    pub(crate) fn new(log: Arc<Log>, masked: Arc<[SecretValue]>) -> Self {
        Self(Arc::new(Mutex::new(State {
            log,
            masked,
            invocation: None,
            left: 0,
            dropped: 0,
            stdout: Vec::new(),
            stderr: Vec::new(),
            last: VecDeque::new(),
        })))
    }

    /// An invocation begins. `id` is what the lines to come belong to, if they can be told apart.
    pub(crate) fn begin(&self, id: Option<InvocationId>, budget: u64, alone: bool) {
        let mut state = self.lock();
        if alone {
            state.end();
            state.left = budget;
        } else {
            state.left = state.left.saturating_add(budget);
        }
        state.invocation = id;
        state.last.clear();
    }

    /// What the invocation wrote to stderr last, in one line: a language's runtime says there why it traps.
    pub(crate) fn last_words(&self) -> Option<String> {
        let mut state = self.lock();
        state.end_line(LogStream::Stderr);
        let lines = state.last.iter().map(|line| line.trim());
        // How to see more of Rust's stack is of no use to who reads it.
        let lines: Vec<_> =
            lines.filter(|line| !line.is_empty() && !line.starts_with("note: run with `RUST_")).collect();
        (!lines.is_empty()).then(|| lines.join(" "))
    }

    /// Writes out what has no line end yet, and how much was dropped.
    pub(crate) fn end(&self) {
        self.lock().end();
    }

    /// Writes a line of its own, whatever the stream is in the middle of.
    pub(crate) fn line(&self, stream: LogStream, text: &str) {
        let mut state = self.lock();
        state.end_line(stream);
        state.write(stream, text.as_bytes());
        state.end_line(stream);
    }

    /// Says something of the platform's own about the invocation. It counts as the guest's output, which causes it.
    pub(crate) fn note(&self, text: &str) {
        let mut state = self.lock();
        match state.left.checked_sub(text.len() as u64) {
            Some(left) => {
                state.left = left;
                state.log.platform(state.invocation, text.to_owned());
            }
            None => state.dropped += text.len() as u64,
        }
    }

    pub(crate) fn stdout(&self) -> OutputHandle {
        OutputHandle { output: self.clone(), stream: LogStream::Stdout }
    }

    pub(crate) fn stderr(&self) -> OutputHandle {
        OutputHandle { output: self.clone(), stream: LogStream::Stderr }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, stream: LogStream, mut bytes: &[u8]) {
        if self.left < bytes.len() as u64 {
            self.dropped += bytes.len() as u64 - self.left;
            bytes = &bytes[..usize::try_from(self.left).unwrap_or(0)];
        }
        self.left -= bytes.len() as u64;
        while !bytes.is_empty() {
            let buffer = if stream == LogStream::Stderr { &mut self.stderr } else { &mut self.stdout };
            let room = LINE_LIMIT - buffer.len();
            let line_end = bytes.iter().take(room).position(|b| *b == b'\n');
            let take = line_end.unwrap_or(room.min(bytes.len()));
            buffer.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take + usize::from(line_end.is_some())..];
            if line_end.is_some() || buffer.len() == LINE_LIMIT {
                self.flush(stream);
            }
        }
    }

    fn flush(&mut self, stream: LogStream) {
        let buffer = if stream == LogStream::Stderr { &mut self.stderr } else { &mut self.stdout };
        let line = std::mem::take(buffer);
        let mut text = String::from_utf8_lossy(&line).into_owned();
        if text.ends_with('\r') {
            text.pop();
        }
        for secret in self.masked.iter().map(SecretValue::expose) {
            if text.contains(secret) {
                text = text.replace(secret, "***");
            }
        }
        if stream == LogStream::Stderr && self.invocation.is_some() {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(text.chars().take(LAST_BYTES / LAST_LINES).collect());
        }
        let record = LogRecord::new(&self.log.function, self.log.version, stream, text);
        self.log.sink.record(match self.invocation {
            Some(id) => record.of(id),
            None => record,
        });
    }

    fn end_line(&mut self, stream: LogStream) {
        let buffer = if stream == LogStream::Stderr { &self.stderr } else { &self.stdout };
        if !buffer.is_empty() {
            self.flush(stream);
        }
    }

    fn end(&mut self) {
        self.end_line(LogStream::Stdout);
        self.end_line(LogStream::Stderr);
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            self.log.platform(
                self.invocation,
                format!("{dropped} bytes of output were dropped: `limits.log` allows no more for one invocation"),
            );
        }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.end();
    }
}

/// One of the two streams, as wasmtime wants it.
#[derive(Clone)]
pub(crate) struct OutputHandle {
    output: Output,
    stream: LogStream,
}

impl IsTerminal for OutputHandle {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for OutputHandle {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for OutputHandle {
    async fn ready(&mut self) {}
}

impl OutputStream for OutputHandle {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.lock().write(self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(CHUNK)
    }
}

impl AsyncWrite for OutputHandle {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.output.lock().write(self.stream, buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
