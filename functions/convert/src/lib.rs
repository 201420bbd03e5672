//! Converts between units: a JSON API with path parameters, JSON bodies, and errors as `application/problem+json`.
//!
//! ```text
//! GET  /convert                      the units there are
//! GET  /convert/{value}/{from}/{to}  one value
//! POST /convert/{from}/{to}          many: {"values": [1, 2.5]}
//! ```
//! A path parameter arrives as the header `dunlin-param-<name>`, percent-encoded as in the URL.

mod problem;
mod units;

use percent_encoding::percent_decode_str;
use problem::Problem;
use serde::{Deserialize, Serialize};
use units::Unit;
use wstd::http::{Body, Error, HeaderMap, Method, Request, Response, StatusCode};

#[derive(Serialize)]
struct One {
    value: f64,
    from: &'static str,
    to: &'static str,
    result: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Values {
    values: Vec<f64>,
}

#[derive(Serialize)]
struct Results {
    from: &'static str,
    to: &'static str,
    results: Vec<f64>,
}

#[wstd::http_server]
async fn main(mut request: Request<Body>) -> Result<Response<Body>, Error> {
    let answer = if request.method() == Method::POST {
        many(&mut request).await
    } else if request.headers().contains_key("dunlin-param-value") {
        one(request.headers())
    } else {
        Body::from_json(&units::ALL).map_err(Problem::from)
    };
    match answer {
        Ok(body) => Ok(Response::builder().header("content-type", "application/json").body(body)?),
        Err(problem) => problem.into_response(),
    }
}

fn one(headers: &HeaderMap) -> Result<Body, Problem> {
    let (from, to) = units_of(headers)?;
    let text = parameter(headers, "value")?;
    let value = text.parse().ok().filter(|value: &f64| value.is_finite()).ok_or_else(|| {
        Problem::new(StatusCode::BAD_REQUEST, "Not a number", format!("`{text}` is not a number, such as 42.195"))
    })?;
    Ok(Body::from_json(&One { value, from: from.symbol, to: to.symbol, result: convert(value, from, to)? })?)
}

async fn many(request: &mut Request<Body>) -> Result<Body, Problem> {
    let (from, to) = units_of(request.headers())?;
    let content_type = request.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.split(';').next().map(str::trim) != Some("application/json") {
        let detail = format!("the body must be application/json, not `{content_type}`");
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Not JSON", detail));
    }
    let body = request.body_mut().contents().await.map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "Body broke off", format!("the body could not be read: {error}"))
    })?;
    let Values { values } = serde_json::from_slice(body)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "Not the body expected", error.to_string()))?;
    let results = values.into_iter().map(|value| convert(value, from, to)).collect::<Result<_, _>>()?;
    Ok(Body::from_json(&Results { from: from.symbol, to: to.symbol, results })?)
}

fn convert(value: f64, from: &Unit, to: &Unit) -> Result<f64, Problem> {
    let result = from.convert(value, to);
    if result.is_finite() {
        Ok(result)
    } else {
        let detail = format!("{value:e} {} is more {} than a number can hold", from.symbol, to.symbol);
        Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Too large", detail))
    }
}

fn units_of(headers: &HeaderMap) -> Result<(&'static Unit, &'static Unit), Problem> {
    let unit = |name| {
        let symbol = parameter(headers, name)?;
        units::find(&symbol).ok_or_else(|| {
            let detail = format!("there is no unit `{symbol}`; GET /convert lists those there are");
            Problem::new(StatusCode::NOT_FOUND, "No such unit", detail)
        })
    };
    let (from, to) = (unit("from")?, unit("to")?);
    if from.quantity != to.quantity {
        let detail =
            format!("`{}` measures {} and `{}` measures {}", from.symbol, from.quantity, to.symbol, to.quantity);
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Units don't go together", detail));
    }
    Ok((from, to))
}

fn parameter(headers: &HeaderMap, name: &str) -> Result<String, Problem> {
    let value = headers.get(format!("dunlin-param-{name}")).map(|value| value.as_bytes()).unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    percent_decode_str(&value)
        .decode_utf8()
        .map(String::from)
        .map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "Not UTF-8", format!("`{value}` in the path is not UTF-8")))
}
