//! Twilio's signature: over the address it calls and the form it sends, not over the body's bytes.
//!
//! <https://www.twilio.com/docs/usage/webhooks/webhooks-security>

use super::scheme::{BASE64, Call, Unverified, any, is_signed};
use base64::Engine as _;
use dunlin_events::{manifest::PublicUrl, secrets::SecretValue};
use http::{HeaderName, header::CONTENT_TYPE};
use ring::{
    digest::{self, SHA256},
    hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256},
};
use std::collections::BTreeSet;
use subtle::ConstantTimeEq as _;

pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("x-twilio-signature");
/// With it a rule of the account says how calls are signed.
const SETTINGS: HeaderName = HeaderName::from_static("x-twilio-webhooks-signature-settings");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const BODY_HASH: &str = "bodySHA256";

pub(super) fn verify(call: &Call<'_>, url: Option<&PublicUrl>, secrets: &[SecretValue]) -> Result<(), Unverified> {
    let headers = &call.head.headers;
    let given = headers.get(SIGNATURE).ok_or(Unverified::Missing(SIGNATURE))?;
    let malformed = || Unverified::Malformed { header: SIGNATURE, prefix: String::new() };
    let given = [BASE64.decode(given.as_bytes()).map_err(|_| malformed())?];
    let settings = headers.get(SETTINGS).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let algorithm = if settings.contains("HMAC_SHA256") { HMAC_SHA256 } else { HMAC_SHA1_FOR_LEGACY_USE_ONLY };

    let address = address(call, url);
    let texts: Vec<_> = spellings(&address).iter().map(|address| signed(call, address)).collect();
    let fits = |secret: &SecretValue| {
        let key = hmac::Key::new(algorithm, secret.expose().as_bytes());
        texts.iter().fold(false, |found, text| found | is_signed(&key, &[text.as_bytes()], &given))
    };
    if !any(secrets, fits) {
        return Err(Unverified::Address { url: address });
    }
    match body_hash(call) {
        Some(hash) => {
            let body = hex::encode(digest::digest(&SHA256, call.body));
            let same = bool::from(body.as_bytes().ct_eq(hash.to_ascii_lowercase().as_bytes()));
            if same { Ok(()) } else { Err(Unverified::Body) }
        }
        None if call.body.is_empty() || is_form(call) => Ok(()),
        None => Err(Unverified::Unsigned),
    }
}

/// The address Twilio has called, as far as it can be known here: behind a proxy that changes it, only the manifest says.
///
/// Whoever calls could say any host, but has no signature for another than Twilio was told.
pub(super) fn address(call: &Call<'_>, url: Option<&PublicUrl>) -> String {
    let uri = &call.head.uri;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    match url {
        Some(url) if url.has_path() => format!("{url}{query}"),
        Some(url) => format!("{url}{}{query}", uri.path()),
        None => {
            let forwarded = call.head.headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok());
            let scheme = forwarded.filter(|scheme| matches!(*scheme, "http" | "https")).or(uri.scheme_str());
            let host = uri.authority().map_or("", |authority| authority.as_str());
            format!("{}://{host}{}{query}", scheme.unwrap_or("http"), uri.path())
        }
    }
}

/// An address with and without its port: Twilio signs now the one, now the other.
fn spellings(address: &str) -> Vec<String> {
    let mut spellings = vec![address.to_owned()];
    if let Some((scheme, rest)) = address.split_once("://") {
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        spellings.push(match host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit())) {
            Some((host, _)) => format!("{scheme}://{host}{path}"),
            None => format!("{scheme}://{host}:{}{path}", if scheme == "https" { 443 } else { 80 }),
        });
    }
    spellings
}

/// What is signed: the address, and each parameter of the form once, in order. With its hash in the address, a body that is
/// no form is covered by that.
pub(super) fn signed(call: &Call<'_>, address: &str) -> String {
    let mut text = address.to_owned();
    if is_form(call) {
        for (name, value) in form_urlencoded::parse(call.body).collect::<BTreeSet<_>>() {
            text += &name;
            text += &value;
        }
    }
    text
}

fn is_form(call: &Call<'_>) -> bool {
    let content_type = call.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    super::event::is_form(content_type) && body_hash(call).is_none()
}

fn body_hash(call: &Call<'_>) -> Option<String> {
    let query = call.head.uri.query().unwrap_or_default();
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    parameters.find(|(name, _)| name == BODY_HASH).map(|(_, hash)| hash.into_owned())
}
