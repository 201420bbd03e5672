//! The services whose webhooks are known: for each, how its calls are signed, and where their ids and events' names are.
//!
//! Where a service has several ways, the first whose header a call has is the one that must be right.

use super::scheme::{Key, Scheme, Signature};
use dunlin_events::manifest::{Algorithm, Encoding, Place, Provider, Timestamp, WebhookTrigger};
use http::{HeaderName, Method, header::AUTHORIZATION};
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512};

/// What is known of a service.
pub(super) struct Service {
    pub(super) schemes: Vec<Scheme>,
    /// Where a delivery's id is; the first that is there counts.
    pub(super) ids: Vec<Place>,
    pub(super) name: EventName,
}

/// Where the name of an event is.
pub(super) enum EventName {
    /// In the first of these that is there.
    At(Vec<Place>),
    /// `X-Gitlab-Event`: `Merge Request Hook` is `merge_request`.
    Gitlab,
    /// Of an event, of an interaction, or `command`.
    Slack,
    /// `message` or `call`, and its status.
    Twilio,
}

/// The methods a service calls with.
pub(in crate::http) fn methods(provider: Provider) -> &'static [Method] {
    const POST: [Method; 1] = [Method::POST];
    // Twilio signs parameters in the address as well as those in a form, and lets its users choose.
    const GET_TOO: [Method; 2] = [Method::POST, Method::GET];
    if provider == Provider::Twilio { &GET_TOO } else { &POST }
}

impl Service {
    pub(super) fn of(trigger: &WebhookTrigger) -> Self {
        let body = |pointer: &str| Place::Body(pointer.to_owned());
        match trigger.provider {
            // <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>
            Provider::Github => Self {
                schemes: vec![hex_of_body("x-hub-signature-256", "sha256=")],
                ids: vec![header("x-github-delivery")],
                name: EventName::At(vec![header("x-github-event")]),
            },
            // <https://docs.gitlab.com/user/project/integrations/webhooks>. `X-Gitlab-Event-UUID` is no id of a delivery:
            // events that hooks set off have that of the event they began with.
            Provider::Gitlab => Self {
                schemes: vec![
                    standard("webhook"),
                    Scheme::Token { header: name("x-gitlab-token"), prefix: String::new() },
                ],
                ids: vec![header("webhook-id"), header("idempotency-key")],
                name: EventName::Gitlab,
            },
            // <https://docs.stripe.com/webhooks/signature>
            Provider::Stripe => Self {
                schemes: vec![Scheme::Signature(Signature {
                    header: name("stripe-signature"),
                    prefix: "v1=".into(),
                    timestamp: Some(Timestamp::Part("t=".into())),
                    signed: text("{timestamp}.{body}"),
                    ..plain()
                })],
                ids: vec![body("/id")],
                name: EventName::At(vec![body("/type")]),
            },
            // <https://docs.slack.dev/authentication/verifying-requests-from-slack>
            Provider::Slack => Self {
                schemes: vec![Scheme::Signature(Signature {
                    header: name("x-slack-signature"),
                    prefix: "v0=".into(),
                    timestamp: Some(Timestamp::Header(name("x-slack-request-timestamp"))),
                    signed: text("v0:{timestamp}:{body}"),
                    ..plain()
                })],
                ids: vec![body("/event_id")],
                name: EventName::Slack,
            },
            // <https://shopify.dev/docs/apps/build/webhooks/verify-deliveries>; its newer events have no `X-`.
            Provider::Shopify => Self {
                schemes: ["x-shopify-hmac-sha256", "shopify-hmac-sha256"]
                    .map(|header| {
                        Scheme::Signature(Signature { header: name(header), encoding: Encoding::Base64, ..plain() })
                    })
                    .into(),
                ids: ["x-shopify-webhook-id", "shopify-webhook-id", "x-shopify-event-id"].map(header).into(),
                name: EventName::At(["x-shopify-topic", "shopify-topic"].map(header).into()),
            },
            Provider::Twilio => Self {
                schemes: vec![Scheme::Twilio { url: trigger.url.clone() }],
                ids: vec![header("i-twilio-idempotency-token")],
                name: EventName::Twilio,
            },
            // <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>; Svix had the
            // same before under its own name, and sends either.
            Provider::StandardWebhooks | Provider::Svix => Self {
                schemes: vec![standard("webhook"), standard("svix")],
                ids: vec![header("webhook-id"), header("svix-id")],
                name: EventName::At(vec![body("/type")]),
            },
            Provider::Hmac | Provider::Bearer | Provider::Basic => Self {
                schemes: vec![generic(trigger)],
                ids: trigger.id.iter().cloned().collect(),
                name: EventName::At(trigger.kind.iter().cloned().collect()),
            },
        }
    }
}

/// What a manifest describes.
fn generic(trigger: &WebhookTrigger) -> Scheme {
    let given = trigger.header.as_ref().map(|header| header.0.clone());
    match trigger.provider {
        Provider::Basic => Scheme::Basic,
        Provider::Bearer => {
            let header = given.unwrap_or(AUTHORIZATION);
            let usual = if header == AUTHORIZATION { "Bearer " } else { "" };
            Scheme::Token { header, prefix: trigger.prefix.clone().unwrap_or_else(|| usual.to_owned()) }
        }
        _ => {
            let usual = if trigger.timestamp.is_some() { "{timestamp}.{body}" } else { "{body}" };
            Scheme::Signature(Signature {
                header: given.expect("a manifest without it is refused"),
                prefix: trigger.prefix.clone().unwrap_or_default(),
                algorithm: match trigger.algorithm.unwrap_or_default() {
                    Algorithm::Sha1 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                    Algorithm::Sha256 => HMAC_SHA256,
                    Algorithm::Sha512 => HMAC_SHA512,
                },
                encoding: trigger.encoding.unwrap_or_default(),
                key: Key::Text,
                signed: trigger.signed.clone().unwrap_or_else(|| text(usual)),
                timestamp: trigger.timestamp.clone(),
                id: match &trigger.id {
                    Some(Place::Header(name)) => Some(name.clone()),
                    _ => None,
                },
            })
        }
    }
}

/// An HMAC of the body, in hex: what the others are told from.
fn plain() -> Signature {
    Signature {
        header: AUTHORIZATION,
        prefix: String::new(),
        algorithm: HMAC_SHA256,
        encoding: Encoding::Hex,
        key: Key::Text,
        signed: text("{body}"),
        timestamp: None,
        id: None,
    }
}

fn hex_of_body(header: &'static str, prefix: &str) -> Scheme {
    Scheme::Signature(Signature { header: name(header), prefix: prefix.into(), ..plain() })
}

/// Standard Webhooks, in headers whose names begin so.
fn standard(prefix: &'static str) -> Scheme {
    let [id, timestamp, signature] = match prefix {
        "svix" => ["svix-id", "svix-timestamp", "svix-signature"],
        _ => ["webhook-id", "webhook-timestamp", "webhook-signature"],
    };
    Scheme::Signature(Signature {
        header: name(signature),
        prefix: "v1,".into(),
        encoding: Encoding::Base64,
        key: Key::Standard,
        timestamp: Some(Timestamp::Header(name(timestamp))),
        id: Some(name(id)),
        signed: text("{id}.{timestamp}.{body}"),
        ..plain()
    })
}

fn name(header: &'static str) -> HeaderName {
    HeaderName::from_static(header)
}

fn header(header: &'static str) -> Place {
    Place::Header(name(header))
}

fn text(signed: &str) -> dunlin_events::manifest::SignedText {
    signed.parse().expect("it has a body, and nothing unknown")
}
