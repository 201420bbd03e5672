//! Greets. WASI 0.3: an `async` function that returns its response; one sandbox can answer several requests at once.

use wasip3::{
    exports::http::handler::Guest,
    http::types::{ErrorCode, Fields, Request, Response},
    spawn_local, wit_future, wit_stream,
};

struct Hello;

wasip3::http::service::export!(Hello);

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let headers = Fields::new();
        headers.set("content-type", &[b"text/plain; charset=utf-8".to_vec()]).expect("the header is well-formed");
        let (mut body, reader) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(reader), trailers);

        // The body is read once the response is returned, so it is written beside it.
        spawn_local(async move {
            body.write_all(b"Hello, world!\n".to_vec()).await;
        });
        Ok(response)
    }
}
