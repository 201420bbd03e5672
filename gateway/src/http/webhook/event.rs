//! The event a call becomes.
//!
//! | attribute | |
//! | --- | --- |
//! | `id` | the delivery's, or a hash of what was signed; where nothing is signed, a new one |
//! | `source` | `/webhooks/<function>` and the path that was called |
//! | `type` | `<provider>.<event>`; `webhook.<event>` where the manifest describes the service |
//! | `partitionkey` | what the manifest's `key` leads to |
//! | data | the body as it came, with its content type; a form as a JSON object |

use super::{
    providers::{EventName, Service},
    scheme::{Call, Scheme},
};
use bytes::Bytes;
use dunlin_events::{
    Event, FunctionName, InvocationId,
    event::InvalidEvent,
    manifest::{Place, Provider},
};
use http::{HeaderName, header::CONTENT_TYPE};
use serde_json::{Map, Value};
use std::{borrow::Cow, time::SystemTime};

const GITLAB_EVENT: HeaderName = HeaderName::from_static("x-gitlab-event");
/// The name of an event whose service gives it none.
const RECEIVED: &str = "received";
const JSON: &str = "application/json";

/// A call's body, and what it says.
pub(super) struct Content {
    content_type: Option<String>,
    bytes: Bytes,
    /// Where it is JSON, or a form.
    value: Option<Value>,
}

/// Whether a content type is that of forms.
pub(super) fn is_form(content_type: &str) -> bool {
    essence(content_type).eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn is_json(content_type: &str) -> bool {
    let essence = essence(content_type).to_ascii_lowercase();
    essence.ends_with("/json") || essence.ends_with("+json")
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

impl Content {
    pub(super) fn of(call: &Call<'_>, scheme: &Scheme) -> Self {
        let content_type = call.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        // Of the others nobody signs the query.
        let signed = call.body.is_empty() && matches!(scheme, Scheme::Twilio { .. });
        let query = call.head.uri.query().filter(|_| signed);
        match (content_type, query) {
            (_, Some(query)) => Self::form(query.as_bytes()),
            (Some(text), None) if is_form(text) => Self::form(call.body),
            _ => Self {
                content_type: content_type.map(str::to_owned),
                bytes: call.body.clone(),
                value: content_type.filter(|text| is_json(text)).and_then(|_| serde_json::from_slice(call.body).ok()),
            },
        }
    }

    /// A form as JSON, which filters and typed functions can read: a name that comes once has a text, one that comes more
    /// often a list. A form that has nothing but JSON in its `payload` is that JSON.
    fn form(form: &[u8]) -> Self {
        let mut fields = Map::new();
        for (name, value) in form_urlencoded::parse(form) {
            let value = Value::String(value.into_owned());
            match fields.get_mut(&*name) {
                None => {
                    fields.insert(name.into_owned(), value);
                }
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        let payload = fields.get("payload").and_then(Value::as_str).filter(|_| fields.len() == 1);
        let value = payload.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Object(fields));
        let bytes = serde_json::to_vec(&value).expect("texts can be written").into();
        Self { content_type: Some(JSON.to_owned()), bytes, value: Some(value) }
    }

    /// The text at a JSON Pointer.
    pub(super) fn text(&self, pointer: &str) -> Option<Cow<'_, str>> {
        match self.value.as_ref()?.pointer(pointer)? {
            Value::String(text) => Some(Cow::Borrowed(text)),
            Value::Number(number) => Some(Cow::Owned(number.to_string())),
            _ => None,
        }
    }

    fn at<'a>(&'a self, call: &'a Call<'_>, place: &Place) -> Option<Cow<'a, str>> {
        let text = match place {
            Place::Header(name) => Cow::Borrowed(call.head.headers.get(name)?.to_str().ok()?),
            Place::Body(pointer) => self.text(pointer)?,
        };
        (!text.is_empty()).then_some(text)
    }

    /// What the service calls what has happened.
    fn name(&self, call: &Call<'_>, name: &EventName) -> Option<String> {
        match name {
            EventName::At(places) => places.iter().find_map(|place| self.at(call, place)).map(Cow::into_owned),
            EventName::Gitlab => {
                let name = self.at(call, &Place::Header(GITLAB_EVENT))?.to_lowercase();
                Some(name.strip_suffix(" hook").unwrap_or(&name).replace(' ', "_"))
            }
            EventName::Slack => match self.text("/type") {
                Some(outer) if outer == "event_callback" => self.text("/event/type").map(Cow::into_owned),
                Some(outer) => Some(outer.into_owned()),
                None => self.text("/command").map(|_| "command".to_owned()),
            },
            EventName::Twilio => {
                let known = [
                    ("/MessageSid", "message", &["/MessageStatus", "/SmsStatus"][..]),
                    ("/SmsSid", "message", &["/SmsStatus"]),
                    ("/CallSid", "call", &["/CallStatus"]),
                ];
                let (_, name, statuses) = known.into_iter().find(|(sid, ..)| self.text(sid).is_some())?;
                let status = statuses.iter().find_map(|status| self.text(status));
                Some(status.map_or_else(|| name.to_owned(), |status| format!("{name}.{status}")))
            }
        }
    }

    /// The event of a verified call.
    pub(super) fn event(
        self,
        call: &Call<'_>,
        function: &FunctionName,
        (provider, service, scheme): (Provider, &Service, &Scheme),
        key: Option<&Place>,
        id: InvocationId,
    ) -> Result<Event, InvalidEvent> {
        let name = self.name(call, &service.name);
        let given = service.ids.iter().find_map(|place| self.at(call, place)).map(Cow::into_owned);
        // Whoever has a token could make any number of new calls: two that are alike are two.
        let id = given.or_else(|| scheme.content_id(call)).unwrap_or_else(|| id.to_string());
        let of = if provider.is_generic() { "webhook" } else { provider.as_str() };
        let kind = format!("{of}.{}", name.as_deref().unwrap_or(RECEIVED));
        let mut event = Event::new(id, format!("/webhooks/{function}{}", call.head.uri.path()), kind)?;
        event.set_time(humantime::format_rfc3339_micros(SystemTime::now()).to_string())?;
        if let Some(key) = key.and_then(|place| self.at(call, place)).map(Cow::into_owned) {
            event.set_extension("partitionkey", key)?;
        }
        if !self.bytes.is_empty() {
            event.set_data(self.content_type.as_deref(), self.bytes)?;
        }
        Ok(event)
    }
}
