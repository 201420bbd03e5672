//! Bodies: what is read and written in pieces, by a number.
//!
//! Nothing here waits. What isn't ready says so, and `subscribe` has it waited for.

use super::throw;
use crate::{wait, wire::bytes};
use rquickjs::{Ctx, Function, Object, Result, TypedArray, Value};
use std::cell::RefCell;
use wasip2::{
    http::types::{IncomingBody, OutgoingBody},
    io::streams::{InputStream, OutputStream, StreamError},
};

/// The most that is read at once.
const PIECE: u64 = 64 << 10;

enum Body {
    // The stream goes before the body it is of.
    In(InputStream, #[expect(dead_code, reason = "it is kept until the stream has gone")] IncomingBody),
    Out(OutputStream, OutgoingBody),
}

thread_local! {
    static BODIES: RefCell<Vec<(u32, Body)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn add<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("read", Function::new(ctx.clone(), read)?)?;
    native.set("write", Function::new(ctx.clone(), write)?)?;
    native.set("flushed", Function::new(ctx.clone(), flushed)?)?;
    native.set("finish", Function::new(ctx.clone(), finish)?)?;
    native.set("drop", Function::new(ctx.clone(), close)?)?;
    native.set("subscribe", Function::new(ctx.clone(), subscribe)?)
}

pub(crate) fn forget() {
    BODIES.take();
}

fn keep(body: Body) -> u32 {
    BODIES.with_borrow_mut(|bodies| {
        let id = bodies.last().map_or(1, |(id, _)| id + 1);
        bodies.push((id, body));
        id
    })
}

pub(crate) fn incoming(body: IncomingBody) -> u32 {
    let stream = body.stream().expect("nobody took the stream yet");
    keep(Body::In(stream, body))
}

pub(crate) fn outgoing(body: OutgoingBody) -> u32 {
    let stream = body.write().expect("nobody took the stream yet");
    keep(Body::Out(stream, body))
}

fn with<R>(ctx: &Ctx<'_>, id: u32, work: impl FnOnce(&Body) -> Result<R>) -> Result<R> {
    BODIES.with_borrow(|bodies| {
        let body = bodies.iter().find(|(other, _)| *other == id);
        work(&body.ok_or_else(|| throw(ctx, "the body was closed, or its call has ended"))?.1)
    })
}

fn broken(ctx: &Ctx<'_>, error: &wasip2::io::error::Error) -> rquickjs::Error {
    throw(ctx, &format!("the connection broke off: {}", error.to_debug_string()))
}

/// A piece, `null` if there is none yet, or nothing at its end.
fn read<'js>(ctx: Ctx<'js>, id: u32) -> Result<Value<'js>> {
    with(&ctx, id, |body| {
        let Body::In(stream, _) = body else { return Err(throw(&ctx, "it can't be read")) };
        match stream.read(PIECE) {
            Ok(piece) if piece.is_empty() => Ok(Value::new_null(ctx.clone())),
            Ok(piece) => Ok(TypedArray::new(ctx.clone(), piece)?.into_value()),
            Err(StreamError::Closed) => Ok(Value::new_undefined(ctx.clone())),
            Err(StreamError::LastOperationFailed(error)) => Err(broken(&ctx, &error)),
        }
    })
}

/// How much of it was taken, from `from` on.
fn write<'js>(ctx: Ctx<'js>, id: u32, piece: TypedArray<'js, u8>, from: u32) -> Result<u32> {
    with(&ctx, id, |body| {
        let Body::Out(stream, _) = body else { return Err(throw(&ctx, "it can't be written")) };
        let failed = |error| match error {
            StreamError::Closed => throw(&ctx, "whoever reads it has gone"),
            StreamError::LastOperationFailed(error) => broken(&ctx, &error),
        };
        let room = stream.check_write().map_err(failed)?;
        let piece = bytes(&piece)?;
        let rest = &piece[(from as usize).min(piece.len())..];
        let taken = &rest[..rest.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
        if !taken.is_empty() {
            stream.write(taken).map_err(failed)?;
        }
        Ok(u32::try_from(taken.len()).expect("JavaScript has no longer arrays"))
    })
}

/// Begins to flush it; it is done when the stream takes more.
fn flushed(ctx: Ctx<'_>, id: u32) -> Result<()> {
    with(&ctx, id, |body| {
        let Body::Out(stream, _) = body else { return Err(throw(&ctx, "it can't be written")) };
        stream.flush().map_err(|_| throw(&ctx, "whoever reads it has gone"))
    })
}

fn take(id: u32) -> Option<Body> {
    BODIES.with_borrow_mut(|bodies| {
        bodies.iter().position(|(other, _)| *other == id).map(|index| bodies.remove(index).1)
    })
}

/// The whole of it is written.
fn finish(ctx: Ctx<'_>, id: u32) -> Result<()> {
    let Some(Body::Out(stream, body)) = take(id) else { return Err(throw(&ctx, "it can't be finished")) };
    drop(stream);
    OutgoingBody::finish(body, None).map_err(|error| throw(&ctx, &format!("the body is not as it was announced: {error}")))
}

/// It is left as it is: whoever reads it sees that it broke off.
fn close(id: u32) {
    drop(take(id));
}

/// Has it waited for until it can be read or written.
fn subscribe(ctx: Ctx<'_>, id: u32, waiting: u32) -> Result<()> {
    with(&ctx, id, |body| {
        wait(waiting, match body {
            Body::In(stream, _) => stream.subscribe(),
            Body::Out(stream, _) => stream.subscribe(),
        });
        Ok(())
    })
}
