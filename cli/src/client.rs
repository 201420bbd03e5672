//! The client of a running platform's admin API. It knows addresses, tokens, JSON and what failures mean; what is asked is
//! the commands' business.

use crate::report::Failure;
use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use dunlin_gateway::api::ProblemDocument;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore};
use serde::{Serialize, de::DeserializeOwned};
use std::{io, sync::Arc, time::Duration};

/// Where a platform runs that was started without further arguments.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:8081";

/// An answer that is no stream is read up to this size.
const MOST_ANSWER: usize = 64 << 20;

/// For what the platform answers from memory or disk.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// For what makes it compile.
const COMPILING: Duration = Duration::from_secs(600);

/// Which platform to talk to.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Platform")]
pub(crate) struct ServerArgs {
    /// The platform's admin API [default: http://127.0.0.1:8081]
    #[arg(long, value_name = "URL", env = "DUNLIN_SERVER")]
    pub(crate) server: Option<String>,
    /// The platform's token. Prefer the variable: others on this machine see the command line.
    #[arg(long, value_name = "TOKEN", env = "DUNLIN_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

pub(crate) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// A connection pool to one platform.
#[derive(Clone)]
pub(crate) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, RequestBody>,
    server: String,
    token: Option<HeaderValue>,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The platform said no.
    Problem(Box<ProblemDocument>),
    /// Nothing that makes sense was heard from it.
    Failed(anyhow::Error),
}

impl Client {
    pub(crate) fn new(args: &ServerArgs) -> Result<Self, Failure> {
        let server = args.server.as_deref().filter(|server| !server.is_empty()).unwrap_or(DEFAULT_SERVER);
        let help = "write it as `http://127.0.0.1:8081` or `https://dunlin.example.com`";
        let wrong = || Failure::refused(format!("`{server}` is not a server's address")).help(help);
        let uri: Uri = server.parse().map_err(|_| wrong())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() {
            return Err(wrong());
        }
        let token = args.token.as_deref().filter(|token| !token.is_empty()).map(|token| {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            let mut value = value.map_err(|_| Failure::refused("the token holds characters that no token has"))?;
            value.set_sensitive(true);
            Ok::<_, Failure>(value)
        });
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(Duration::from_secs(5)));
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls(uri.scheme_str() == Some("https"))?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        // The platform ends a connection after ten seconds on which nothing comes; one that old isn't tried again.
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        let http = builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(5)).build(https);
        Ok(Self { http, server: server.trim_end_matches('/').to_owned(), token: token.transpose()? })
    }

    /// The platform's address as it was given.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// A request to a path of the API, without a body yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> http::request::Builder {
        let builder = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(header::USER_AGENT, concat!("dunlin/", env!("CARGO_PKG_VERSION")));
        match &self.token {
            Some(token) => builder.header(header::AUTHORIZATION, token),
            None => builder,
        }
    }

    /// Sends a request and waits for the head of its response, whatever its status.
    pub(crate) async fn send(&self, request: Request<RequestBody>) -> anyhow::Result<Response<Incoming>> {
        self.http.request(request).await.map_err(|error| self.unreachable(error).into())
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CallError> {
        self.call(self.request(Method::GET, path), empty(), SOON).await
    }

    pub(crate) async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, body: &B) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).context("the request can't be written as JSON")?;
        let request = self.request(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        self.call(request, full(body.into()), COMPILING).await
    }

    /// Uploads bytes; the body may be a stream that tells how far it is.
    pub(crate) async fn put<T: DeserializeOwned>(&self, path: &str, body: RequestBody) -> Result<T, CallError> {
        let request = self.request(Method::PUT, path).header(header::CONTENT_TYPE, "application/wasm");
        self.call(request, body, COMPILING).await
    }

    pub(crate) async fn put_json<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).context("the request can't be written as JSON")?;
        let request = self.request(Method::PUT, path).header(header::CONTENT_TYPE, "application/json");
        self.call(request, full(body.into()), SOON).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), CallError> {
        self.bytes(self.request(Method::DELETE, path), empty(), SOON).await.map(|_| ())
    }

    /// Sends a request and reads the JSON it is answered with.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        request: http::request::Builder,
        body: RequestBody,
        patience: Duration,
    ) -> Result<T, CallError> {
        let bytes = self.bytes(request, body, patience).await?;
        serde_json::from_slice(&bytes).map_err(|error| CallError::Failed(self.strange().because(error).into()))
    }

    /// The body of a response that says that all went well.
    pub(crate) async fn bytes(
        &self,
        request: http::request::Builder,
        body: RequestBody,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let request = request.body(body).context("the request can't be built")?;
        let answer = async {
            let (head, body) = self.send(request).await?.into_parts();
            let body = Limited::new(body, MOST_ANSWER).collect().await;
            let body = body.map_err(|error| self.broken_off().because(error))?.to_bytes();
            anyhow::Ok((head.status, body))
        };
        let (status, body) = tokio::time::timeout(patience, answer).await.map_err(|_| {
            let what =
                format!("the platform at `{}` did not answer within {} seconds", self.server, patience.as_secs());
            anyhow::Error::from(Failure::unreachable(what).help("`dunlin doctor` looks closer"))
        })??;
        if status.is_success() { Ok(body) } else { Err(self.problem(status, &body)) }
    }

    /// What a response that is no success means.
    pub(crate) fn problem(&self, status: StatusCode, body: &[u8]) -> CallError {
        match serde_json::from_slice::<ProblemDocument>(body) {
            Ok(problem) => CallError::Problem(Box::new(problem)),
            Err(_) => CallError::Failed(self.strange().because(format!("it answered `{status}`")).into()),
        }
    }

    fn unreachable(&self, error: legacy::Error) -> Failure {
        if !error.is_connect() {
            return self.broken_off().because(root(&error));
        }
        let what = format!("no platform answers at `{}`", self.server);
        let help = if self.server == DEFAULT_SERVER {
            "start one with `dunlin up`, or name another with `--server URL` or `DUNLIN_SERVER`"
        } else {
            "look at `--server` and `DUNLIN_SERVER`, and whether the platform runs there"
        };
        Failure::unreachable(what).help(help).because(root(&error))
    }

    pub(crate) fn broken_off(&self) -> Failure {
        Failure::unreachable(format!("the connection to `{}` broke off", self.server))
    }

    fn strange(&self) -> Failure {
        Failure::unreachable(format!("what answers at `{}` is not a Dunlin platform of this version", self.server))
            .help("`--server` takes the address of the admin API, `127.0.0.1:8081` unless `dunlin up --admin` says otherwise")
    }
}

/// The system's certificates decide whom to trust, so that a company's own authority works, and `SSL_CERT_FILE`. They are
/// read only when needed: it takes milliseconds, and a machine may have none.
fn tls(needed: bool) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    if needed {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let cause = found.errors.first().map_or_else(|| "none were found".to_owned(), ToString::to_string);
            let failure = Failure::new("this system has no certificates to check `https` servers with").because(cause);
            return Err(failure.help("install them (`ca-certificates`), or name a file of them in `SSL_CERT_FILE`"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider knows the protocol versions it comes with");
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The innermost error: hyper's outer ones only say that connecting failed.
fn root(error: &legacy::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

pub(crate) fn empty() -> RequestBody {
    full(Bytes::new())
}

pub(crate) fn full(bytes: Bytes) -> RequestBody {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// A text as one segment of a URL's path.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':');
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl From<anyhow::Error> for CallError {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<CallError> for anyhow::Error {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Failed(error) => error,
            CallError::Problem(problem) => failure(&problem).into(),
        }
    }
}

fn failure(problem: &ProblemDocument) -> Failure {
    let what = problem.detail.as_ref().unwrap_or(&problem.title);
    match problem.status {
        401 => Failure::refused("the platform wants a token, and this is none it knows")
            .help("give it with `DUNLIN_TOKEN` or `--token`: what `dunlin up` was started with")
            .because(what.clone()),
        400..=499 if problem.errors.is_empty() => Failure::refused(what.clone()),
        400..=499 => {
            let problems = problem.errors.iter().map(|error| &error.problem);
            let causes: Vec<_> = problems.clone().map(|problem| problem.message.as_str()).collect();
            let failure = Failure::refused(what.clone()).because(causes.join("; "));
            match problems.filter_map(|problem| problem.help.as_ref()).next() {
                Some(help) => failure.help(help),
                None => failure,
            }
        }
        _ => Failure::new(what.clone()).help("the platform's own log tells more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(server: &str) -> Result<Client, Failure> {
        Client::new(&ServerArgs { server: Some(server.into()), token: Some("t".into()) })
    }

    #[test]
    fn addresses_are_checked_and_may_have_a_path() {
        for bad in ["localhost:8081", "127.0.0.1", "ftp://a", "http://", "http://a?b"] {
            assert!(client(bad).is_err(), "{bad}");
        }
        let request = client("https://example.com/dunlin/").unwrap().request(Method::GET, "/health").body(()).unwrap();
        assert_eq!(request.uri(), "https://example.com/dunlin/health");
        assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer t");
        assert!(!format!("{request:?}").contains("Bearer t"), "a token is never printed");
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_the_fix() {
        // A port that was free a moment ago, on loopback: connecting is refused.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = client(&format!("http://127.0.0.1:{port}")).unwrap();
        let error = anyhow::Error::from(client.get::<serde_json::Value>("/health").await.unwrap_err());
        assert!(
            format!("{error:#}").starts_with(&format!("no platform answers at `http://127.0.0.1:{port}`: ")),
            "{error:#}"
        );
    }

    #[test]
    fn segments_are_escaped() {
        assert_eq!(segment("sha256:ab"), "sha256:ab");
        assert_eq!(segment("a/b?c ä"), "a%2Fb%3Fc%20%C3%A4");
    }
}
