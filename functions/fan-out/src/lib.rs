//! Calls several servers at once and answers with what each of them said. The servers are those of the query
//! (`?url=…&url=…`), or those in the variable `URLS`; `allow.http` of the manifest decides which can be reached.

use serde::Serialize;
use wstd::{
    http::{Body, Client, Error, Request, Response},
    runtime::spawn,
    time::{Duration, Instant},
};

/// One server's answer.
#[derive(Serialize)]
struct Answer {
    url: String,
    milliseconds: u128,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Answered { status: u16, body: String },
    Failed { error: String },
}

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let mut urls: Vec<String> =
        form_urlencoded::parse(query).filter(|(key, _)| key == "url").map(|(_, url)| url.into_owned()).collect();
    if urls.is_empty() {
        urls = std::env::var("URLS").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    }

    // Every call is under way before the first is waited for.
    let calls: Vec<_> = urls.into_iter().map(|url| spawn(call(url))).collect();
    let mut answers = Vec::with_capacity(calls.len());
    for call in calls {
        answers.push(call.await);
    }
    Ok(Response::builder().header("content-type", "application/json").body(Body::from_json(&answers)?)?)
}

async fn call(url: String) -> Answer {
    let start = Instant::now();
    let outcome = match get(&url).await {
        Ok((status, body)) => Outcome::Answered { status, body },
        Err(error) => Outcome::Failed { error: format!("{error:#}") },
    };
    Answer { url, milliseconds: start.elapsed().as_millis(), outcome }
}

async fn get(url: &str) -> Result<(u16, String), Error> {
    let mut client = Client::new();
    client.set_connect_timeout(Duration::from_secs(2));
    client.set_first_byte_timeout(Duration::from_secs(5));
    let mut response = client.send(Request::get(url).body(Body::empty())?).await?;
    let status = response.status().as_u16();
    let body = String::from_utf8_lossy(response.body_mut().contents().await?).into_owned();
    Ok((status, body))
}
