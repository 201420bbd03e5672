//! A case: a file with what comes in, and what must come of it.
//!
//! ```json
//! { "topic": "orders",
//!   "given": { "state": { "orders": 1 } },
//!   "event": { "type": "order.created", "data": { "total": 5 } },
//!   "returns": [{ "type": "order.paid", "data": { "amount": 5 } }],
//!   "publishes": { "audit": [{ "type": "charged" }] },
//!   "state": { "orders": 2 } }
//! ```
//! What is left out is not looked at. An event that is expected names what matters: other attributes may be as they are, but
//! its data, if it is named, is all of it.

use super::shown;
use crate::report::Failure;
use anyhow::Context as _;
use dunlin_events::{Event, topics::TopicName};
use dunlin_gateway::api::EventRecord;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Values by key.
pub(super) type State = BTreeMap<String, Value>;

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Script {
    /// The topic the event comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<TopicName>,
    /// What is there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) given: Option<Given>,
    /// The event: at least its type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) event: Option<Map<String, Value>>,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<Request>,

    #[serde(default, skip_serializing_if = "Option::is_none")]
    response: Option<Response>,
    /// The events it returns, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    returns: Option<Vec<Map<String, Value>>>,
    /// The events it publishes while it runs, by topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    publishes: Option<BTreeMap<TopicName, Vec<Map<String, Value>>>>,
    /// All there is in its own bucket, afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<State>,
    /// All there is in shared buckets, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shared: Option<BTreeMap<String, State>>,
    /// The event is rejected, and this is in what the function says of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rejects: Option<String>,
    /// The run fails, so that it would be tried again, and this is in the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fails: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Given {
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) state: State,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) shared: BTreeMap<String, State>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// `GET`, or `POST` where there is a body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) method: Option<String>,
    /// With its query.
    pub(super) path: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    /// A text, or anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Response {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<u16>,
    /// Those that matter, by their names in lowercase.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) headers: BTreeMap<String, String>,
    /// A text, or anything else as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Value>,
}

/// What came of a case.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Outcome {
    /// When it began, in milliseconds since the Unix epoch.
    pub(super) begun: u64,
    pub(super) response: Option<Response>,
    pub(super) returned: Vec<Event>,
    pub(super) published: BTreeMap<TopicName, Vec<Event>>,
    pub(super) state: State,
    pub(super) shared: BTreeMap<String, State>,
    pub(super) failure: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failed {
    /// The function said so itself.
    pub(super) rejected: bool,
    pub(super) error: String,
}

#[derive(Debug)]
pub(super) struct Case {
    path: PathBuf,
    name: String,
    pub(super) script: Script,
}

impl Case {
    /// The cases of a function: those beside its manifest and in `tests`, in the order of their names.
    pub(super) fn all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let mut paths = Vec::new();
        for folder in [folder.to_owned(), folder.join("tests")] {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let path = entry.with_context(|| format!("the folder `{}` can't be read", folder.display()))?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.ends_with(".event.json") || name.ends_with(".request.json") {
                    paths.push(path);
                }
            }
        }
        paths.sort();
        paths.into_iter().map(|path| Self::read(path, folder)).collect()
    }

    fn read(path: PathBuf, folder: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(&path).with_context(|| format!("`{}` can't be read", path.display()))?;
        let wrong = |what: String| Failure::refused(format!("`{}` is no case: {what}", path.display()));
        let script: Script = serde_json::from_str(&text)
            .map_err(|error| wrong(error.to_string()).help("`dunlin test --help` shows what a case looks like"))?;
        match (&script.event, &script.request) {
            (Some(_), None) => {
                script.incoming("test").map_err(|error| wrong(format!("`event`: {error}")))?;
                if script.response.is_some() {
                    return Err(wrong("an event has no `response`".into())
                        .help("`returns` has the events that come of it")
                        .into());
                }
            }
            (None, Some(_)) => {
                if script.rejects.is_some() || script.fails.is_some() {
                    return Err(wrong("a request is not rejected".into()).help("`response` has a status").into());
                }
            }
            _ => return Err(wrong("it needs either `event` or `request`".into()).into()),
        }
        Ok(Self { name: shown(&path, folder), path, script })
    }

    /// Makes a case of an event of a topic, unless there is one.
    pub(super) fn make(folder: &Path, topic: &TopicName, record: &EventRecord) -> anyhow::Result<bool> {
        let path = folder.join(format!("{topic}-{}.event.json", record.offset));
        if path.exists() {
            return Ok(false);
        }
        fs::create_dir_all(folder).with_context(|| format!("`{}` can't be made", folder.display()))?;
        let event = attributes(&record.event);
        write(&path, &Script { topic: Some(topic.clone()), event: Some(event), ..Script::default() })?;
        Ok(true)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was made of an event and nobody has said what must come of it.
    pub(super) fn is_new(&self) -> bool {
        let Script { response, returns, publishes, state, shared, rejects, fails, .. } = &self.script;
        response.is_none()
            && returns.is_none()
            && publishes.is_none()
            && state.is_none()
            && shared.is_none()
            && rejects.is_none()
            && fails.is_none()
    }

    /// Writes what came as what must come.
    pub(super) fn record(&mut self, outcome: &Outcome) -> anyhow::Result<bool> {
        let expected = |events: &[Event]| events.iter().map(essence).collect::<Vec<_>>();
        let script = &mut self.script;
        let before = script.clone();
        let some = |state: &State| Some(state.clone()).filter(|state| !state.is_empty());
        script.response = outcome.response.clone();
        (script.rejects, script.fails) = match &outcome.failure {
            Some(Failed { rejected: true, error }) => (Some(first_line(error)), None),
            Some(Failed { rejected: false, error }) => (None, Some(first_line(error))),
            None => (None, None),
        };
        script.returns = (outcome.failure.is_none() && script.event.is_some()).then(|| expected(&outcome.returned));
        let published: BTreeMap<_, _> =
            outcome.published.iter().map(|(topic, events)| (topic.clone(), expected(events))).collect();
        script.publishes = Some(published).filter(|published| !published.is_empty());
        script.state = some(&outcome.state);
        script.shared = Some(outcome.shared.clone()).filter(|shared| shared.values().any(|state| !state.is_empty()));
        if *script == before {
            return Ok(false);
        }
        write(&self.path, script)?;
        Ok(true)
    }

    /// What is not as it must be, in words.
    pub(super) fn differences(&self, outcome: &Outcome) -> Vec<String> {
        let script = &self.script;
        let mut found = Vec::new();
        match (&script.rejects, &script.fails, &outcome.failure) {
            (None, None, None) => {}
            (None, None, Some(Failed { rejected, error })) => {
                found.push(format!("{}: {error}", if *rejected { "it was rejected" } else { "it failed" }));
            }
            (Some(_), _, None) => found.push("it was taken, and not rejected".into()),
            (_, Some(_), None) => found.push("it was taken, and did not fail".into()),
            (Some(text), _, Some(failed)) => {
                if !failed.rejected || !failed.error.contains(text) {
                    found.push(format!("it must be rejected with {text:?}, and it was: {}", failed.error));
                }
            }
            (_, Some(text), Some(failed)) => {
                if failed.rejected || !failed.error.contains(text) {
                    found.push(format!("it must fail with {text:?}, and it was: {}", failed.error));
                }
            }
        }
        if let (Some(expected), Some(found_response)) = (&script.response, &outcome.response) {
            compare_responses(expected, found_response, &mut found);
        }
        if let Some(expected) = &script.returns {
            compare_events("returns", expected, &outcome.returned, &mut found);
        }
        for (topic, expected) in script.publishes.iter().flatten() {
            let published = outcome.published.get(topic).map_or(&[][..], Vec::as_slice);
            compare_events(&format!("publishes to `{topic}`"), expected, published, &mut found);
        }
        if let Some(expected) = &script.state {
            compare_states("state", expected, &outcome.state, &mut found);
        }
        for (bucket, expected) in script.shared.iter().flatten() {
            let empty = State::new();
            let state = outcome.shared.get(bucket).unwrap_or(&empty);
            compare_states(&format!("shared `{bucket}`"), expected, state, &mut found);
        }
        found
    }
}

impl Script {
    /// The event that comes in. What it doesn't say is made up, always in the same way.
    pub(super) fn incoming(&self, id: &str) -> anyhow::Result<Event> {
        let mut event = self.event.clone().unwrap_or_default();
        for (name, value) in [("specversion", "1.0"), ("id", id), ("source", "/test")] {
            event.entry(name).or_insert_with(|| value.into());
        }
        Ok(Event::from_json(&serde_json::to_vec(&event)?)?)
    }

    /// The topics whose new events are looked at.
    pub(super) fn topics(&self) -> impl Iterator<Item = &TopicName> {
        self.publishes.iter().flatten().map(|(topic, _)| topic)
    }
}

fn write(path: &Path, script: &Script) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(script)?;
    text.push('\n');
    fs::write(path, text).with_context(|| format!("`{}` can't be written", path.display()))
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// An event as JSON has it.
fn attributes(event: &Event) -> Map<String, Value> {
    match serde_json::from_slice(&event.to_json()) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// What of an event is the same in every run.
fn essence(event: &Event) -> Map<String, Value> {
    let mut map = attributes(event);
    map.retain(|name, _| {
        !matches!(name.as_str(), "specversion" | "id" | "source" | "time" | "traceparent" | "tracestate")
            && !name.starts_with("dunlin")
    });
    map
}

fn compare_events(what: &str, expected: &[Map<String, Value>], found: &[Event], differences: &mut Vec<String>) {
    if expected.len() != found.len() {
        let listed: Vec<_> = found.iter().map(|event| json!(essence(event)).to_string()).collect();
        let listed = if listed.is_empty() { "none".to_owned() } else { listed.join("\n  ") };
        differences.push(format!(
            "{what}: {} events are expected, and there are {}:\n  {listed}",
            expected.len(),
            found.len()
        ));
        return;
    }
    for (number, (expected, found)) in expected.iter().zip(found).enumerate() {
        let found = attributes(found);
        for (name, expected) in expected {
            let is = found.get(name);
            if is != Some(expected) {
                let is = is.map_or("nothing".to_owned(), Value::to_string);
                differences.push(format!("{what}[{number}].{name}\n  expected {expected}\n  found    {is}"));
            }
        }
    }
}

fn compare_states(what: &str, expected: &State, found: &State, differences: &mut Vec<String>) {
    let keys: std::collections::BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    for key in keys {
        let (expected, found) = (expected.get(key), found.get(key));
        if expected != found {
            let text = |value: Option<&Value>| value.map_or("nothing".to_owned(), Value::to_string);
            differences.push(format!("{what} {key:?}\n  expected {}\n  found    {}", text(expected), text(found)));
        }
    }
}

fn compare_responses(expected: &Response, found: &Response, differences: &mut Vec<String>) {
    if expected.status.is_some() && expected.status != found.status {
        let [expected, is] = [expected, found].map(|response| response.status.unwrap_or_default());
        let body = found.body.as_ref().map(|body| format!(": {body}")).unwrap_or_default();
        differences.push(format!("status: expected {expected}, found {is}{body}"));
    }
    for (name, expected) in &expected.headers {
        let is = found.headers.get(&name.to_lowercase());
        if is != Some(expected) {
            let is = is.map_or("nothing".to_owned(), |is| format!("{is:?}"));
            differences.push(format!("header `{name}`: expected {expected:?}, found {is}"));
        }
    }
    if let Some(expected) = &expected.body {
        // JSON that was sent as a text of another type may be written as JSON here.
        let parsed = found.body.as_ref().and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
        if found.body.as_ref() != Some(expected) && parsed.as_ref() != Some(expected) {
            let is = found.body.as_ref().map_or("nothing".to_owned(), Value::to_string);
            differences.push(format!("body\n  expected {expected}\n  found    {is}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(folder: &Path, script: &Value) -> anyhow::Result<Case> {
        let path = folder.join("a.event.json");
        fs::write(&path, script.to_string()).unwrap();
        Case::read(path, folder)
    }

    fn paid(amount: u32) -> Event {
        let mut event = Event::new("7", "/functions/billing", "order.paid").unwrap();
        event.set_data(Some("application/json"), format!("{{\"amount\": {amount}}}").into()).unwrap();
        event
    }

    #[test]
    fn what_is_named_must_be_so_and_the_rest_may() {
        let folder = tempfile::tempdir().unwrap();
        let script = json!({ "event": { "type": "order.created" }, "returns": [{ "type": "order.paid", "data": { "amount": 5 } }], "state": { "n": 1 } });
        let case = case(folder.path(), &script).unwrap();
        assert_eq!(case.script.incoming("a").unwrap().id(), "a");
        let good =
            Outcome { returned: vec![paid(5)], state: State::from([("n".into(), json!(1))]), ..Outcome::default() };
        assert_eq!(case.differences(&good), Vec::<String>::new());
        let other =
            Outcome { returned: vec![paid(6)], state: State::from([("m".into(), json!(1))]), ..Outcome::default() };
        assert_eq!(
            case.differences(&other),
            [
                "returns[0].data\n  expected {\"amount\":5}\n  found    {\"amount\":6}",
                "state \"m\"\n  expected nothing\n  found    1",
                "state \"n\"\n  expected 1\n  found    nothing",
            ]
        );
        let failed = Outcome { failure: Some(Failed { rejected: true, error: "no".into() }), ..good.clone() };
        assert_eq!(case.differences(&failed), ["it was rejected: no"]);
        let none = Outcome { returned: vec![], ..good };
        assert_eq!(case.differences(&none), ["returns: 1 events are expected, and there are 0:\n  none"]);
    }

    #[test]
    fn failures_are_expected_by_kind_and_text() {
        let folder = tempfile::tempdir().unwrap();
        let case = case(folder.path(), &json!({ "event": { "type": "a" }, "rejects": "total" })).unwrap();
        let outcome = |rejected, error: &str| Outcome {
            failure: Some(Failed { rejected, error: error.into() }),
            ..Outcome::default()
        };
        assert!(case.differences(&outcome(true, "`total` is 0")).is_empty());
        assert_eq!(case.differences(&outcome(false, "`total` is 0")).len(), 1);
        assert_eq!(case.differences(&outcome(true, "other")).len(), 1);
        assert_eq!(case.differences(&Outcome::default()), ["it was taken, and not rejected"]);
    }

    #[test]
    fn what_is_recorded_passes_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mut new = case(folder.path(), &json!({ "event": { "type": "a" } })).unwrap();
        assert!(new.is_new());
        let outcome = Outcome { returned: vec![paid(5)], ..Outcome::default() };
        assert!(new.record(&outcome).unwrap());
        let mut again = Case::read(folder.path().join("a.event.json"), folder.path()).unwrap();
        assert!(!again.is_new() && again.differences(&outcome).is_empty());
        assert!(!again.record(&outcome).unwrap(), "nothing changed");
        let text = fs::read_to_string(folder.path().join("a.event.json")).unwrap();
        assert!(text.contains("\"amount\": 5") && !text.contains("\"id\""), "{text}");
    }

    #[test]
    fn what_is_no_case_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        for (script, complaint) in [
            (json!({}), "it needs either `event` or `request`"),
            (json!({ "event": { "type": "" } }), "`event`: "),
            (json!({ "evnt": 1 }), "unknown field `evnt`"),
            (json!({ "event": { "type": "a" }, "response": {} }), "an event has no `response`"),
            (json!({ "request": { "path": "/" }, "rejects": "x" }), "a request is not rejected"),
        ] {
            let error = case(folder.path(), &script).unwrap_err().to_string();
            assert!(error.contains(complaint) && error.contains("a.event.json"), "{error}");
        }
    }
}
