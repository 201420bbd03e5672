//! Greets. WASI 0.2: a plain function that is given the request and a place for its answer.

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
        let headers = Fields::new();
        headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]).expect("the header is well-formed");
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("nobody took the body yet");
        ResponseOutparam::set(answer, Ok(response));

        // The caller may be gone by now; then there is nobody left to tell.
        let stream = body.write().expect("nobody took the stream yet");
        let _ = stream.blocking_write_and_flush(b"Hello, world!\n");
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
