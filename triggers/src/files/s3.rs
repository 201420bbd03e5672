//! The protocol of S3, as far as a source needs it: listing, reading, copying and deleting the objects of one bucket.
//!
//! Requests are signed in their URLs, so that what is sent and what a function is given to fetch itself are signed by the
//! same few lines. An URL is a key for as long as it lasts, so none is in any message.

use bytes::Bytes;
use dunlin_events::{
    manifest::FilesTrigger,
    secrets::{SecretName, Secrets},
    source::SourceError,
};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rusty_s3::{
    Credentials, S3Action, UrlStyle, actions::ListObjectsV2, actions::list_objects_v2::ListObjectsV2Response,
};
use std::{
    borrow::Cow,
    error::Error as _,
    fmt::Write as _,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::timeout;

/// Until a connection stands, TLS included.
const CONNECT: Duration = Duration::from_secs(5);
/// Until the head of an answer.
const ANSWER: Duration = Duration::from_secs(60);
/// Between two pieces of a body.
const PIECE: Duration = Duration::from_secs(60);
/// How long the URL of a request of its own is good for.
const SIGNED: Duration = Duration::from_secs(900);
/// How often a request is sent that a server was too busy for, or that met a connection nobody listened to any more. All
/// requests come to the same when they are sent twice.
const ATTEMPTS: u32 = 4;
/// The pause before the second of them. It doubles.
const PAUSE: Duration = Duration::from_millis(100);
/// A listing of a thousand keys, each as long as keys may be, percent-encoded.
const LONGEST_LIST: usize = 16 << 20;
const LONGEST_ERROR: usize = 64 << 10;
/// Objects of a page.
const PAGE: usize = 1000;

type Pool = legacy::Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Connections to object stores, which all triggers share. None is made before it is needed.
#[derive(Clone, Default)]
pub(crate) struct Wire(Arc<OnceLock<Pool>>);

impl Wire {
    fn pool(&self) -> &Pool {
        self.0.get_or_init(|| {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let tls = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("ring supports the default versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
            let mut tcp = HttpConnector::new();
            tcp.enforce_http(false);
            tcp.set_nodelay(true);
            tcp.set_connect_timeout(Some(CONNECT));
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(tls)
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp);
            legacy::Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(20))
                .build(connector)
        })
    }
}

/// A bucket, and who asks.
pub(super) struct Remote {
    wire: Wire,
    bucket: rusty_s3::Bucket,
    credentials: Option<Credentials>,
    endpoint: String,
}

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) size: u64,
    /// What tells its content from any other, without quotes.
    pub(super) etag: String,
    /// In seconds since the Unix epoch.
    pub(super) modified: i64,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum S3Error {
    /// There is no connection.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The connection broke off before there was an answer.
    #[error("the connection broke off: {0}")]
    Cut(String),
    #[error("it doesn't answer in time")]
    Late,
    #[error("its answer broke off: {0}")]
    Broken(String),
    #[error("its answer is not one of S3: {0}")]
    Strange(String),
    /// It said no.
    #[error("it answered {status}{}", if .message.is_empty() { String::new() } else { format!(", {}: {}", .code, .message) })]
    Refused { status: StatusCode, code: String, message: String, region: Option<String> },
    /// The object is another by now.
    #[error("it has changed")]
    Changed,
    #[error("it isn't there")]
    Gone,
    /// It isn't even asked for.
    #[error("{0}")]
    Unfit(&'static str),
}

impl S3Error {
    /// Whether the same request may go well in a moment.
    fn is_passing(&self) -> bool {
        match self {
            Self::Cut(_) => true,
            Self::Refused { status, .. } => status.is_server_error() && *status != StatusCode::NOT_IMPLEMENTED,
            _ => false,
        }
    }
}

impl Remote {
    /// The bucket of a trigger, with the key as it is now.
    pub(super) fn open(trigger: &FilesTrigger, secrets: &dyn Secrets, wire: Wire) -> Result<Self, SourceError> {
        let name = trigger.bucket.as_ref().map(|bucket| bucket.as_str().to_owned()).unwrap_or_default();
        let endpoint = trigger.endpoint();
        let unfit = |error: &dyn std::fmt::Display| SourceError::new(format!("`{endpoint}` can't be called: {error}"));
        let url = url::Url::parse(&endpoint).map_err(|error| unfit(&error))?;
        // AWS has it in the host. Others may have no such names, nor certificates for them, but all have it in the path.
        let by_host = url.host_str().is_some_and(|host| host.ends_with(".amazonaws.com")) && !name.contains('.');
        let style = if by_host { UrlStyle::VirtualHost } else { UrlStyle::Path };
        let bucket =
            rusty_s3::Bucket::new(url, style, name, trigger.region().to_owned()).map_err(|error| unfit(&error))?;
        let known = |name: &SecretName| secrets.get(name).map_err(|error| SourceError::new(error.to_string()));
        let credentials = match (&trigger.access_key, &trigger.secret_key) {
            (Some(id), Some(key)) => Some(Credentials::new(known(id)?.expose(), known(key)?.expose())),
            _ => None,
        };
        Ok(Self { wire, bucket, credentials, endpoint })
    }

    /// A page of what begins with `prefix`, in the order of the keys.
    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<ListObjectsV2Response, S3Error> {
        let mut list = self.bucket.list_objects_v2(self.credentials.as_ref());
        list.with_prefix(prefix);
        list.with_max_keys(limit.unwrap_or(PAGE));
        if let Some(after) = after {
            list.with_continuation_token(after);
        }
        let response = self.send(list, &[]).await?;
        let body = whole(response, LONGEST_LIST).await?;
        let text = std::str::from_utf8(&body).map_err(|error| S3Error::Strange(error.to_string()))?;
        ListObjectsV2::parse_response(text).map_err(|error| S3Error::Strange(error.to_string()))
    }

    /// `None` for what isn't there.
    pub(super) async fn head(&self, key: &str) -> Result<Option<Head>, S3Error> {
        let response = match self.send(self.bucket.head_object(self.credentials.as_ref(), key), &[]).await {
            Ok(response) => response,
            Err(S3Error::Refused { status: StatusCode::NOT_FOUND, .. } | S3Error::Gone) => return Ok(None),
            Err(error) => return Err(error),
        };
        let headers = response.headers();
        let size = text_of(headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let modified = text_of(headers, header::LAST_MODIFIED).and_then(|text| httpdate::parse_http_date(text).ok());
        let (Some(size), Some(modified)) = (size, modified) else {
            return Err(S3Error::Strange("it tells no size or time of an object".into()));
        };
        let modified = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        let etag = unquoted(text_of(headers, header::ETAG).unwrap_or_default()).to_owned();
        Ok(Some(Head { size, etag, modified: i64::try_from(modified).unwrap_or(i64::MAX) }))
    }

    /// The content of an object from a byte on, if it is still the one with this ETag. It ends with an error where it
    /// breaks off.
    pub(super) async fn get(&self, key: &str, etag: &str, from: u64) -> Result<Content, S3Error> {
        let get = self.bucket.get_object(self.credentials.as_ref(), key);
        let mut headers = condition(etag);
        if from > 0 {
            headers.push((header::RANGE, format!("bytes={from}-")));
        }
        let response = match self.send(get, &headers).await {
            Ok(response) => response,
            Err(S3Error::Refused { status: StatusCode::NOT_FOUND, .. }) => return Err(S3Error::Gone),
            Err(S3Error::Refused { status: StatusCode::PRECONDITION_FAILED, .. }) => return Err(S3Error::Changed),
            Err(error) => return Err(error),
        };
        // Not every server knows conditions.
        if text_of(response.headers(), header::ETAG).is_some_and(|now| unquoted(now) != etag) {
            return Err(S3Error::Changed);
        }
        // Nor ranges; and some that do answer 200 with one.
        let ranged = response.headers().contains_key(header::CONTENT_RANGE);
        Ok(Content { body: response.into_body(), skip: if ranged { 0 } else { from } })
    }

    /// Copies an object within the bucket, if it is still the one with this ETag.
    pub(super) async fn copy(&self, key: &str, etag: &str, to: &str) -> Result<(), S3Error> {
        let source = format!("{}/{}", self.bucket.name(), encoded(key));
        let mut put = self.bucket.put_object(self.credentials.as_ref(), to);
        let mut headers = Vec::new();
        let quoted = condition(etag).pop().map(|(_, quoted)| ("x-amz-copy-source-if-match", quoted));
        for (name, value) in quoted.into_iter().chain([("x-amz-copy-source", source)]) {
            put.headers_mut().insert(name, value.clone());
            headers.push((HeaderName::from_static(name), value));
        }
        let response = match self.send(put, &headers).await {
            Err(S3Error::Refused { status: StatusCode::PRECONDITION_FAILED, .. }) => return Err(S3Error::Changed),
            sent => sent?,
        };
        let status = response.status();
        let body = whole(response, LONGEST_ERROR).await?;
        // A copy takes a while: that it has begun is answered before it is known how it ends.
        let text = String::from_utf8_lossy(&body);
        if text.contains("<Error>") { Err(refused(status, &text, None)) } else { Ok(()) }
    }

    /// Deletes an object, if it is still the one with this ETag, as far as the server knows conditions.
    pub(super) async fn delete(&self, key: &str, etag: &str) -> Result<(), S3Error> {
        let delete = || self.bucket.delete_object(self.credentials.as_ref(), key);
        let sent = match self.send(delete(), &condition(etag)).await {
            Err(S3Error::Refused { status: StatusCode::NOT_IMPLEMENTED, .. }) => self.send(delete(), &[]).await,
            sent => sent,
        };
        match sent {
            Ok(_) | Err(S3Error::Refused { status: StatusCode::NOT_FOUND, .. }) => Ok(()),
            Err(S3Error::Refused { status: StatusCode::PRECONDITION_FAILED, .. }) => Err(S3Error::Changed),
            Err(error) => Err(error),
        }
    }

    /// Where an object can be fetched by whoever has the URL, for so long.
    pub(super) fn url(&self, key: &str, expires: Duration) -> String {
        self.bucket.get_object(self.credentials.as_ref(), key).sign(expires).into()
    }

    async fn send<'a, A: S3Action<'a>>(
        &self,
        action: A,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, S3Error> {
        let mut pause = PAUSE;
        for _ in 1..ATTEMPTS {
            match self.send_once(&action, headers).await {
                Err(error) if error.is_passing() => tokio::time::sleep(pause).await,
                sent => return sent,
            }
            pause *= 2;
        }
        self.send_once(&action, headers).await
    }

    async fn send_once<'a, A: S3Action<'a>>(
        &self,
        action: &A,
        headers: &[(HeaderName, String)],
    ) -> Result<Response<Incoming>, S3Error> {
        let method = Method::from_bytes(A::METHOD.to_str().as_bytes()).expect("these are methods");
        let mut request = Request::builder().method(method).uri(String::from(action.sign(SIGNED)));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new()).map_err(|error| S3Error::Strange(error.to_string()))?;
        let response = timeout(ANSWER, self.wire.pool().request(request)).await.map_err(|_| S3Error::Late)?;
        let response = response.map_err(|error| unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let region = text_of(response.headers(), HeaderName::from_static("x-amz-bucket-region")).map(str::to_owned);
        // An answer to HEAD has no body.
        let body = whole(response, LONGEST_ERROR).await.unwrap_or_default();
        Err(refused(status, &String::from_utf8_lossy(&body), region))
    }

    /// Why the bucket can't be used, with the key of the manifest that is to blame, as a JSON Pointer, and the fix.
    pub(super) fn explain(&self, error: &S3Error) -> (&'static str, SourceError) {
        let (endpoint, name, region) = (&self.endpoint, self.bucket.name(), self.bucket.region());
        let said = |message: String, help: String| SourceError::new(message).help(help);
        let S3Error::Refused { status, code, message, region: other } = error else {
            let message = format!("the object store `{endpoint}` can't be used: {error}");
            let help = "is it there, and is this its address? `endpoint` is without the bucket";
            return ("/endpoint", said(message, help.into()));
        };
        let wrong_region = || {
            let other = other.as_deref().filter(|other| *other != region);
            let help = match other {
                Some(other) => format!("write `region: {other}`"),
                None => "write the region the bucket is in: `region: eu-central-1`".to_owned(),
            };
            let told = if message.is_empty() { String::new() } else { format!(": {message}") };
            ("/region", said(format!("the bucket `{name}` is not in the region `{region}`{told}"), help))
        };
        match &**code {
            "NoSuchBucket" => {
                ("/bucket", said(format!("`{endpoint}` has no bucket `{name}`"), "make it, or name another".into()))
            }
            // One server has a code of its own for a key it doesn't know.
            "InvalidAccessKeyId" | "XAdminUserNotFound" => (
                "/access_key",
                said(
                    format!("`{endpoint}` doesn't know this access key"),
                    "`access_key` names the secret with the key's id: is its value right?".into(),
                ),
            ),
            "SignatureDoesNotMatch" => (
                "/secret_key",
                said(
                    format!("`{endpoint}` refuses the access key's secret"),
                    "`secret_key` names the secret with the key itself: is its value right?".into(),
                ),
            ),
            "RequestTimeTooSkewed" | "RequestExpired" => (
                "",
                said(
                    format!("`{endpoint}` has another time than this machine"),
                    "set the clock of this machine".into(),
                ),
            ),
            "PermanentRedirect" | "TemporaryRedirect" | "IllegalLocationConstraintException" => wrong_region(),
            "AuthorizationQueryParametersError" | "AuthorizationHeaderMalformed" if message.contains("region") => {
                wrong_region()
            }
            _ if status.is_redirection() => wrong_region(),
            "AccessDenied" | "AllAccessDisabled" => {
                let help = if self.credentials.is_none() {
                    "name the secrets with a key that may: `access_key: S3_ACCESS_KEY` and `secret_key: S3_SECRET_KEY`"
                } else {
                    "the key needs `s3:ListBucket` on the bucket and `s3:GetObject` on its objects; to move or delete, also \
                     `s3:PutObject` and `s3:DeleteObject`"
                };
                ("/bucket", said(format!("the bucket `{name}` can't be read: {message}"), help.into()))
            }
            _ => ("/bucket", SourceError::new(format!("the bucket `{name}` can't be used: {error}"))),
        }
    }
}

/// The content of an object, piece by piece.
pub(super) struct Content {
    body: Incoming,
    /// Bytes before the place that was asked for.
    skip: u64,
}

impl Content {
    /// The next piece, which isn't empty. `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, S3Error> {
        loop {
            let frame = timeout(PIECE, self.body.frame()).await.map_err(|_| S3Error::Late)?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| S3Error::Broken(error.to_string()))?;
            let Ok(mut data) = frame.into_data() else { continue };
            let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(data.len());
            self.skip -= skipped as u64;
            let data = data.split_off(skipped);
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }
}

async fn whole(response: Response<Incoming>, most: usize) -> Result<Bytes, S3Error> {
    let body = timeout(ANSWER, Limited::new(response.into_body(), most).collect()).await.map_err(|_| S3Error::Late)?;
    Ok(body.map_err(|error| S3Error::Broken(error.to_string()))?.to_bytes())
}

fn unreachable(error: &legacy::Error) -> S3Error {
    // What says most is innermost.
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        said = inner.to_string();
        source = inner.source();
    }
    if error.is_connect() { S3Error::Unreachable(said) } else { S3Error::Cut(said) }
}

/// What the XML of an error says, as far as it is any.
pub(super) fn refused(status: StatusCode, body: &str, region: Option<String>) -> S3Error {
    let element = |name: &str| {
        let (_, rest) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = rest.split_once(&format!("</{name}>"))?;
        Some(text.replace("&#34;", "`").replace("&quot;", "`").chars().take(300).collect::<String>())
    };
    let code = element("Code").unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason").to_owned());
    S3Error::Refused {
        status,
        code,
        message: element("Message").unwrap_or_default(),
        region: element("Region").or(region),
    }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// That an object is the one with this ETag. Some stores have objects without.
fn condition(etag: &str) -> Vec<(HeaderName, String)> {
    if etag.is_empty() { Vec::new() } else { vec![(header::IF_MATCH, format!("\"{etag}\""))] }
}

/// An ETag without its quotes: listings of some servers have none.
pub(super) fn unquoted(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

/// Percent-encodes a key for a path.
pub(super) fn encoded(key: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/');
    if key.bytes().all(plain) {
        return key.into();
    }
    let mut text = String::with_capacity(key.len() * 2);
    for byte in key.bytes() {
        if plain(byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text.into()
}
