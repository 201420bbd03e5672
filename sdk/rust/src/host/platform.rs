//! The platform, by the interfaces of `sdk/wit`.

#[allow(unsafe_code, missing_docs, reason = "generated")]
#[allow(
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    reason = "generated from WIT, whose docs are no Rust"
)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "function",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "dunlin::__private::bindings",
    });
}

use super::Looked;
use crate::{
    Error,
    event::{Attribute, Attributes, Origin, Received},
    handler::Outcome,
    log::Level,
    state::Failure,
};
use bindings::{
    dunlin::function::{log as log_lines, publish as publishing, types},
    exports::dunlin::function::handler::{Delivery, Failure as Refusal},
    wasi::keyvalue::{atomics, batch, store},
};

/// What the exported function does: `handle` without its types, between the types of the interface.
pub fn run(
    deliveries: Vec<Delivery>,
    handle: fn(Vec<Received>) -> Vec<Outcome>,
) -> Vec<Result<Vec<types::Draft>, Refusal>> {
    handle(deliveries.into_iter().map(received).collect()).into_iter().map(answer).collect()
}

fn received(delivery: Delivery) -> Received {
    let Delivery { topic, offset, attempt, event } = delivery;
    let extensions = event.extensions.into_iter().map(|(name, value)| {
        let value = match value {
            types::Attribute::Boolean(value) => Attribute::Boolean(value),
            types::Attribute::Integer(value) => Attribute::Integer(value),
            types::Attribute::Text(value) => Attribute::Text(value),
        };
        (name, value)
    });
    Received {
        attributes: Attributes {
            id: event.id,
            source: event.source,
            kind: event.kind,
            subject: event.subject,
            time: event.time,
            content_type: event.data_content_type,
            schema: event.data_schema,
            extensions: extensions.collect(),
        },
        data: event.data,
        origin: Some(Origin { topic, offset, attempt }),
    }
}

fn answer(outcome: Outcome) -> Result<Vec<types::Draft>, Refusal> {
    let drafts = outcome.and_then(|events| {
        events.into_iter().map(|event| event.into_parts().map(draft).map_err(Error::retry)).collect()
    });
    drafts.map_err(|error| {
        if error.is_reject() {
            return Refusal::Reject(error.message().to_owned());
        }
        let after = error.after().map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        Refusal::Retry((error.message().to_owned(), after))
    })
}

fn draft((attributes, data): (Attributes, Option<Vec<u8>>)) -> types::Draft {
    let extensions = attributes.extensions.into_iter().map(|(name, value)| {
        let value = match value {
            Attribute::Boolean(value) => types::Attribute::Boolean(value),
            Attribute::Integer(value) => types::Attribute::Integer(value),
            Attribute::Text(value) => types::Attribute::Text(value),
        };
        (name, value)
    });
    types::Draft {
        id: Some(attributes.id).filter(|id| !id.is_empty()),
        source: Some(attributes.source).filter(|source| !source.is_empty()),
        kind: attributes.kind,
        subject: attributes.subject,
        time: attributes.time,
        data_content_type: attributes.content_type,
        data_schema: attributes.schema,
        extensions: extensions.collect(),
        data,
    }
}

pub(crate) fn publish(topic: &str, events: Vec<(Attributes, Option<Vec<u8>>)>) -> Result<(), String> {
    publishing::publish(topic, &events.into_iter().map(draft).collect::<Vec<_>>())
}

pub(crate) fn log(level: Level, message: &str, fields: Vec<(String, String)>) {
    let level = match level {
        Level::Trace => log_lines::Level::Trace,
        Level::Debug => log_lines::Level::Debug,
        Level::Info => log_lines::Level::Info,
        Level::Warn => log_lines::Level::Warn,
        Level::Error => log_lines::Level::Error,
    };
    log_lines::write(level, message, &fields);
}

pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[derive(Debug)]
pub(crate) struct Bucket(store::Bucket);

impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Self, Failure> {
        Ok(Self(store::open(name)?))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.0.get(key)?)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), Failure> {
        Ok(self.0.set(key, value)?)
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), Failure> {
        Ok(self.0.delete(key)?)
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, Failure> {
        Ok(self.0.exists(key)?)
    }

    pub(crate) fn list_keys(&self, cursor: Option<String>) -> Result<(Vec<String>, Option<String>), Failure> {
        let page = self.0.list_keys(cursor.as_deref())?;
        Ok((page.keys, page.cursor))
    }

    /// In the order of the keys.
    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        Ok(batch::get_many(&self.0, keys)?.into_iter().map(|(_, value)| value).collect())
    }

    pub(crate) fn set_many(&self, entries: &[(String, Vec<u8>)]) -> Result<(), Failure> {
        Ok(batch::set_many(&self.0, entries)?)
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), Failure> {
        Ok(batch::delete_many(&self.0, keys)?)
    }

    pub(crate) fn increment(&self, key: &str, delta: i64) -> Result<i64, Failure> {
        Ok(atomics::increment(&self.0, key, delta)?)
    }

    pub(crate) fn look(&self, key: &str) -> Result<Looked<Cas>, Failure> {
        looked(atomics::Cas::new(&self.0, key)?)
    }
}

#[derive(Debug)]
pub(crate) struct Cas(atomics::Cas);

impl Cas {
    /// Writes the value if the key holds what it held; otherwise says what it holds now.
    pub(crate) fn swap(self, value: &[u8]) -> Result<Option<Looked<Self>>, Failure> {
        match atomics::swap(self.0, value) {
            Ok(()) => Ok(None),
            Err(atomics::CasError::CasFailed(cas)) => looked(cas).map(Some),
            Err(atomics::CasError::StoreError(error)) => Err(error.into()),
        }
    }
}

fn looked(cas: atomics::Cas) -> Result<Looked<Cas>, Failure> {
    let value = cas.current()?;
    Ok((Cas(cas), value))
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchStore,
            store::Error::AccessDenied => Self::AccessDenied,
            store::Error::Other(reason) => Self::Other(reason),
        }
    }
}
