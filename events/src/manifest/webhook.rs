//! The webhook trigger: which service calls, and how it shows that it is the one who calls.
//!
//! The services that are known need no more than their name. `hmac`, `bearer` and `basic` are for all others, and the keys
//! that describe a signature are theirs alone: [`WebhookTrigger::problems`] says which key belongs to which.

use super::{HostPattern, Problem, RoutePath, is_default};
use crate::{secrets::SecretName, topics::TopicName, units};
use http::{HeaderName, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// The webhooks a function runs for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookTrigger {
    /// Where the service sends them: `/hooks/stripe`, with `{name}` and `{*name}` as an `http` trigger has them.
    pub path: RoutePath,
    /// The host name, as of an `http` trigger; any host when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPattern>,
    /// Who calls: a service that is known, or `hmac`, `bearer` or `basic` for any other.
    pub provider: Provider,
    /// The secrets a call may be signed with; several while one is replaced by another. For `basic` each is
    /// `user:password`.
    pub secrets: Vec<SecretName>,
    /// How far the time of a signature may be from now. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    #[schemars(schema_with = "units::duration_schema")]
    pub tolerance: Option<Duration>,
    /// `twilio`: the address it calls, which is part of what it signs: `https://api.example.com`, with a path if that is
    /// another than the platform sees. As the request has it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<PublicUrl>,
    /// `hmac`: the header with the signature. `bearer`: the header with the token, default `Authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// What the signature or the token begins with there: `sha256=`. Default nothing; of `bearer` in `Authorization`,
    /// `Bearer `.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// `hmac`: the hash. Default sha256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// `hmac`: how the signature is written. Default hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// `hmac`: what is signed, of `{body}`, `{timestamp}` and `{id}`. Default `{body}`, and with `timestamp`
    /// `{timestamp}.{body}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<SignedText>,
    /// `hmac`: where the time of the signature is, in seconds or milliseconds since 1970: a header, or what it begins with
    /// beside the signature in that one's header, `t=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<Timestamp>,
    /// `hmac`, `bearer`, `basic`: where the delivery's id is: a header, or a JSON Pointer into the body, `/event/id`. A
    /// delivery with an id that was taken before adds nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Place>,
    /// `hmac`, `bearer`, `basic`: where the event's name is: a header, or a JSON Pointer into the body.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Place>,
    /// What the events of one thing have in common: a header, or a JSON Pointer into the body, `/repository/full_name`. Those
    /// with the same run one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Place>,
    /// When the service is answered. Default accepted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub respond: Respond,
    /// The topic the events are in. Default `<function>.webhook`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<TopicName>,
}

/// Who calls, and so how a call is verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    Github,
    Gitlab,
    Stripe,
    Slack,
    Shopify,
    Twilio,
    /// <https://www.standardwebhooks.com>
    StandardWebhooks,
    Svix,
    /// Anybody who signs the body with a shared secret.
    Hmac,
    /// Anybody who sends a token.
    Bearer,
    /// Anybody who sends a user name and a password.
    Basic,
}

impl Provider {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Gitlab => "gitlab",
            Self::Stripe => "stripe",
            Self::Slack => "slack",
            Self::Shopify => "shopify",
            Self::Twilio => "twilio",
            Self::StandardWebhooks => "standard-webhooks",
            Self::Svix => "svix",
            Self::Hmac => "hmac",
            Self::Bearer => "bearer",
            Self::Basic => "basic",
        }
    }

    /// Whether it stands for any service, and the manifest says the rest.
    pub const fn is_generic(self) -> bool {
        matches!(self, Self::Hmac | Self::Bearer | Self::Basic)
    }
}

/// The hash a signature is made with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    #[default]
    Hex,
    Base64,
}

/// When the service that calls is answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Respond {
    /// With 202, when the event is on disk; the function runs then.
    #[default]
    Accepted,
    /// With the function's answer. Nothing is kept.
    Sync,
}

/// The name of a header. Case doesn't matter, and it is kept in lowercase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header(pub HeaderName);

/// Why a text is no header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a header: write its name alone, such as `X-Signature`")]
pub struct InvalidHeader(pub String);

impl FromStr for Header {
    type Err = InvalidHeader;

    fn from_str(text: &str) -> Result<Self, InvalidHeader> {
        HeaderName::from_bytes(text.as_bytes()).map(Self).map_err(|_| InvalidHeader(text.to_owned()))
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

/// Where something is in a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Header(HeaderName),
    /// A JSON Pointer (RFC 6901) into the body.
    Body(String),
}

/// Why a text is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no place in a call: write a header, such as `X-Event-Id`, or a JSON Pointer into the body, such as `/event/id`"
)]
pub struct InvalidPlace(pub String);

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        if text.starts_with('/') {
            return Ok(Self::Body(text.to_owned()));
        }
        HeaderName::from_bytes(text.as_bytes()).map(Self::Header).map_err(|_| InvalidPlace(text.to_owned()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => f.write_str(name.as_str()),
            Self::Body(pointer) => f.write_str(pointer),
        }
    }
}

/// Where the time of a signature is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Timestamp {
    Header(HeaderName),
    /// Behind this text, `t=`, in the header of the signature.
    Part(String),
}

/// Why a text is no place of a time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no place of a timestamp: write a header, such as `X-Timestamp`, or what it begins with in the signature's header, such as `t=`"
)]
pub struct InvalidTimestamp(pub String);

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let invalid = || InvalidTimestamp(text.to_owned());
        match text.strip_suffix('=') {
            Some("") => Err(invalid()),
            Some(_) if text.bytes().all(|b| b.is_ascii_graphic() && b != b',') => Ok(Self::Part(text.to_owned())),
            Some(_) => Err(invalid()),
            None => HeaderName::from_bytes(text.as_bytes()).map(Self::Header).map_err(|_| invalid()),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => f.write_str(name.as_str()),
            Self::Part(text) => f.write_str(text),
        }
    }
}

/// What is signed: `{timestamp}.{body}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedText(Vec<Piece>);

/// A piece of what is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    Text(String),
    Timestamp,
    Id,
    Body,
}

/// Why a text doesn't say what is signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignedText {
    #[error(
        "`{0}` leaves out the body, which anybody could replace then: write `{{body}}` where it stands, such as `{{timestamp}}.{{body}}`"
    )]
    NoBody(String),
    #[error("`{0}` has a brace without its other half: write `{{body}}`, `{{timestamp}}` and `{{id}}` whole")]
    Open(String),
    #[error(
        "`{0}` has a `{{{1}}}`, which isn't known: write `{{body}}`, `{{timestamp}}`, `{{id}}` and what stands between them"
    )]
    Unknown(String, String),
}

impl SignedText {
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }
}

impl FromStr for SignedText {
    type Err = InvalidSignedText;

    fn from_str(text: &str) -> Result<Self, InvalidSignedText> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, from)) = rest.split_once('{') {
            let (name, after) = from.split_once('}').ok_or_else(|| InvalidSignedText::Open(text.to_owned()))?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(match name {
                "body" => Piece::Body,
                "timestamp" => Piece::Timestamp,
                "id" => Piece::Id,
                other => return Err(InvalidSignedText::Unknown(text.to_owned(), other.to_owned())),
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if pieces.contains(&Piece::Body) { Ok(Self(pieces)) } else { Err(InvalidSignedText::NoBody(text.to_owned())) }
    }
}

impl fmt::Display for SignedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| {
            f.write_str(match piece {
                Piece::Text(text) => text,
                Piece::Timestamp => "{timestamp}",
                Piece::Id => "{id}",
                Piece::Body => "{body}",
            })
        })
    }
}

/// An address as a service knows it: scheme, host, and a path unless that is the one of the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

/// Why a text is no such address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no address a service could call: write `https://api.example.com`, with a path or without, and no query"
)]
pub struct InvalidPublicUrl(pub String);

impl PublicUrl {
    /// Without a `/` at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn has_path(&self) -> bool {
        self.0.splitn(4, '/').count() == 4
    }
}

impl FromStr for PublicUrl {
    type Err = InvalidPublicUrl;

    fn from_str(text: &str) -> Result<Self, InvalidPublicUrl> {
        let uri: Option<Uri> = text.parse().ok();
        let usable = uri.is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
                && uri.query().is_none()
        });
        if usable && !text.contains('#') {
            Ok(Self(text.strip_suffix('/').unwrap_or(text).to_owned()))
        } else {
            Err(InvalidPublicUrl(text.to_owned()))
        }
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

super::as_text!(Header, "Header", { "type": "string", "examples": ["X-Signature"] });
super::as_text!(Place, "Place", { "type": "string", "examples": ["X-Event-Id", "/event/id"] });
super::as_text!(Timestamp, "Timestamp", { "type": "string", "examples": ["X-Timestamp", "t="] });
super::as_text!(SignedText, "SignedText", { "type": "string", "examples": ["{timestamp}.{body}"] });
super::as_text!(PublicUrl, "PublicUrl", { "type": "string", "examples": ["https://api.example.com"] });

impl WebhookTrigger {
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems = self.misplaced();
        if self.secrets.is_empty() {
            problems.push(
                Problem::new("/secrets", "`secrets` is empty, so nothing could be verified")
                    .help("write the name of the secret the service signs with, such as `secrets: [GITHUB_SECRET]`"),
            );
        }
        for (index, secret) in self.secrets.iter().enumerate() {
            if self.secrets[..index].contains(secret) {
                problems
                    .push(Problem::new(format!("/secrets/{index}"), format!("the secret `{secret}` is named twice")));
            }
        }
        if self.tolerance.is_some_and(|tolerance| tolerance.is_zero()) {
            problems.push(
                Problem::new("/tolerance", "no call arrives within 0s of its signature")
                    .help("leave the line out for 5m"),
            );
        }
        let kept = [("topic", self.topic.is_some()), ("key", self.key.is_some())];
        for (key, _) in kept.into_iter().filter(|(_, given)| *given && self.respond == Respond::Sync) {
            let what = format!("with `respond: sync` nothing is kept, so `{key}` has no meaning");
            problems.push(Problem::new(format!("/{key}"), what).help("leave out one of the two"));
        }
        if self.provider == Provider::Hmac {
            problems.extend(self.signature_problems());
        }
        problems
    }

    /// Keys of another provider.
    fn misplaced(&self) -> Vec<Problem> {
        use Provider::{Basic, Bearer, Gitlab, Hmac, Slack, StandardWebhooks, Stripe, Svix, Twilio};
        let timed: &[_] = &[Stripe, Slack, StandardWebhooks, Svix, Gitlab, Hmac];
        let keys: [(&str, bool, &[Provider]); 10] = [
            ("tolerance", self.tolerance.is_some(), timed),
            ("url", self.url.is_some(), &[Twilio]),
            ("header", self.header.is_some(), &[Hmac, Bearer]),
            ("prefix", self.prefix.is_some(), &[Hmac, Bearer]),
            ("algorithm", self.algorithm.is_some(), &[Hmac]),
            ("encoding", self.encoding.is_some(), &[Hmac]),
            ("signed", self.signed.is_some(), &[Hmac]),
            ("timestamp", self.timestamp.is_some(), &[Hmac]),
            ("id", self.id.is_some(), &[Hmac, Bearer, Basic]),
            ("type", self.kind.is_some(), &[Hmac, Bearer, Basic]),
        ];
        let misplaced = keys.into_iter().filter(|(_, given, of)| *given && !of.contains(&self.provider));
        misplaced
            .map(|(key, _, of)| {
                let of: Vec<_> = of.iter().map(|provider| format!("`{}`", provider.as_str())).collect();
                Problem::new(
                    format!("/{key}"),
                    format!("`{key}` has no meaning for the provider `{}`", self.provider.as_str()),
                )
                .help(format!("leave the line out: it is for {}", of.join(", ")))
            })
            .collect()
    }

    /// What an HMAC needs that isn't there, and what doesn't go together.
    fn signature_problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.header.is_none() {
            problems.push(
                Problem::new("", "the provider `hmac` needs to know where the signature is")
                    .help("add the header's name: `header: X-Signature`"),
            );
        }
        let signs = |piece| self.signed.as_ref().is_some_and(|signed| signed.pieces().contains(&piece));
        if signs(Piece::Timestamp) && self.timestamp.is_none() {
            problems.push(
                Problem::new("/signed", "it has a `{timestamp}`, and nothing says where that is")
                    .help("add `timestamp: X-Timestamp` with the name of its header"),
            );
        }
        if self.timestamp.is_some() && self.signed.is_some() && !signs(Piece::Timestamp) {
            problems.push(
                Problem::new("/timestamp", "the timestamp is not signed, so anybody could write another")
                    .help("put `{timestamp}` into `signed` if it is, or leave `timestamp` out"),
            );
        }
        if self.tolerance.is_some() && self.timestamp.is_none() {
            problems.push(
                Problem::new("/tolerance", "there is no `timestamp` whose age it could limit")
                    .help("add `timestamp: X-Timestamp` with the name of its header, or leave the line out"),
            );
        }
        if signs(Piece::Id) && !matches!(self.id, Some(Place::Header(_))) {
            problems.push(
                Problem::new("/signed", "it has an `{id}`, and no header is named that has it")
                    .help("add `id: X-Event-Id` with the name of its header"),
            );
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn trigger(more: Value) -> WebhookTrigger {
        let mut trigger = json!({ "path": "/hook", "secrets": ["KEY"] });
        trigger.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(trigger).unwrap()
    }

    #[test]
    fn keys_that_dont_go_together_are_found() {
        for (more, places) in [
            (json!({ "provider": "github" }), &[][..]),
            (json!({ "provider": "github", "secrets": [] }), &["/secrets"]),
            (json!({ "provider": "github", "secrets": ["A", "B", "A"] }), &["/secrets/2"]),
            (json!({ "provider": "github", "tolerance": "1m", "encoding": "hex" }), &["/tolerance", "/encoding"]),
            (json!({ "provider": "stripe", "tolerance": "0s" }), &["/tolerance"]),
            (json!({ "provider": "stripe", "respond": "sync", "topic": "t", "key": "/id" }), &["/topic", "/key"]),
            (json!({ "provider": "stripe", "url": "https://example.com" }), &["/url"]),
            (json!({ "provider": "twilio", "url": "https://example.com", "respond": "sync" }), &[]),
            (json!({ "provider": "hmac" }), &[""]),
            (json!({ "provider": "hmac", "header": "X-S", "tolerance": "1m" }), &["/tolerance"]),
            (json!({ "provider": "hmac", "header": "X-S", "timestamp": "t=", "tolerance": "1m" }), &[]),
            (json!({ "provider": "hmac", "header": "X-S", "timestamp": "X-T", "signed": "{body}" }), &["/timestamp"]),
            (json!({ "provider": "hmac", "header": "X-S", "signed": "{timestamp}{body}" }), &["/signed"]),
            (json!({ "provider": "hmac", "header": "X-S", "signed": "{id}{body}", "id": "/id" }), &["/signed"]),
            (json!({ "provider": "bearer", "header": "X-Token", "prefix": "", "id": "X-Id", "type": "/type" }), &[]),
            (json!({ "provider": "basic", "header": "X-Token", "signed": "{body}" }), &["/header", "/signed"]),
        ] {
            let found: Vec<_> = trigger(more.clone()).problems().into_iter().map(|problem| problem.pointer).collect();
            assert_eq!(found, places, "{more}");
        }
    }

    #[test]
    fn a_webhook_survives_the_registry() {
        let whole = trigger(json!({
            "provider": "hmac", "host": "hooks.example.com", "header": "X-Signature", "prefix": "v1=", "algorithm": "sha512",
            "encoding": "base64", "signed": "v1:{timestamp}:{id}:{body}", "timestamp": "X-Time", "id": "X-Id", "type": "/type",
            "tolerance": "1m", "topic": "acme", "key": "/user/id",
        }));
        let written = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<WebhookTrigger>(&written).unwrap(), whole);
        assert!(written.contains("v1:{timestamp}:{id}:{body}"), "{written}");
    }

    #[test]
    fn bad_texts_say_what_would_be_right() {
        let error = |error: &dyn std::error::Error| error.to_string();
        for (message, part) in [
            (error(&"X Signature".parse::<Header>().unwrap_err()), "its name alone"),
            (error(&"{timestamp}".parse::<SignedText>().unwrap_err()), "leaves out the body"),
            (error(&"{time}.{body}".parse::<SignedText>().unwrap_err()), "`{time}`, which isn't known"),
            (error(&"{body".parse::<SignedText>().unwrap_err()), "has a brace without its other half"),
            (error(&"x y".parse::<Place>().unwrap_err()), "JSON Pointer"),
            (error(&"=".parse::<Timestamp>().unwrap_err()), "`t=`"),
            (error(&"example.com".parse::<PublicUrl>().unwrap_err()), "https://api.example.com"),
            (error(&"https://example.com/?a=b".parse::<PublicUrl>().unwrap_err()), "no query"),
        ] {
            assert!(message.contains(part), "{message}");
        }
        let url = |text: &str| text.parse::<PublicUrl>().unwrap();
        assert!(!url("https://example.com/").has_path() && url("https://example.com/a").has_path());
    }
}
