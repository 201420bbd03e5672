//! Who may use the admin API.
//!
//! With a token, whoever has it. Without one, whoever is on this machine, which a web page open in a browser on this
//! machine must not count as: such a page can post anywhere (cross-site requests), and can give a name of its own the
//! address 127.0.0.1 and then read the answers too (DNS rebinding). Browsers say where a request comes from and which
//! name it was sent to, so both are looked at.

use super::refusal::Refusal;
use dunlin_events::secrets::SecretValue;
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri, header, uri::Authority};
use std::net::IpAddr;
use subtle::ConstantTimeEq;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

pub(super) struct Guard {
    pub(super) token: Option<SecretValue>,
}

impl Guard {
    pub(super) fn admit<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        match &self.token {
            Some(_) if request.uri().path() == "/health" => Ok(()),
            Some(token) => bearer(token, request.headers()),
            None => local(request.uri(), request.headers()),
        }
    }
}

fn bearer(token: &SecretValue, headers: &HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, given)| given.trim());
    match given {
        // Every byte is looked at, so how long it takes doesn't tell how much was right.
        Some(given) if given.as_bytes().ct_eq(token.expose().as_bytes()).into() => Ok(()),
        Some(_) => Err(Refusal::new(StatusCode::UNAUTHORIZED, "the token is not the platform's")),
        None => Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "a token is needed: send it as `authorization: Bearer <token>`, or give `dunlin` the option `--token`",
        )),
    }
}

fn local(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let refuse = |detail: String| Err(Refusal::new(StatusCode::FORBIDDEN, detail));
    let named: Vec<_> = headers.get_all(header::HOST).iter().collect();
    let named: Option<Vec<_>> = named.into_iter().map(|host| Authority::try_from(host.as_bytes()).ok()).collect();
    // HTTP/2 and proxies put the name into the URI, where it counts more than the header.
    let names: Vec<_> = uri.authority().cloned().into_iter().chain(named.iter().flatten().cloned()).collect();
    let host = match names.first() {
        Some(host) if named.is_some_and(|named| named.len() < 2) && names.iter().all(is_loopback) => host,
        _ => {
            return refuse(
                "without a token the platform answers only requests to `localhost` or a loopback address, \
                 by that name: start it with a token to reach it by another"
                    .into(),
            );
        }
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let from = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
        if !from.is_some_and(|(_, from)| from.eq_ignore_ascii_case(host.as_str())) {
            return refuse(format!("the request comes from a web page of another origin, {origin:?}"));
        }
    }
    match headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => refuse("the request comes from a web page of another site".into()),
    }
}

fn is_loopback(host: &Authority) -> bool {
    let name = host.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status a request with these headers is refused with; 200 when it isn't.
    fn status(token: Option<&str>, uri: &str, headers: &[(&str, &str)]) -> u16 {
        let guard = Guard { token: token.map(|token| SecretValue::new(token.into())) };
        let mut request = Request::post(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard.admit(&request.body(()).unwrap()).err().map_or(200, |refusal| refusal.document.status)
    }

    #[test]
    fn a_token_is_asked_of_everything_but_health() {
        let token = Some("correct horse");
        for (authorization, expected) in [
            ("Bearer correct horse", 200),
            ("bearer correct horse", 200),
            ("Bearer correct horsf", 401),
            ("Bearer correct", 401),
            ("Bearer correct horse battery", 401),
            ("Bearer", 401),
            ("Basic correct horse", 401),
            ("correct horse", 401),
        ] {
            let headers = [("authorization", authorization), ("host", "dunlin.example.com"), ("origin", "https://a.b")];
            assert_eq!(status(token, "/api/functions", &headers), expected, "{authorization}");
        }
        assert_eq!(status(token, "/api/functions", &[("host", "localhost")]), 401);
        assert_eq!(status(token, "/health", &[("host", "dunlin.example.com")]), 200);
        assert_eq!(status(token, "/healthy", &[]), 401);
    }

    #[test]
    fn without_a_token_only_this_machine_is_answered() {
        for host in ["localhost", "LOCALHOST:8081", "127.0.0.1:8081", "127.9.9.9", "[::1]:8081", "[::1]"] {
            assert_eq!(status(None, "/api/functions", &[("host", host)]), 200, "{host}");
            assert_eq!(status(None, &format!("http://{host}/"), &[]), 200, "{host}, as HTTP/2 says it");
        }
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "0.0.0.0", "", "127.0.0.1.nip.io"] {
            assert_eq!(status(None, "/api/functions", &[("host", host)]), 403, "{host}");
        }
        assert_eq!(status(None, "/health", &[]), 403, "no host at all");
        assert_eq!(status(None, "/", &[("host", "localhost"), ("host", "evil.example")]), 403);
        assert_eq!(status(None, "http://localhost/", &[("host", "localhost")]), 200);
        assert_eq!(status(None, "http://localhost/", &[("host", "evil.example")]), 403);
        assert_eq!(status(None, "http://evil.example/", &[("host", "localhost")]), 403);
    }

    #[test]
    fn without_a_token_no_web_page_of_another_origin_is_answered() {
        let with = |name, value| status(None, "/api/deployments", &[("host", "localhost:8081"), (name, value)]);
        assert_eq!(with("origin", "http://localhost:8081"), 200);
        // Another port of this machine is another origin: a deployed function's page, for example.
        for origin in ["http://localhost:8080", "http://127.0.0.1:8081", "https://evil.example", "null", "file://"] {
            assert_eq!(with("origin", origin), 403, "{origin}");
        }
        assert_eq!(with("sec-fetch-site", "same-origin"), 200);
        assert_eq!(with("sec-fetch-site", "none"), 200, "typed into the address line");
        assert_eq!(with("sec-fetch-site", "same-site"), 403);
        assert_eq!(with("sec-fetch-site", "cross-site"), 403);
    }
}
