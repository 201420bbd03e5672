//! Turns the ASCII letters of a body into capitals, chunk by chunk: a gigabyte passes through a few hundred kilobytes of
//! memory. A chunk is read when the one before it was taken, so the slower of the two ends sets the pace.

use wstd::http::{
    Body, Error, Request, Response,
    body::{Bytes, util::BodyExt},
};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let mut response = Response::builder();
    if let Some(content_type) = request.headers().get("content-type") {
        response = response.header("content-type", content_type);
    }
    let body = request.into_body().into_boxed_body().map_frame(|frame| frame.map_data(upper));
    Ok(response.body(Body::from_http_body(body))?)
}

fn upper(chunk: Bytes) -> Bytes {
    let mut chunk = Vec::from(chunk);
    chunk.make_ascii_uppercase();
    chunk.into()
}
