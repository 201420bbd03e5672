//! Functions that answer requests, with the types of the crate `http`.
//!
//! ```
//! use dunlin::http::{Json, Problem, Request, RequestExt, StatusCode};
//! # #[derive(serde::Serialize)] struct Invoice { id: u32 }
//!
//! /// GET /invoices/{id}
//! #[dunlin::http]
//! fn invoice(request: Request<()>) -> Result<Json<Invoice>, Problem> {
//!     let id: u32 = request.param("id")?; // a 400 if it is no number
//!     if id > 1000 {
//!         return Err(Problem::new(StatusCode::NOT_FOUND, format!("there is no invoice {id}")));
//!     }
//!     Ok(Json(Invoice { id }))
//! }
//! ```
//! A request's body is read whole, up to the manifest's `limits.request_body`; for one that streams, use the crate `wstd`.
//!
//! **Errors** become `application/problem+json` (RFC 9457). A [`Problem`] is shown as it is, and so is the text of an
//! [`Error::reject`], as a 400. Any other error is a 500 (a 503 where it says when to come back): its text goes to the log,
//! and none of it to the caller.

#[cfg(target_family = "wasm")]
pub(crate) mod wasi;

use crate::{Error, Value, data};
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    str::FromStr,
    time::Duration,
};

pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};

/// What the names of the headers begin with that path parameters arrive in.
const PARAMETER: &str = "dunlin-param-";

/// A body of JSON, in a request or an answer.
///
/// As a request's body it refuses what isn't `application/json` with 415, and what can't be read as `T` with 400 and the
/// place of the mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// What went wrong, for the caller: RFC 9457.
///
/// ```
/// use dunlin::http::{Problem, StatusCode};
///
/// let problem = Problem::new(StatusCode::NOT_FOUND, "there is no order 7");
/// assert_eq!(problem.status(), StatusCode::NOT_FOUND);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: Option<String>,
    retry_after: Option<Duration>,
    /// For the log alone.
    cause: Option<String>,
}

impl Problem {
    /// A problem with its status, and a text the caller may read.
    pub fn new(status: StatusCode, detail: impl fmt::Display) -> Self {
        Self { status, detail: Some(detail.to_string()), retry_after: None, cause: None }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The text for the caller.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        if error.is_reject() {
            return Self::new(StatusCode::BAD_REQUEST, error.message());
        }
        let retry_after = error.after();
        let status =
            if retry_after.is_some() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
        Self { status, detail: None, retry_after, cause: Some(error.message().to_owned()) }
    }
}

/// A 500 that says nothing; the error goes to the log.
impl<E: std::error::Error> From<E> for Problem {
    fn from(error: E) -> Self {
        Error::from(error).into()
    }
}

/// What a function finds out about a request.
pub trait RequestExt {
    /// A parameter of the path: `{id}` in the manifest's `path`. One that isn't there, or no `T`, is a 400.
    ///
    /// ```
    /// use dunlin::http::{Request, RequestExt};
    ///
    /// // In a test, a parameter is the header it arrives in.
    /// let request = Request::builder().header("dunlin-param-id", "J%C3%B6rg").body(()).unwrap();
    /// assert_eq!(request.param::<String>("id"), Ok("Jörg".to_owned()));
    /// assert!(request.param::<u32>("id").is_err());
    /// ```
    fn param<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, Error>;

    /// A parameter of the query, the first of its name. One that is no `T` is a 400.
    ///
    /// ```
    /// use dunlin::http::{Request, RequestExt};
    ///
    /// let request = Request::builder().uri("/orders?limit=20&name=a+b").body(()).unwrap();
    /// assert_eq!(request.query::<usize>("limit"), Ok(Some(20)));
    /// assert_eq!(request.query("name"), Ok(Some("a b".to_owned())));
    /// assert_eq!(request.query::<usize>("offset"), Ok(None));
    /// ```
    fn query<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, Error>;

    /// A header's value, the first of its name, if it is text.
    fn header(&self, name: &str) -> Option<&str>;
}

impl<B> RequestExt for Request<B> {
    fn param<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<T, Error> {
        let value = self.header(&format!("{PARAMETER}{}", name.to_ascii_lowercase()));
        let value = value.ok_or_else(|| Error::reject(format_args!("the path has no `{name}`")))?;
        let value = percent_decode_str(value).decode_utf8();
        let value = value.map_err(|_| Error::reject(format_args!("`{name}` in the path is not UTF-8")))?;
        value.parse().map_err(|error| Error::reject(format_args!("`{name}` in the path is wrong: {error}")))
    }

    fn query<T: FromStr<Err: fmt::Display>>(&self, name: &str) -> Result<Option<T>, Error> {
        let query = self.uri().query().unwrap_or_default().as_bytes();
        let value = form_urlencoded::parse(query).find(|(found, _)| found == name);
        let value = value.map(|(_, value)| value.parse()).transpose();
        value.map_err(|error| Error::reject(format_args!("`{name}` in the query is wrong: {error}")))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }
}

/// What a request's body can be taken as: `Vec<u8>`, `String`, [`Json<T>`], or `()` to leave it alone.
#[diagnostic::on_unimplemented(
    message = "a request's body can't be taken as `{Self}`",
    label = "take `Vec<u8>`, `String`, `dunlin::http::Json<T>` or `()`"
)]
pub trait FromBody: Sized {
    /// Reads it, or says what the caller did wrong.
    fn from_body(headers: &HeaderMap, body: Vec<u8>) -> Result<Self, Problem>;
}

impl FromBody for Vec<u8> {
    fn from_body(_: &HeaderMap, body: Vec<u8>) -> Result<Self, Problem> {
        Ok(body)
    }
}

impl FromBody for () {
    fn from_body(_: &HeaderMap, _: Vec<u8>) -> Result<Self, Problem> {
        Ok(())
    }
}

impl FromBody for String {
    fn from_body(_: &HeaderMap, body: Vec<u8>) -> Result<Self, Problem> {
        Self::from_utf8(body).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Problem::new(StatusCode::BAD_REQUEST, format_args!("the body is not UTF-8: see byte {at}"))
        })
    }
}

impl<T: DeserializeOwned> FromBody for Json<T> {
    fn from_body(headers: &HeaderMap, body: Vec<u8>) -> Result<Self, Problem> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !content_type.is_some_and(data::is_json) {
            let found = content_type.map_or("without a content type".to_owned(), |found| format!("`{found}`"));
            let detail = format!("the body must be `application/json`; it is {found}");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        let value = data::from_json(&body);
        value
            .map(Self)
            .map_err(|reason| Problem::new(StatusCode::BAD_REQUEST, format_args!("the body is wrong: {reason}")))
    }
}

/// What an answer's body can be: `Vec<u8>`, text, [`Json<T>`], or `()` for none.
#[diagnostic::on_unimplemented(
    message = "an answer's body can't be `{Self}`",
    label = "use `Vec<u8>`, `String`, `&'static str`, `dunlin::http::Json<T>` or `()`"
)]
pub trait IntoBody {
    /// The bytes, and the content type where the answer has none.
    fn into_body(self) -> Result<(Option<&'static str>, Vec<u8>), Error>;
}

impl IntoBody for Vec<u8> {
    fn into_body(self) -> Result<(Option<&'static str>, Vec<u8>), Error> {
        Ok((None, self))
    }
}

impl IntoBody for () {
    fn into_body(self) -> Result<(Option<&'static str>, Vec<u8>), Error> {
        Ok((None, Vec::new()))
    }
}

impl IntoBody for String {
    fn into_body(self) -> Result<(Option<&'static str>, Vec<u8>), Error> {
        Ok((Some("text/plain; charset=utf-8"), self.into_bytes()))
    }
}

impl IntoBody for &'static str {
    fn into_body(self) -> Result<(Option<&'static str>, Vec<u8>), Error> {
        self.to_owned().into_body()
    }
}

impl<T: Serialize> IntoBody for Json<T> {
    fn into_body(self) -> Result<(Option<&'static str>, Vec<u8>), Error> {
        Ok((Some("application/json"), serde_json::to_vec(&self.0)?))
    }
}

/// What a handler of requests can answer with: a [`Response`] with any [`IntoBody`], such a body alone for a 200, a
/// [`StatusCode`], a [`Problem`], or a `Result` of these whose error is a [`Problem`], an [`Error`] or any `std::error::Error`.
#[diagnostic::on_unimplemented(
    message = "a request can't be answered with `{Self}`",
    label = "answer with a `Response`, text, `dunlin::http::Json<T>`, a `StatusCode`, or a `Result` of these"
)]
pub trait IntoResponse {
    /// The answer in bytes.
    fn into_response(self) -> Result<Response<Vec<u8>>, Problem>;
}

impl<B: IntoBody> IntoResponse for Response<B> {
    fn into_response(self) -> Result<Response<Vec<u8>>, Problem> {
        let (mut parts, body) = self.into_parts();
        let (content_type, body) = body.into_body()?;
        if let Some(content_type) = content_type {
            parts.headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(content_type));
        }
        Ok(Response::from_parts(parts, body))
    }
}

macro_rules! body_alone {
    ($([$($generics:tt)*] $type:ty;)*) => {$(
        impl<$($generics)*> IntoResponse for $type {
            fn into_response(self) -> Result<Response<Vec<u8>>, Problem> {
                Response::new(self).into_response()
            }
        }
    )*};
}

body_alone! {
    [] Vec<u8>;
    [] String;
    [] &'static str;
    [] ();
    [T: Serialize] Json<T>;
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Result<Response<Vec<u8>>, Problem> {
        let mut response = Response::new(Vec::new());
        *response.status_mut() = self;
        Ok(response)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Result<Response<Vec<u8>>, Problem> {
        Err(self)
    }
}

impl<R: IntoResponse, E: Into<Problem>> IntoResponse for Result<R, E> {
    fn into_response(self) -> Result<Response<Vec<u8>>, Problem> {
        self.map_err(E::into)?.into_response()
    }
}

/// A function `#[dunlin::http]` can be put on. There is nothing to implement: see [`http`](macro@crate::http).
#[diagnostic::on_unimplemented(
    message = "`#[dunlin::http]` can't be put on this function",
    label = "its parameter or its answer doesn't fit",
    note = "it takes a `Request<B>`, where `B` is `Vec<u8>`, `String`, `Json<T>` or `()`, and answers with a `Response`, \
            text, `Json<T>`, a `StatusCode`, or a `Result` of these"
)]
pub trait Handler<Shape> {
    #[doc(hidden)]
    fn answer(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Problem>;
}

#[doc(hidden)]
pub struct Takes<B, R>(PhantomData<(B, R)>);

impl<F, B, R> Handler<Takes<B, R>> for F
where
    F: Fn(Request<B>) -> R,
    B: FromBody,
    R: IntoResponse,
{
    fn answer(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Problem> {
        let (parts, body) = request.into_parts();
        let body = B::from_body(&parts.headers, body)?;
        self(Request::from_parts(parts, body)).into_response()
    }
}

/// What the export calls: a handler without its types.
#[doc(hidden)]
pub fn respond<S, H: Handler<S>>(handler: H, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
    handler.answer(request).unwrap_or_else(show)
}

/// A problem as an answer. What the caller isn't told is logged.
fn show(problem: Problem) -> Response<Vec<u8>> {
    let Problem { status, detail, retry_after, cause } = problem;
    if let Some(cause) = cause {
        crate::log::error!("{cause}");
    }
    let mut document = serde_json::Map::from_iter([("status".to_owned(), Value::from(status.as_u16()))]);
    if let Some(title) = status.canonical_reason() {
        document.insert("title".to_owned(), title.into());
    }
    if let Some(detail) = detail {
        document.insert("detail".to_owned(), detail.into());
    }
    let mut response = Response::new(Value::Object(document).to_string().into_bytes());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(after) = retry_after {
        // Whole seconds, and never too early.
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
        );
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use serde_json::json;

    fn request(body: &str) -> Request<Vec<u8>> {
        Request::builder().header("content-type", "application/json").body(body.into()).unwrap()
    }

    fn document(response: &Response<Vec<u8>>) -> Value {
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        serde_json::from_slice(response.body()).unwrap()
    }

    #[test]
    fn errors_tell_the_caller_what_is_theirs() {
        let fails = |error: Error| respond(move |_: Request<()>| Err::<(), _>(error.clone()), request(""));
        let response = fails(Error::reject("`sku` is empty"));
        assert_eq!(document(&response), json!({ "status": 400, "title": "Bad Request", "detail": "`sku` is empty" }));

        let response = fails(Error::retry("password hunter2 refused"));
        assert_eq!(document(&response), json!({ "status": 500, "title": "Internal Server Error" }));
        assert_eq!(testing::logged()[0].message, "password hunter2 refused");

        let response = fails(Error::retry_after("down", Duration::from_millis(1500)));
        assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (503, &HeaderValue::from(2)));

        let found = |_: Request<()>| Err::<(), _>(Problem::new(StatusCode::NOT_FOUND, "no order 7"));
        assert_eq!(document(&respond(found, request("")))["detail"], "no order 7");
    }

    #[test]
    fn bodies_are_what_the_function_takes() {
        #[derive(serde::Deserialize)]
        struct Order {
            items: Vec<u32>,
        }
        let sum = |request: Request<Json<Order>>| Json(request.body().items.iter().sum::<u32>());
        let response = respond(sum, request(r#"{"items":[1,2]}"#));
        assert_eq!(
            (response.headers()["content-type"].as_bytes(), &**response.body()),
            (&b"application/json"[..], &b"3"[..])
        );
        let wrong = respond(sum, request(r#"{"items":[1,"2"]}"#));
        assert!(document(&wrong)["detail"].as_str().unwrap().contains("at `items[1]`: invalid type"), "{wrong:?}");
        let wrong = respond(sum, Request::new(b"{}".to_vec()));
        assert_eq!(wrong.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let wrong = respond(|request: Request<String>| request.into_body(), Request::new(vec![b'a', 0xff]));
        assert_eq!(document(&wrong)["detail"], "the body is not UTF-8: see byte 1");

        let typed = |_: Request<()>| Response::builder().header("content-type", "text/html").body("<p>");
        assert_eq!(respond(typed, request("")).headers()["content-type"], "text/html");
        assert_eq!(respond(|_: Request<()>| StatusCode::NO_CONTENT, request("")).status(), StatusCode::NO_CONTENT);
    }
}
