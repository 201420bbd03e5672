//! `wasi:http/incoming-handler` 0.2, by the crate `wasip2`.

use super::{HeaderName, HeaderValue, Method, Problem, Request, Response, StatusCode, Uri, header, show};
use std::io::{Read, Write};
use wasip2::http::types::{
    Fields, IncomingRequest, Method as WasiMethod, OutgoingBody, OutgoingResponse, ResponseOutparam, Scheme,
};

/// What the exported function does: `respond` without its types, between the types of the interface.
pub fn run(request: IncomingRequest, answer: ResponseOutparam, respond: fn(Request<Vec<u8>>) -> Response<Vec<u8>>) {
    let response = received(request).map_or_else(show, respond);
    let (parts, body) = response.into_parts();

    let mut headers: Vec<_> =
        parts.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    let may_have_length = !parts.status.is_informational() && parts.status != StatusCode::NO_CONTENT;
    if may_have_length && !parts.headers.contains_key(header::CONTENT_LENGTH) {
        headers.push((header::CONTENT_LENGTH.to_string(), body.len().to_string().into_bytes()));
    }
    let headers = match Fields::from_list(&headers) {
        Ok(headers) => headers,
        // A header of the connection, `transfer-encoding` for one. That is the platform's business.
        Err(error) => {
            crate::log::error!("the answer has a header that it can't have: {error:?}");
            ResponseOutparam::set(answer, Err(wasip2::http::types::ErrorCode::InternalError(None)));
            return;
        }
    };
    let response = OutgoingResponse::new(headers);
    response.set_status_code(parts.status.as_u16()).expect("`StatusCode` has no value that isn't one");
    let outgoing = response.body().expect("nobody took the body yet");
    ResponseOutparam::set(answer, Ok(response));

    // The caller may be gone by now; then there is nobody left to tell.
    let mut stream = outgoing.write().expect("nobody took the stream yet");
    if stream.write_all(&body).and_then(|()| Write::flush(&mut stream)).is_ok() {
        drop(stream);
        let _ = OutgoingBody::finish(outgoing, None);
    }
}

fn received(incoming: IncomingRequest) -> Result<Request<Vec<u8>>, Problem> {
    let mut request = Request::new(Vec::new());
    *request.method_mut() = match incoming.method() {
        WasiMethod::Get => Method::GET,
        WasiMethod::Head => Method::HEAD,
        WasiMethod::Post => Method::POST,
        WasiMethod::Put => Method::PUT,
        WasiMethod::Delete => Method::DELETE,
        WasiMethod::Connect => Method::CONNECT,
        WasiMethod::Options => Method::OPTIONS,
        WasiMethod::Trace => Method::TRACE,
        WasiMethod::Patch => Method::PATCH,
        WasiMethod::Other(name) => Method::from_bytes(name.as_bytes())
            .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the method is none"))?,
    };
    *request.uri_mut() = uri(&incoming).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the URI is none"))?;
    for (name, value) in incoming.headers().entries() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_bytes(&value)) {
            request.headers_mut().append(name, value);
        }
    }
    let body = incoming.consume().expect("nobody took the body yet");
    let mut stream = body.stream().expect("nobody took the stream yet");
    stream
        .read_to_end(request.body_mut())
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body broke off before its end"))?;
    Ok(request)
}

fn uri(request: &IncomingRequest) -> Result<Uri, ::http::Error> {
    let path = request.path_with_query().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    let uri = Uri::builder().path_and_query(path);
    let Some(authority) = request.authority().filter(|authority| !authority.is_empty()) else {
        return uri.build();
    };
    let scheme = match request.scheme() {
        Some(Scheme::Https) => "https".to_owned(),
        Some(Scheme::Other(name)) => name,
        Some(Scheme::Http) | None => "http".to_owned(),
    };
    uri.scheme(scheme.as_str()).authority(authority).build()
}
