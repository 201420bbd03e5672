//! The events functions make: what they leave out is filled in here.
//!
//! An event of a run gets an id made of the function, the event it ran for, and its number among the events of that run. It
//! is the same however often the run is repeated, and counts up with the input, so that the log finds duplicates cheaply.

use dunlin_events::{
    Event, FunctionName, InvocationId,
    effects::Draft,
    event::Value,
    topics::{Offset, TopicName},
};
use std::time::SystemTime;

/// The extension that counts how many functions an event has come through.
pub const DEPTH: &str = "dunlindepth";
/// What it may count to. More is a loop.
pub(super) const MAX_DEPTH: i32 = 100;
/// The largest event, its attributes included.
pub const MAX_EVENT: usize = 1 << 20;

/// Extensions of the event a run was for that its own events have too, unless it says otherwise: what belongs together
/// stays together.
const INHERITED: [&str; 3] = ["traceparent", "tracestate", "partitionkey"];

/// Where an event comes from.
pub(crate) enum Origin<'a> {
    /// A run on an event.
    Run { function: &'a FunctionName, topic: &'a TopicName, offset: Offset, event: &'a Event },
    /// A call over HTTP.
    Call { function: &'a FunctionName },
}

impl Origin<'_> {
    fn function(&self) -> &FunctionName {
        match self {
            Self::Run { function, .. } | Self::Call { function } => function,
        }
    }

    /// An id for the event of this number.
    fn id(&self, number: usize) -> String {
        match self {
            // Digits of a fixed number: the log's index is in the order of text.
            Self::Run { topic, offset, .. } => format!("{topic}.{offset:012}.{number:04}"),
            Self::Call { .. } => InvocationId::new().to_string(),
        }
    }

    fn depth(&self) -> i32 {
        match self {
            Self::Run { event, .. } => depth(event) + 1,
            Self::Call { .. } => 0,
        }
    }
}

/// How many functions an event has come through.
pub(crate) fn depth(event: &Event) -> i32 {
    match event.extension(DEPTH) {
        Some(Value::Integer(depth)) => *depth,
        Some(Value::String(depth)) => depth.parse().unwrap_or(0),
        _ => 0,
    }
}

/// What is wrong with an event, before it is known where it comes from.
pub(super) fn check(draft: &Draft) -> Result<(), String> {
    let function = "check".parse().expect("it is a name");
    event(draft.clone(), &Origin::Call { function: &function }, 0).map(drop)
}

/// Makes a whole event of a function's, its `number`th.
pub(crate) fn event(draft: Draft, origin: &Origin<'_>, number: usize) -> Result<Event, String> {
    let source = draft.source.unwrap_or_else(|| format!("/functions/{}", origin.function()));
    let id = draft.id.unwrap_or_else(|| origin.id(number));
    let made = (|| {
        let mut event = Event::new(id, source, draft.kind)?;
        if let Some(subject) = draft.subject {
            event.set_subject(subject)?;
        }
        match draft.time {
            Some(time) => event.set_time(time)?,
            None => event.set_time(humantime::format_rfc3339_micros(SystemTime::now()).to_string())?,
        }
        if let Some(schema) = draft.data_schema {
            event.set_data_schema(schema)?;
        }
        for (name, value) in draft.extensions {
            event.set_extension(&name, value)?;
        }
        if let Some(data) = draft.data {
            event.set_data(draft.data_content_type.as_deref(), data)?;
        }
        if let Origin::Run { event: cause, .. } = origin {
            for name in INHERITED {
                if event.extension(name).is_none()
                    && let Some(value) = cause.extension(name)
                {
                    event.set_extension(name, value.clone())?;
                }
            }
        }
        event.remove_extension(DEPTH);
        if origin.depth() > 0 {
            event.set_extension(DEPTH, Value::Integer(origin.depth()))?;
        }
        Ok::<_, dunlin_events::event::InvalidEvent>(event)
    })();
    let event = made.map_err(|error| format!("an event it makes is not valid: {error}"))?;
    if event.size() > MAX_EVENT {
        return Err(format!("an event it makes has {} bytes, and the most is {MAX_EVENT}", event.size()));
    }
    Ok(event)
}
