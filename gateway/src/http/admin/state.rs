//! State, for people and programs outside: buckets, their keys, and values, which are changed only if they are still what
//! the caller saw where it says so (RFC 9110 §13.1).

use super::{
    App,
    openapi::{Content, Operation},
    refusal::Refusal,
    request::{Answer, Asked, Named, NamedTwo, Shared, bad, json, read},
};
use crate::api::{BucketList, Cleared, KeyList, KeyQuery};
use axum::{body::Body, extract::State, response::IntoResponse};
use bytes::Bytes;
use dunlin_events::state::{Bucket, Entry, Key, MAX_VALUE, Revision, StateError};
use http::{HeaderMap, HeaderName, StatusCode, header};

/// Keys of an answer when nobody says how many.
const SOME: usize = 1_000;
/// Keys of an answer at most.
const MOST: usize = 10_000;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get("/api/state", "buckets", "The buckets that hold something, by name.", buckets)
            .answers(Content::json::<BucketList>())
            .refuses(&[503]),
        Operation::get("/api/state/{bucket}", "keys", "Keys of a bucket, in the order of their bytes.", keys)
            .query::<KeyQuery>()
            .answers(Content::json::<KeyList>())
            .refuses(&[400, 503]),
        Operation::delete("/api/state/{bucket}", "clear", "Empties a bucket.", clear)
            .answers(Content::json::<Cleared>())
            .refuses(&[400, 503]),
        Operation::get("/api/state/{bucket}/{*key}", "value", "What a key holds; its revision is the `ETag`.", value)
            .answers(Content::raw(BYTES))
            .refuses(&[400, 404, 503]),
        Operation::put(
            "/api/state/{bucket}/{*key}",
            "set-value",
            "Writes a value. With `If-Match` or `If-None-Match` only if the key holds that, or 412.",
            set,
        )
        .takes(Content::raw("*/*"))
        .refuses(&[400, 408, 412, 413, 503]),
        Operation::delete(
            "/api/state/{bucket}/{*key}",
            "delete-value",
            "Deletes a key. With `If-Match` only if it holds that, or 412.",
            delete,
        )
        .refuses(&[400, 404, 412, 503]),
    ]
}

const BYTES: &str = "application/octet-stream";

async fn buckets(State(app): Shared) -> Answer {
    Ok(json(&BucketList { buckets: app.backend.state.buckets().await? }))
}

async fn keys(State(app): Shared, Named(bucket): Named<Bucket>, Asked(query): Asked<KeyQuery>) -> Answer {
    let limit = query.limit.unwrap_or(SOME).min(MOST);
    let (prefix, after) = (query.prefix.unwrap_or_default(), query.after);
    let keys = app.backend.state.keys(&bucket, &prefix, after.as_deref(), limit).await?;
    let keys: Vec<_> = keys.iter().map(|key| (**key).to_owned()).collect();
    let next = if keys.len() < limit { None } else { keys.last().cloned().or(after) };
    Ok(json(&KeyList { keys, next }))
}

async fn clear(State(app): Shared, Named(bucket): Named<Bucket>) -> Answer {
    Ok(json(&Cleared { cleared: app.backend.state.clear(&bucket).await? }))
}

async fn value(State(app): Shared, NamedTwo(bucket, key): NamedTwo<Bucket, String>) -> Answer {
    let key = self::key(bucket, &key)?;
    let Some(Entry { value, revision }) = get(&app, &key).await? else { return Err(nothing(&key)) };
    let headers = [
        (header::CONTENT_TYPE, BYTES.to_owned()),
        (header::ETAG, format!("\"{}\"", revision.0)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        // What a function wrote must not run where the admin API would take it for its own.
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_SECURITY_POLICY, "sandbox".to_owned()),
    ];
    Ok((headers, value).into_response())
}

async fn set(
    State(app): Shared,
    NamedTwo(bucket, key): NamedTwo<Bucket, String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let key = self::key(bucket, &key)?;
    let condition = Condition::of(&headers)?;
    let value = read(body, MAX_VALUE as u64, "value").await?;
    write(&app, &key, &condition, Some(value)).await
}

async fn delete(
    State(app): Shared,
    NamedTwo(bucket, key): NamedTwo<Bucket, String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let key = self::key(bucket, &key)?;
    let condition = Condition::of(&headers)?;
    write(&app, &key, &condition, None).await
}

fn key(bucket: Bucket, key: &str) -> Result<Key, Refusal> {
    Key::new(bucket, key).map_err(|error| bad(error.to_string()))
}

async fn get(app: &App, key: &Key) -> Result<Option<Entry>, StateError> {
    Ok(app.backend.state.get(vec![key.clone()]).await?.pop().flatten())
}

fn nothing(key: &Key) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("`{key}` holds nothing"))
}

/// Writes a value, or deletes it, if the condition holds at the moment it is written.
async fn write(app: &App, key: &Key, condition: &Condition, value: Option<Bytes>) -> Result<StatusCode, Refusal> {
    loop {
        let mut reads = Vec::new();
        if value.is_none() || !condition.is_none() {
            let revision = get(app, key).await?.map(|entry| entry.revision).unwrap_or_default();
            if !condition.holds(revision) {
                let detail = match revision {
                    Revision(0) => format!("`{key}` holds nothing"),
                    Revision(revision) => format!("`{key}` is at revision \"{revision}\""),
                };
                return Err(Refusal::new(StatusCode::PRECONDITION_FAILED, detail));
            }
            if value.is_none() && revision == Revision(0) {
                return Err(nothing(key));
            }
            reads.push((key.clone(), revision));
        }
        match app.backend.state.apply(reads, vec![(key.clone(), value.clone())]).await {
            Ok(()) => return Ok(StatusCode::NO_CONTENT),
            Err(StateError::Conflict { .. }) => {} // it was changed between the two: look again
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a key must hold for a change of it.
#[derive(Default)]
struct Condition {
    matches: Option<Tags>,
    none_match: Option<Tags>,
}

enum Tags {
    Any,
    Of(Vec<Revision>),
}

impl Condition {
    fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        Ok(Self { matches: tags(headers, header::IF_MATCH)?, none_match: tags(headers, header::IF_NONE_MATCH)? })
    }

    fn is_none(&self) -> bool {
        self.matches.is_none() && self.none_match.is_none()
    }

    fn holds(&self, revision: Revision) -> bool {
        self.matches.as_ref().is_none_or(|tags| tags.have(revision))
            && self.none_match.as_ref().is_none_or(|tags| !tags.have(revision))
    }
}

impl Tags {
    fn have(&self, revision: Revision) -> bool {
        match self {
            Self::Any => revision != Revision(0),
            Self::Of(tags) => tags.contains(&revision),
        }
    }
}

fn tags(headers: &HeaderMap, name: HeaderName) -> Result<Option<Tags>, Refusal> {
    let wrong = || bad(format!("`{name}` is `*` or revisions in quotes, as the `ETag` of a value: `\"7\"`"));
    let mut tags = Vec::new();
    for value in headers.get_all(&name) {
        for tag in value.to_str().map_err(|_| wrong())?.split(',').map(str::trim) {
            if tag == "*" {
                return Ok(Some(Tags::Any));
            }
            let number = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
            // 0 stands for nothing in the contract, and no value ever has it as its `ETag`.
            tags.push(number.filter(|number| *number != 0).map(Revision).ok_or_else(wrong)?);
        }
    }
    Ok((!tags.is_empty()).then_some(Tags::Of(tags)))
}
