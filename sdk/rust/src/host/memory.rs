//! A platform in memory, for tests. Each thread has its own, as each test has its thread.
//!
//! It refuses what the platform refuses about keys, values and events, so that a test fails where a run would.

use super::Looked;
use crate::{
    Outgoing,
    event::Attributes,
    log::Level,
    state::Failure,
    testing::{LogLine, Published},
};
use std::{cell::RefCell, collections::BTreeMap};

const MAX_KEY: usize = 1024;
const MAX_VALUE: usize = 1 << 20;

/// All there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Host {
    pub(crate) published: Vec<Published>,
    pub(crate) buckets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    pub(crate) logged: Vec<LogLine>,
    pub(crate) variables: BTreeMap<String, String>,
    /// Events that were made up, for their ids.
    pub(crate) made: u64,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

pub(crate) fn with<T>(work: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(work)
}

pub(crate) fn publish(topic: &str, events: Vec<(Attributes, Option<Vec<u8>>)>) -> Result<(), String> {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    if !topic.split('.').all(part) {
        return Err(
            "it is not a topic name: use lowercase letters, digits, `-` and `_`, in parts separated by dots".into()
        );
    }
    for (attributes, _) in &events {
        check(attributes)?;
    }
    let events = events.into_iter().map(Outgoing::from_parts);
    with(|host| host.published.extend(events.map(|event| Published { topic: topic.to_owned(), event })));
    Ok(())
}

/// What the platform would refuse about an event's attributes, as far as a slip of the pen goes.
pub(crate) fn check(attributes: &Attributes) -> Result<(), String> {
    if attributes.kind.is_empty() {
        return Err("`type` is empty".to_owned());
    }
    for (name, value) in [
        ("subject", &attributes.subject),
        ("time", &attributes.time),
        ("datacontenttype", &attributes.content_type),
        ("dataschema", &attributes.schema),
    ] {
        if value.as_deref() == Some("") {
            return Err(format!("`{name}` is empty; leave it out"));
        }
    }
    const CORE: [&str; 10] = [
        "id",
        "source",
        "type",
        "subject",
        "time",
        "dataschema",
        "datacontenttype",
        "specversion",
        "data",
        "data_base64",
    ];
    for name in attributes.extensions.keys() {
        if CORE.contains(&name.as_str()) {
            return Err(format!("`{name}` is no extension: the specification defines it"));
        }
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(format!("`{name}` is not the name of an attribute: use lowercase letters and digits"));
        }
    }
    Ok(())
}

pub(crate) fn log(level: Level, message: &str, fields: Vec<(String, String)>) {
    // A test that fails shows what it printed.
    let shown: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    println!("{level:?} {message}{shown}");
    with(|host| host.logged.push(LogLine { level, message: message.to_owned(), fields }));
}

pub(crate) fn variable(name: &str) -> Option<String> {
    with(|host| host.variables.get(name).cloned()).or_else(|| std::env::var(name).ok())
}

#[derive(Debug)]
pub(crate) struct Bucket(String);

impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Self, Failure> {
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        check_key(key)?;
        Ok(self.with(|values| values.get(key).cloned()))
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Failure> {
        check_key(key)?;
        if value.len() > MAX_VALUE {
            return Err(Failure::Other(format!(
                "a value has up to {MAX_VALUE} bytes: `{key}` would have {}",
                value.len()
            )));
        }
        self.with(|values| values.insert(key.to_owned(), value.to_owned()));
        Ok(())
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Failure> {
        check_key(key)?;
        self.with(|values| values.remove(key));
        Ok(())
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, Failure> {
        Ok(self.get(key)?.is_some())
    }

    pub(crate) fn list_keys(&self, cursor: Option<String>) -> Result<(Vec<String>, Option<String>), Failure> {
        // The pages are short, so that a test meets more than one.
        const PAGE: usize = 10;
        self.with(|values| {
            let mut rest = values.keys().filter(|key| cursor.as_ref().is_none_or(|cursor| *key > cursor)).cloned();
            let keys: Vec<_> = rest.by_ref().take(PAGE).collect();
            let cursor = rest.next().and_then(|_| keys.last().cloned());
            Ok((keys, cursor))
        })
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    pub(crate) fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Failure> {
        let before = self.with(|values| values.clone());
        let set = entries.iter().try_for_each(|(key, value)| self.set(key, value));
        if set.is_err() {
            self.with(|values| *values = before);
        }
        set
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), Failure> {
        keys.iter().try_for_each(|key| check_key(key))?;
        keys.iter().try_for_each(|key| self.delete(key))
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, Failure> {
        let number = match self.get(key)? {
            None => 0,
            Some(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or_else(|| Failure::Other(format!("`{key}` holds no number")))?,
        };
        let sum = number.checked_add(delta).ok_or_else(|| Failure::Other(format!("`{key}` would not fit 64 bits")))?;
        self.set(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }

    pub(crate) fn look(&self, key: &str) -> Result<Looked<Cas>, Failure> {
        let held = self.get(key)?;
        Ok((Cas { bucket: Self(self.0.clone()), key: key.to_owned(), held: held.clone() }, held))
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
        with(|host| work(host.buckets.entry(self.0.clone()).or_default()))
    }
}

#[derive(Debug)]
pub(crate) struct Cas {
    bucket: Bucket,
    key: String,
    held: Option<Vec<u8>>,
}

impl Cas {
    pub(crate) fn swap(self, value: &[u8]) -> Result<Option<Looked<Self>>, Failure> {
        if self.bucket.get(&self.key)? == self.held {
            self.bucket.set(&self.key, value)?;
            return Ok(None);
        }
        self.bucket.look(&self.key).map(Some)
    }
}

fn check_key(key: &str) -> Result<(), Failure> {
    let reason = match key.len() {
        0 => "this one is empty".to_owned(),
        length if length > MAX_KEY => format!("this one has {length} bytes"),
        _ if key.chars().any(char::is_control) => format!("`{}` has some", key.escape_debug()),
        _ => return Ok(()),
    };
    Err(Failure::Other(format!("a key has 1 to {MAX_KEY} bytes and no control characters: {reason}")))
}
