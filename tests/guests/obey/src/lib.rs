//! A guest of the tests that handles events: it does what each event says, step by step.

use dunlin::{Error, Event, Result, state};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    /// Adds to a number in its own state.
    Count {
        key: String,
        by: i64,
    },
    /// Adds to a number it reads and writes, which conflicts with others that do the same.
    Add {
        key: String,
        by: i64,
    },
    /// Adds to a number in a shared bucket.
    Share {
        bucket: String,
        key: String,
    },
    /// Appends to a list in its own state.
    Append {
        key: String,
        value: Value,
    },
    /// Publishes an event with this data while it runs.
    Publish {
        topic: String,
        data: Value,
    },
    /// Returns so many events.
    Return(u32),
    /// Fails until this attempt.
    FailUntil(u32),
    /// Fails for as long as its state doesn't hold this key.
    FailWithout(String),
    Retry(String),
    Reject(String),
    Trap,
    Panic(String),
    /// Computes for ever.
    Loop,
    /// Takes more memory than it may.
    Hog,
    Sleep(u64),
}

/// The steps, as they are or as a schedule's event has them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Steps {
    Plain(Vec<Step>),
    Scheduled { data: Vec<Step> },
}

#[dunlin::handler]
fn on_event(event: Event<Steps>) -> Result<Vec<Event<Value>>> {
    let own = state::bucket();
    let mut returned = Vec::new();
    let (Steps::Plain(steps) | Steps::Scheduled { data: steps }) = &event.data;
    for step in steps {
        match step {
            Step::Count { key, by } => drop(own.increment(key, *by)?),
            Step::Add { key, by } => {
                let sum = own.get::<i64>(key)?.unwrap_or(0);
                own.set(key, &(sum + by))?;
            }
            Step::Share { bucket, key } => drop(state::shared(bucket).increment(key, 1)?),
            Step::Append { key, value } => {
                let mut list = own.get::<Vec<Value>>(key)?.unwrap_or_default();
                list.push(value.clone());
                own.set(key, &list)?;
            }
            Step::Publish { topic, data } => dunlin::publish(topic, Event::new("obey.published", data.clone()))?,
            Step::Return(count) => {
                for number in 0..*count {
                    returned.push(Event::new("obey.returned", json!({ "of": event.id(), "number": number })));
                }
            }
            Step::FailUntil(attempt) if event.attempt() < *attempt => {
                return Err(Error::retry(format!("attempt {} is not yet {attempt}", event.attempt())));
            }
            Step::FailUntil(_) => {}
            Step::FailWithout(key) if !own.exists(key)? => return Err(Error::retry(format!("there is no `{key}`"))),
            Step::FailWithout(_) => {}
            Step::Retry(reason) => return Err(Error::retry(reason)),
            Step::Reject(reason) => return Err(Error::reject(reason)),
            #[cfg(target_family = "wasm")]
            Step::Trap => core::arch::wasm32::unreachable(),
            #[cfg(not(target_family = "wasm"))]
            Step::Trap => std::process::abort(),
            Step::Panic(message) => panic!("{message}"),
            Step::Loop => loop {
                std::hint::black_box(0);
            },
            Step::Hog => {
                let mut hogged = Vec::new();
                loop {
                    hogged.push(std::hint::black_box(vec![1_u8; 1 << 20]));
                }
            }
            Step::Sleep(millis) => std::thread::sleep(std::time::Duration::from_millis(*millis)),
        }
    }
    Ok(returned)
}
