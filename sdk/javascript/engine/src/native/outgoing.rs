//! `wasi:http/outgoing-handler`, for `fetch`.

use super::{guard, streams, throw};
use crate::wait;
use rquickjs::{Array, Ctx, Function, Object, Result};
use std::cell::RefCell;
use wasip2::http::{
    outgoing_handler,
    types::{Fields, FutureIncomingResponse, Method, OutgoingRequest, Scheme},
};

thread_local! {
    static SENT: RefCell<Vec<(u32, FutureIncomingResponse)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn add<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("send", Function::new(ctx.clone(), send)?)?;
    native.set("response", Function::new(ctx.clone(), response)?)?;
    native.set("abort", Function::new(ctx.clone(), |id: u32| drop(abort(id)))?)
}

/// Headers from `[name, value, name, value]`. A value has a byte for each character, as in all of HTTP.
pub(crate) fn fields(list: &[String]) -> std::result::Result<Fields, String> {
    let latin = |value: &str| value.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect::<Vec<u8>>();
    let list: Vec<_> = list.chunks_exact(2).map(|field| (field[0].clone(), latin(&field[1]))).collect();
    Fields::from_list(&list).map_err(|error| format!("a header can't be sent: {error}"))
}

pub(crate) fn flat(fields: &Fields) -> Vec<String> {
    let latin = |value: Vec<u8>| value.into_iter().map(char::from).collect::<String>();
    fields.entries().into_iter().flat_map(|(name, value)| [name, latin(value)]).collect()
}

pub(crate) fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        other => Method::Other(other.to_owned()),
    }
}

/// Sends a request, and answers with the number of its body where it has one. `response` is ready when `waiting` fires.
fn send(
    ctx: Ctx<'_>,
    waiting: u32,
    name: String,
    address: Vec<String>,
    headers: Vec<String>,
    has_body: bool,
) -> Result<Option<u32>> {
    guard(&ctx, "http")?;
    let [scheme, authority, path] = &address[..] else { return Err(throw(&ctx, "an address has three parts")) };
    let request = OutgoingRequest::new(fields(&headers).map_err(|reason| throw(&ctx, &reason))?);
    let wrong = |()| throw(&ctx, "the request can't be sent: its method or address is none");
    request.set_method(&method(&name)).map_err(wrong)?;
    request.set_scheme(Some(&if scheme == "http" { Scheme::Http } else { Scheme::Https })).map_err(wrong)?;
    request.set_authority(Some(authority)).map_err(wrong)?;
    request.set_path_with_query(Some(path)).map_err(wrong)?;
    let body = request.body().expect("nobody took the body yet");
    let future = outgoing_handler::handle(request, None).map_err(|error| throw(&ctx, &reason(&error)))?;
    let body = if has_body {
        Some(streams::outgoing(body))
    } else {
        // None at all, which is not an empty one.
        wasip2::http::types::OutgoingBody::finish(body, None).map_err(|error| throw(&ctx, &reason(&error)))?;
        None
    };
    wait(waiting, future.subscribe());
    SENT.with_borrow_mut(|sent| sent.push((waiting, future)));
    Ok(body)
}

/// `[status, headers, body]`
fn response<'js>(ctx: Ctx<'js>, id: u32) -> Result<Array<'js>> {
    let future = abort(id).ok_or_else(|| throw(&ctx, "its call has ended"))?;
    let response = future.get().expect("it is ready").expect("it is asked for once");
    let response = response.map_err(|error| throw(&ctx, &reason(&error)))?;
    let array = Array::new(ctx)?;
    array.set(0, response.status())?;
    array.set(1, flat(&response.headers()))?;
    array.set(2, streams::incoming(response.consume().expect("nobody took the body yet")))?;
    Ok(array)
}

fn abort(id: u32) -> Option<FutureIncomingResponse> {
    SENT.with_borrow_mut(|sent| sent.iter().position(|(other, _)| *other == id).map(|index| sent.remove(index).1))
}

fn reason(error: &wasip2::http::types::ErrorCode) -> String {
    use wasip2::http::types::ErrorCode;
    match error {
        ErrorCode::HttpRequestDenied => "denied".to_owned(),
        ErrorCode::InternalError(Some(reason)) => reason.clone(),
        other => other.to_string().trim_start_matches("ErrorCode::").to_owned(),
    }
}
