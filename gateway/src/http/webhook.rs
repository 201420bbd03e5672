//! Webhooks: calls of other services, verified and kept as events, or handed to the function at once.
//!
//! ```text
//!   call ──▶ body, whole ──▶ verified ──▶ event ──▶ on disk ──▶ 202        the dispatcher runs the function
//!                               │           └─ known already ──▶ 202, nothing is added
//!                               └─ not ──▶ 401; why is in the function's log, and nowhere else
//! ```
//!
//! A webhook is a route like that of an `http` trigger, with this in front of its function. The one design choice: a service
//! is data ([`providers`]), and one verifier reads it ([`scheme`]); only what Twilio signs needs code of its own.

mod event;
mod keys;
mod providers;
mod refusals;
mod scheme;
#[cfg(test)]
mod tests;
mod twilio;

pub(super) use providers::methods;

use crate::{
    active::ActiveFunction,
    deploy::Deployments,
    dispatch::{self, MAX_EVENT},
    http::{
        call::{self, Answer, CallContext},
        problem::Problem,
        whole::{self, Held, Room, Unread},
    },
};
use bytes::Bytes;
use dunlin_events::{
    Component, Event, Failure, InvocationId, Manifest, Shape,
    consumers::{CommitError, ConsumerName, Start, Taken},
    manifest::{self, Place, Provider, Respond, WebhookTrigger},
    secrets::{SecretName, Secrets},
    topics::{Appended, TopicName},
};
use event::Content;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, request};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use keys::Keys;
use providers::Service;
use refusals::Refusals;
use scheme::{Call, Scheme, StandardKey, Unverified, standard_key};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// How far the time of a signature may be from now, where the manifest doesn't say. It is what Stripe, Slack and Standard
/// Webhooks recommend.
const TOLERANCE: Duration = Duration::from_secs(300);

/// How long a call waits to be on disk. Services don't wait much longer for their answer: Slack 3 seconds, Shopify 5.
const WAIT: Duration = Duration::from_secs(2);

/// Tells a service that looks that its call added nothing.
const DUPLICATE: HeaderName = HeaderName::from_static("dunlin-duplicate");

/// A webhook trigger, ready for calls.
pub struct Webhook {
    /// Its place in `triggers`.
    trigger: usize,
    provider: Provider,
    service: Service,
    keys: Keys,
    tolerance: Duration,
    key: Option<Place>,
    /// Where its events go, and where the function begins there. `None` for one the function answers itself.
    topic: Option<(TopicName, Start)>,
    refusals: Refusals,
}

/// Why a call is answered with a problem.
enum Refused {
    /// It isn't known to be of the service.
    Unverified(Unverified),
    /// It is, and can't be taken as it is. Told to both sides.
    Bad {
        status: StatusCode,
        reason: &'static str,
        why: String,
    },
    /// No secret can be had to verify it with.
    NoSecret(String),
    /// It was not put on disk in time, or too many others are being read.
    Busy,
    /// It can't be put on disk.
    Unkept(String),
    Body(Failure),
}

impl Webhook {
    pub(super) fn new(manifest: &Manifest, trigger: usize, webhook: &WebhookTrigger) -> Self {
        let topic = manifest.topic_of(&manifest.triggers[trigger]).map(|topic| {
            let start = dispatch::start_of(manifest, &topic);
            (topic, start)
        });
        Self {
            trigger,
            provider: webhook.provider,
            service: Service::of(webhook),
            keys: Keys::new(&webhook.secrets),
            tolerance: webhook.tolerance.unwrap_or(TOLERANCE),
            key: webhook.key.clone(),
            topic,
            refusals: Refusals::default(),
        }
    }

    /// Size of a call's body: one that becomes an event must fit into it.
    pub(super) fn body_limit(&self, function: &ActiveFunction) -> u64 {
        let limit = function.version.manifest.limits.request_body.bytes();
        if self.topic.is_some() { limit.min(MAX_EVENT as u64) } else { limit }
    }

    /// Answers a call.
    pub(super) async fn answer<B>(
        &self,
        deployments: &Deployments,
        function: &Arc<ActiveFunction>,
        request: Request<B>,
        context: CallContext,
        room: &Arc<Room>,
    ) -> Response<Answer>
    where
        B: Body<Data = Bytes, Error = Failure> + Send + Unpin + 'static,
    {
        let (id, logs) = (context.id, Arc::clone(&context.logs));
        let (head, body) = request.into_parts();
        let headers = head.headers.clone();
        let marked = |mut response: Response<Answer>| {
            call::mark(&headers, id, response.headers_mut());
            response
        };
        let answered = async {
            let (scheme, body, _held) = self.verified(deployments, function, &head, body, room).await?;
            if self.provider == Provider::Slack
                && let Some(challenge) = challenge(&body)
            {
                return Ok(marked(text(challenge)));
            }
            let Some((topic, start)) = &self.topic else {
                let body = Full::new(body).map_err(|never| match never {});
                return Ok(call::answer(function, Request::from_parts(head, body), context).await);
            };
            let event = self.event(function, scheme, Call { head: &head, body: &body }, id)?;
            let consumer = ConsumerName { function: function.name().clone(), topic: topic.clone() };
            let appended = self.keep(deployments, consumer, *start, event).await?;
            function.statuses[self.trigger].took(u64::from(!appended.duplicate));
            Ok(marked(self.taken(appended)))
        };
        let answered: Result<_, Refused> = answered.await;
        match answered {
            Ok(response) => {
                self.refusals.over(function, self.trigger);
                response
            }
            Err(refused) => {
                let why = (refused.reason(), || self.told(&refused));
                self.refusals.tell(function, self.trigger, &*logs, id, why);
                marked(problem(&refused).response(id).map(Answer::Own))
            }
        }
    }

    /// The body of a call that is of the service, and what shows that.
    async fn verified<B>(
        &self,
        deployments: &Deployments,
        function: &ActiveFunction,
        head: &request::Parts,
        body: B,
        room: &Arc<Room>,
    ) -> Result<(&Scheme, Bytes, Held), Refused>
    where
        B: Body<Data = Bytes, Error = Failure> + Unpin,
    {
        let scheme = self.scheme(head).map_err(Refused::Unverified)?;
        let limit = self.body_limit(function);
        let (body, held) = whole::read(body, limit, room).await.map_err(|unread| match unread {
            Unread::TooLarge => Refused::too_large(limit),
            Unread::NoRoom => Refused::Busy,
            Unread::Broken(failure) => Refused::Body(failure),
        })?;
        let secrets = self.keys.values(deployments.secrets()).await;
        let secrets = secrets.map_err(|error| Refused::NoSecret(error.to_string()))?;
        let call = Call { head, body: &body };
        scheme.verify(&call, &secrets, self.tolerance, SystemTime::now()).map_err(Refused::Unverified)?;
        Ok((scheme, body, held))
    }

    /// How a call shows whom it is from: by the first of the service's ways whose header it has.
    fn scheme(&self, head: &request::Parts) -> Result<&Scheme, Unverified> {
        let schemes = &self.service.schemes;
        let used = schemes.iter().find(|scheme| head.headers.contains_key(scheme.header()));
        used.ok_or_else(|| Unverified::Missing(schemes[0].header()))
    }

    fn event(
        &self,
        function: &ActiveFunction,
        scheme: &Scheme,
        call: Call<'_>,
        id: InvocationId,
    ) -> Result<Event, Refused> {
        let encoding = call.head.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
        if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
            let why =
                format!("its body is encoded (`{}`), and is taken only as it is", String::from_utf8_lossy(encoding));
            return Err(Refused::bad(StatusCode::UNSUPPORTED_MEDIA_TYPE, "encoding", why));
        }
        let content = Content::of(&call, scheme);
        let event =
            content.event(&call, function.name(), (self.provider, &self.service, scheme), self.key.as_ref(), id);
        let event = event.map_err(|error| {
            Refused::bad(StatusCode::BAD_REQUEST, "bad-request", format!("it makes no event: {error}"))
        })?;
        if event.size() > MAX_EVENT { Err(Refused::too_large(MAX_EVENT as u64)) } else { Ok(event) }
    }

    /// Puts an event into its topic. It is on disk when this returns.
    async fn keep(
        &self,
        deployments: &Deployments,
        consumer: ConsumerName,
        start: Start,
        event: Event,
    ) -> Result<Appended, Refused> {
        let consumers = &deployments.backend().consumers;
        let taken = Taken { consumer, events: vec![event], others: Vec::new(), reads: Vec::new(), writes: Vec::new() };
        let take = async {
            match consumers.take(taken.clone()).await {
                // A deploy was cut short, or somebody removed the topic. Where the function is gone, neither is made any
                // more.
                Err(CommitError::NoConsumer(_) | CommitError::NoTopic(_))
                    if deployments.table().functions.contains_key(&taken.consumer.function) =>
                {
                    dispatch::open(deployments.backend(), &taken.consumer, start).await?;
                    deployments.topics_changed();
                    consumers.take(taken).await
                }
                appended => appended,
            }
        };
        // What is given up here may yet happen, and then the service's next try adds nothing.
        match tokio::time::timeout(WAIT, take).await {
            Ok(appended) => Ok(appended.map_err(|error| Refused::Unkept(error.to_string()))?[0]),
            Err(_) => Err(Refused::Busy),
        }
    }

    /// The answer to a call that is on disk.
    fn taken(&self, appended: Appended) -> Response<Answer> {
        let mut response = Response::new(Answer::Own(Full::default()));
        *response.status_mut() = match self.provider {
            // It shows its users an error for any other, after a command or a click.
            Provider::Slack => StatusCode::OK,
            _ => StatusCode::ACCEPTED,
        };
        if appended.duplicate {
            response.headers_mut().insert(DUPLICATE, HeaderValue::from_static("true"));
        }
        response
    }

    /// What the operator is told: the reason, and what to look at.
    fn told(&self, refused: &Refused) -> String {
        let unverified = match refused {
            Refused::Unverified(unverified) => unverified,
            Refused::Bad { why, .. } | Refused::NoSecret(why) | Refused::Unkept(why) => return why.clone(),
            Refused::Busy => return "more calls come than the platform can read and put on disk".into(),
            Refused::Body(failure) => return failure.to_string(),
        };
        let names: Vec<_> = self.keys.names().iter().map(|name| format!("`{name}`")).collect();
        let provider = self.provider.as_str();
        let whose = match &names[..] {
            [name] => format!("is {name} the secret of this webhook at {provider}"),
            names => format!("is one of {} the secret of this webhook at {provider}", names.join(", ")),
        };
        let whose = if self.provider.is_generic() { whose.replace(&format!(" at {provider}"), "") } else { whose };
        match unverified {
            Unverified::Missing(_) if self.provider.is_generic() => {
                format!("{unverified}: does the service send it under this name?")
            }
            Unverified::Missing(_) => {
                format!("{unverified}: does {provider} have the webhook's secret, and is it {provider} that calls?")
            }
            Unverified::Signature => format!("{unverified}: {whose}, and does nothing on the way change the body?"),
            Unverified::Token => format!("{unverified}: {whose}?"),
            Unverified::Address { .. } => {
                format!(
                    "{unverified}: {whose}, and is that the address it calls? `url` in the trigger says which it is"
                )
            }
            Unverified::Stale { .. } => {
                format!(
                    "{unverified}: is the clock of this machine right? `tolerance` in the trigger says how much may be"
                )
            }
            Unverified::Malformed { .. } | Unverified::Timestamp(_) | Unverified::Unsigned | Unverified::Body => {
                unverified.to_string()
            }
        }
    }
}

impl Refused {
    /// What tells it from others in the log.
    fn reason(&self) -> &'static str {
        match self {
            Self::Unverified(unverified) => unverified.reason(),
            Self::Bad { reason, .. } => reason,
            Self::NoSecret(_) => "secret",
            Self::Busy => "busy",
            Self::Unkept(_) => "unkept",
            Self::Body(_) => "request-body",
        }
    }

    fn bad(status: StatusCode, reason: &'static str, why: String) -> Self {
        Self::Bad { status, reason, why }
    }

    fn too_large(limit: u64) -> Self {
        let why = format!("its body is larger than is taken ({limit} bytes)");
        Self::bad(StatusCode::PAYLOAD_TOO_LARGE, "request-too-large", why)
    }
}

/// What the caller is told. One that isn't known to be of the service learns nothing.
fn problem(refused: &Refused) -> Problem {
    match refused {
        Refused::Unverified(_) => {
            Problem::new(StatusCode::UNAUTHORIZED, "unverified", "the call could not be verified")
        }
        Refused::Bad { status, reason, why } => {
            Problem::new(*status, reason, format!("the call can't be taken: {why}"))
        }
        Refused::NoSecret(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the call can't be verified now").later(5)
        }
        Refused::Busy => {
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", "more calls come than can be kept").later(1)
        }
        Refused::Unkept(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the call can't be kept now").later(5)
        }
        Refused::Body(failure) => Problem::from(failure),
    }
}

/// What Slack wants to read back before it calls an address.
fn challenge(body: &[u8]) -> Option<String> {
    let asked: serde_json::Value = serde_json::from_slice(body).ok()?;
    let challenge = asked.get("challenge").filter(|_| asked["type"] == "url_verification")?;
    challenge.as_str().map(str::to_owned)
}

fn text(text: String) -> Response<Answer> {
    let mut response = Response::new(Answer::Own(Full::new(text.into())));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// What of a manifest's webhooks can't be: secrets the platform hasn't got or that are no keys, and functions that can't
/// answer.
pub(crate) fn problems(manifest: &Manifest, component: &Component, secrets: &dyn Secrets) -> Vec<manifest::Problem> {
    let mut problems = Vec::new();
    for (index, webhook) in manifest.webhook_triggers() {
        let at = format!("/triggers/{index}/webhook");
        if webhook.respond == Respond::Sync && component.shape == Shape::Handler {
            let what = "the component exports `dunlin:function/handler`, so it takes events and answers nobody";
            problems.push(
                manifest::Problem::new(format!("{at}/respond"), what)
                    .help("leave `respond` out: the service is answered when its event is on disk"),
            );
        }
        for (place, name) in webhook.secrets.iter().enumerate() {
            let at = format!("{at}/secrets/{place}");
            match secrets.get(name) {
                Err(error) => problems.push(manifest::Problem::new(at, error.to_string())),
                Ok(value) => problems.extend(unusable(webhook.provider, name, value.expose(), at)),
            }
        }
    }
    problems
}

/// Why a secret is none of a service's.
fn unusable(provider: Provider, name: &SecretName, value: &str, at: String) -> Option<manifest::Problem> {
    let problem = |what: String, help: &str| Some(manifest::Problem::new(at, what).help(help));
    match provider {
        _ if value.is_empty() => problem(format!("the secret `{name}` is empty"), "anybody could sign with it: set it"),
        Provider::Basic if !value.contains(':') => {
            problem(format!("the secret `{name}` is no user name and password"), "set it to `user:password`")
        }
        Provider::StandardWebhooks | Provider::Svix => match standard_key(value) {
            Some(StandardKey::Shared(_) | StandardKey::Public(_)) => None,
            None => problem(
                format!("the secret `{name}` is no key of Standard Webhooks"),
                "set it as the service shows it: `whsec_` and base64, or `whpk_` for a public key",
            ),
        },
        _ => None,
    }
}
