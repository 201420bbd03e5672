//! `wasi:http/incoming-handler`: the hook is called with the request, and answers by `native.respond`.

use crate::{
    call, enter,
    native::{fields, flat, streams, throw},
};
use rquickjs::{CatchResultExt, Ctx, Function, Object, Result, Value};
use std::cell::RefCell;
use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{ErrorCode, IncomingRequest, Method, OutgoingResponse, ResponseOutparam, Scheme},
};

thread_local! {
    static ANSWER: RefCell<Option<ResponseOutparam>> = const { RefCell::new(None) };
}

struct Component;

impl Guest for Component {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        ANSWER.set(Some(answer));
        let outcome = enter(|ctx| {
            let request = received(ctx, request).catch(ctx).map_err(|error| error.to_string())?;
            call(ctx, "respond", request).map(|_| ())
        });
        let answer = ANSWER.take();
        if let Err(reason) = outcome {
            // The SDK has answered all it could; this is an end before that.
            eprintln!("{reason}");
        }
        if let Some(answer) = answer {
            ResponseOutparam::set(answer, Err(ErrorCode::InternalError(None)));
        }
    }
}

wasip2::http::proxy::export!(Component with_types_in wasip2);

fn received<'js>(ctx: &Ctx<'js>, request: IncomingRequest) -> Result<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    let method = match request.method() {
        Method::Get => "GET".to_owned(),
        Method::Head => "HEAD".to_owned(),
        Method::Post => "POST".to_owned(),
        Method::Put => "PUT".to_owned(),
        Method::Delete => "DELETE".to_owned(),
        Method::Connect => "CONNECT".to_owned(),
        Method::Options => "OPTIONS".to_owned(),
        Method::Trace => "TRACE".to_owned(),
        Method::Patch => "PATCH".to_owned(),
        Method::Other(name) => name,
    };
    let scheme = match request.scheme() {
        Some(Scheme::Https) => "https".to_owned(),
        Some(Scheme::Other(name)) => name,
        Some(Scheme::Http) | None => "http".to_owned(),
    };
    let authority = request.authority().filter(|authority| !authority.is_empty()).unwrap_or_else(|| "localhost".to_owned());
    let path = request.path_with_query().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    object.set("method", method)?;
    object.set("url", format!("{scheme}://{authority}{path}"))?;
    object.set("headers", flat(&request.headers()))?;
    object.set("body", streams::incoming(request.consume().expect("nobody took the body yet")))?;
    object.set("respond", Function::new(ctx.clone(), respond)?)?;
    Ok(object.into_value())
}

/// Begins the answer, and says by which number its body is written.
fn respond(ctx: Ctx<'_>, status: u16, headers: Vec<String>) -> Result<u32> {
    let headers = fields(&headers).map_err(|reason| throw(&ctx, &reason))?;
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).map_err(|()| throw(&ctx, "the status is none"))?;
    let body = response.body().expect("nobody took the body yet");
    let answer = ANSWER.take().ok_or_else(|| throw(&ctx, "it was answered before"))?;
    ResponseOutparam::set(answer, Ok(response));
    Ok(streams::outgoing(body))
}
