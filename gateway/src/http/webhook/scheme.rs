//! How a call shows whom it is from: by a signature over its body, a token, or a password.
//!
//! A [`Signature`] says which header holds what and what is signed, and one reader verifies all of them. Everything that is
//! secret is compared in the same time whatever differs, and every secret is tried, whichever matches.

use super::twilio;
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use bytes::Bytes;
use dunlin_events::{
    manifest::{Encoding, Piece, PublicUrl, SignedText, Timestamp},
    secrets::SecretValue,
};
use http::{HeaderMap, HeaderName, header::AUTHORIZATION, request};
use ring::{
    digest::{self, SHA256},
    hmac,
    signature::{ED25519, UnparsedPublicKey},
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use subtle::ConstantTimeEq as _;

/// Some services leave the padding out.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Times from here on are in milliseconds: as seconds they are in the year 5138.
const MILLISECONDS: u64 = 100_000_000_000;

/// A call that was read whole.
pub(super) struct Call<'a> {
    /// Its URI is absolute.
    pub(super) head: &'a request::Parts,
    pub(super) body: &'a Bytes,
}

/// A way to show whom a call is from.
pub(super) enum Scheme {
    Signature(Signature),
    /// The secret itself, in a header.
    Token {
        header: HeaderName,
        prefix: String,
    },
    /// A user name and a password (RFC 7617).
    Basic,
    Twilio {
        url: Option<PublicUrl>,
    },
}

/// A signature in a header.
pub(super) struct Signature {
    pub(super) header: HeaderName,
    /// What it begins with there. The header may hold several, and other things beside it, with commas or spaces between.
    pub(super) prefix: String,
    pub(super) algorithm: hmac::Algorithm,
    pub(super) encoding: Encoding,
    pub(super) key: Key,
    pub(super) signed: SignedText,
    pub(super) timestamp: Option<Timestamp>,
    /// The header `{id}` stands for.
    pub(super) id: Option<HeaderName>,
}

/// How a secret becomes a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// By its bytes.
    Text,
    /// As Standard Webhooks writes keys: `whsec_` and base64, or `whpk_` for the public key of Ed25519.
    Standard,
}

/// Why a call is not taken for one of its service. What it says is for the operator alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unverified {
    #[error("it has no `{0}`")]
    Missing(HeaderName),
    #[error("its `{header}` holds nothing that begins with `{prefix}`")]
    Malformed { header: HeaderName, prefix: String },
    #[error("its timestamp `{0}` is no number of seconds or milliseconds since 1970")]
    Timestamp(String),
    #[error("its signature is right, but of {} {}, and {} are allowed", humantime::format_duration(*.age), if *.ahead { "from now" } else { "ago" }, humantime::format_duration(*.tolerance))]
    Stale { age: Duration, ahead: bool, tolerance: Duration },
    #[error("its signature matches no secret")]
    Signature,
    #[error("its token matches no secret")]
    Token,
    #[error("its signature matches no secret and `{url}`")]
    Address { url: String },
    #[error("its signature doesn't cover its body")]
    Unsigned,
    #[error("its body is another than was signed")]
    Body,
}

impl Unverified {
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Malformed { .. } => "malformed",
            Self::Timestamp(_) => "timestamp",
            Self::Stale { .. } => "stale",
            Self::Signature | Self::Token | Self::Address { .. } => "signature",
            Self::Unsigned => "unsigned",
            Self::Body => "body",
        }
    }
}

impl Scheme {
    /// The header without which a call can't be one of the service: it is refused before its body is read.
    pub(super) fn header(&self) -> HeaderName {
        match self {
            Self::Signature(Signature { header, .. }) | Self::Token { header, .. } => header.clone(),
            Self::Basic => AUTHORIZATION,
            Self::Twilio { .. } => twilio::SIGNATURE,
        }
    }

    pub(super) fn verify(
        &self,
        call: &Call<'_>,
        secrets: &[SecretValue],
        tolerance: Duration,
        now: SystemTime,
    ) -> Result<(), Unverified> {
        let token = |name: &HeaderName| call.head.headers.get(name).ok_or_else(|| Unverified::Missing(name.clone()));
        match self {
            Self::Signature(signature) => signature.verify(call, secrets, tolerance, now),
            Self::Token { header, prefix } => {
                let given = strip(token(header)?.as_bytes(), prefix).ok_or_else(|| malformed(header, prefix))?;
                if matches_any(secrets, given) { Ok(()) } else { Err(Unverified::Token) }
            }
            Self::Basic => {
                let given = strip(token(&AUTHORIZATION)?.as_bytes(), "Basic ");
                let given = given.and_then(|given| BASE64.decode(given.trim_ascii()).ok());
                let given = given.ok_or_else(|| malformed(&AUTHORIZATION, "Basic "))?;
                if matches_any(secrets, &given) { Ok(()) } else { Err(Unverified::Token) }
            }
            Self::Twilio { url } => twilio::verify(call, url.as_ref(), secrets),
        }
    }

    /// An id made of what a call has signed, for one whose service gives it none: a repeated call has the same. `None`
    /// where nothing is signed.
    pub(super) fn content_id(&self, call: &Call<'_>) -> Option<String> {
        let mut hash = digest::Context::new(&SHA256);
        match self {
            Self::Signature(signature) => signature.signed(call).ok()?.iter().for_each(|piece| hash.update(piece)),
            Self::Twilio { url } => hash.update(twilio::signed(call, &twilio::address(call, url.as_ref())).as_bytes()),
            Self::Token { .. } | Self::Basic => return None,
        }
        Some(hex::encode(hash.finish()))
    }
}

fn malformed(header: &HeaderName, prefix: &str) -> Unverified {
    Unverified::Malformed { header: header.clone(), prefix: prefix.to_owned() }
}

/// What follows a prefix. The names of schemes have no case.
fn strip<'a>(text: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}

/// Whether a text is one of the secrets. Hashed first: the time of a comparison tells lengths.
fn matches_any(secrets: &[SecretValue], given: &[u8]) -> bool {
    let given = digest::digest(&SHA256, given);
    any(secrets, |secret| digest::digest(&SHA256, secret.expose().as_bytes()).as_ref().ct_eq(given.as_ref()).into())
}

/// Whether some secret fits. All are tried: which one it was is nobody's business.
pub(super) fn any(secrets: &[SecretValue], fits: impl Fn(&SecretValue) -> bool) -> bool {
    secrets.iter().fold(false, |found, secret| found | fits(secret))
}

/// Whether some of these is the HMAC of pieces.
pub(super) fn is_signed(key: &hmac::Key, pieces: &[&[u8]], signatures: &[Vec<u8>]) -> bool {
    let mut hmac = hmac::Context::with_key(key);
    pieces.iter().for_each(|piece| hmac.update(piece));
    let expected = hmac.sign();
    signatures.iter().fold(false, |found, given| found | bool::from(expected.as_ref().ct_eq(given)))
}

impl Signature {
    fn verify(
        &self,
        call: &Call<'_>,
        secrets: &[SecretValue],
        tolerance: Duration,
        now: SystemTime,
    ) -> Result<(), Unverified> {
        let headers = &call.head.headers;
        if !headers.contains_key(&self.header) {
            return Err(Unverified::Missing(self.header.clone()));
        }
        let signatures = self.signatures(headers, &self.prefix);
        let asymmetric = match self.key {
            Key::Text => Vec::new(),
            Key::Standard => self.signatures(headers, "v1a,"),
        };
        if signatures.is_empty() && asymmetric.is_empty() {
            return Err(malformed(&self.header, &self.prefix));
        }
        let signed = self.signed(call)?;
        let fits = |secret: &SecretValue| match (self.key, secret.expose()) {
            (Key::Text, text) => is_signed(&hmac::Key::new(self.algorithm, text.as_bytes()), &signed, &signatures),
            (Key::Standard, text) => match standard_key(text) {
                Some(StandardKey::Shared(key)) => {
                    is_signed(&hmac::Key::new(self.algorithm, &key), &signed, &signatures)
                }
                Some(StandardKey::Public(key)) => {
                    let (key, message) = (UnparsedPublicKey::new(&ED25519, key), signed.concat());
                    asymmetric.iter().any(|signature| key.verify(&message, signature).is_ok())
                }
                None => false,
            },
        };
        if !any(secrets, fits) {
            return Err(Unverified::Signature);
        }
        match &self.timestamp {
            // Only now: what is wrong with the time of a forged call helps nobody.
            Some(place) => fresh(self.time(headers, place)?, tolerance, now),
            None => Ok(()),
        }
    }

    /// What the header holds behind a prefix.
    fn signatures(&self, headers: &HeaderMap, prefix: &str) -> Vec<Vec<u8>> {
        let texts = self.parts(headers).filter_map(|part| part.strip_prefix(prefix));
        texts
            .filter_map(|text| match self.encoding {
                Encoding::Hex => hex::decode(text).ok(),
                Encoding::Base64 => BASE64.decode(text).ok(),
            })
            .collect()
    }

    /// What the signature's header is made of.
    fn parts<'a>(&self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        // Where one of them is part of the prefix it separates nothing.
        let [comma, space] = [',', ' '].map(|c| !self.prefix.contains(c));
        let texts = headers.get_all(&self.header).iter().filter_map(|value| value.to_str().ok());
        texts.flat_map(move |text| text.split(move |c| (c == ',' && comma) || (c == ' ' && space))).map(str::trim)
    }

    fn time<'a>(&self, headers: &'a HeaderMap, place: &Timestamp) -> Result<&'a str, Unverified> {
        match place {
            Timestamp::Header(name) => text(headers, name),
            Timestamp::Part(prefix) => {
                let time = self.parts(headers).find_map(|part| part.strip_prefix(prefix.as_str()));
                time.ok_or_else(|| malformed(&self.header, prefix))
            }
        }
    }

    /// What is signed.
    fn signed<'a>(&'a self, call: &Call<'a>) -> Result<Vec<&'a [u8]>, Unverified> {
        let headers = &call.head.headers;
        let piece = |piece: &'a Piece| match piece {
            Piece::Text(text) => Ok(text.as_bytes()),
            Piece::Body => Ok(&call.body[..]),
            // A manifest that has the one without the other was refused.
            Piece::Timestamp => {
                self.timestamp.as_ref().map_or(Ok(""), |place| self.time(headers, place)).map(str::as_bytes)
            }
            Piece::Id => self.id.as_ref().map_or(Ok(""), |name| text(headers, name)).map(str::as_bytes),
        };
        self.signed.pieces().iter().map(piece).collect()
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, Unverified> {
    headers.get(name).and_then(|value| value.to_str().ok()).ok_or_else(|| Unverified::Missing(name.clone()))
}

/// A key of Standard Webhooks.
pub(super) enum StandardKey {
    Shared(Vec<u8>),
    Public(Vec<u8>),
}

/// Reads a key of Standard Webhooks; without `whsec_` it is taken for one all the same, as their libraries do.
pub(super) fn standard_key(text: &str) -> Option<StandardKey> {
    match text.trim().strip_prefix("whpk_") {
        Some(key) => BASE64.decode(key).ok().filter(|key| key.len() == 32).map(StandardKey::Public),
        None => {
            let key = text.trim();
            let key = BASE64.decode(key.strip_prefix("whsec_").unwrap_or(key)).ok()?;
            (!key.is_empty()).then_some(StandardKey::Shared(key))
        }
    }
}

/// Whether a time is near enough to now.
fn fresh(text: &str, tolerance: Duration, now: SystemTime) -> Result<(), Unverified> {
    let number: u64 = text.parse().map_err(|_| Unverified::Timestamp(text.chars().take(40).collect()))?;
    let signed = if number < MILLISECONDS { Duration::from_secs(number) } else { Duration::from_millis(number) };
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (age, ahead) = (now.abs_diff(signed), signed > now);
    if age <= tolerance {
        return Ok(());
    }
    Err(Unverified::Stale { age: Duration::from_secs(age.as_secs()), ahead, tolerance })
}
