//! What else a guest imports beside WASI and state: publishing, logging, and its configuration.

use crate::{
    access::weight,
    bindings::{
        function::dunlin::function::{log, publish, types},
        others::wasi::config::store as config,
    },
    host::Host,
    keyvalue::Unavailable,
};
use dunlin_events::{
    effects::{Draft, EffectError},
    event::Value,
    logs::LogStream,
};
use std::fmt::Write;

impl From<types::Draft> for Draft {
    fn from(draft: types::Draft) -> Self {
        let value = |value| match value {
            types::AttributeResult::Boolean(value) => Value::Boolean(value),
            types::AttributeResult::Integer(value) => Value::Integer(value),
            types::AttributeResult::Text(text) => Value::String(text),
        };
        Self {
            id: draft.id,
            source: draft.source,
            kind: draft.kind,
            subject: draft.subject,
            time: draft.time,
            data_content_type: draft.data_content_type,
            data_schema: draft.data_schema,
            extensions: draft.extensions.into_iter().map(|(name, attribute)| (name, value(attribute))).collect(),
            data: draft.data.map(Into::into),
        }
    }
}

impl publish::Host for Host {
    async fn publish(&mut self, topic: String, events: Vec<types::Draft>) -> wasmtime::Result<Result<(), String>> {
        let topic = match self.access.rights().topic(&topic) {
            Ok(topic) => topic,
            Err(reason) => return Ok(Err(reason)),
        };
        let published = async {
            let drafts: Vec<Draft> = events.into_iter().map(Into::into).collect();
            self.access.keep_events(drafts.len())?;
            self.access.keep(drafts.iter().map(weight).sum())?;
            self.access.effects()?.publish(topic, drafts).await
        };
        match published.await {
            Ok(()) => Ok(Ok(())),
            Err(EffectError::Refused(reason)) => Ok(Err(reason)),
            Err(EffectError::Unavailable(reason)) => Err(Unavailable(reason).into()),
        }
    }
}

impl types::Host for Host {}

impl log::Host for Host {
    /// One line, as `WARN the card was declined order=17 reason="no funds"`. Warnings and errors go where stderr goes.
    fn write(&mut self, level: log::Level, message: String, fields: Vec<(String, String)>) -> wasmtime::Result<()> {
        let (word, stream) = match level {
            log::Level::Trace => ("TRACE", LogStream::Stdout),
            log::Level::Debug => ("DEBUG", LogStream::Stdout),
            log::Level::Info => ("INFO", LogStream::Stdout),
            log::Level::Warn => ("WARN", LogStream::Stderr),
            log::Level::Error => ("ERROR", LogStream::Stderr),
        };
        let mut line = format!("{word} {message}");
        for (name, value) in fields {
            // Nothing is escaped: a secret would not be found any more in what the log masks.
            let value = value.replace(['\n', '\r'], " ");
            let quote = if value.is_empty() || value.contains([' ', '"', '=']) { "\"" } else { "" };
            write!(line, " {name}={quote}{value}{quote}").expect("a string takes what is written to it");
        }
        self.output.line(stream, &line);
        Ok(())
    }
}

impl config::Host for Host {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<String>, config::Error>> {
        Ok(Ok(self.configuration.iter().find(|(name, _)| *name == key).map(|(_, value)| value.clone())))
    }

    fn get_all(&mut self) -> wasmtime::Result<Result<Vec<(String, String)>, config::Error>> {
        Ok(Ok(self.configuration.to_vec()))
    }
}
