//! The events that are published. Their data is the same 512 bytes of JSON on either side; Dunlin's are CloudEvents, whose
//! attributes come on top.

use bytes::Bytes;
use std::{io::Write as _, time::SystemTime};
use uuid::Uuid;

/// Bytes of an event's data.
pub const SIZE: usize = 512;
/// Different `partitionkey`s.
const KEYS: u64 = 1000;

/// How ids follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// UUIDs of version 7: each is greater than those before.
    Ordered,
    /// UUIDs of version 4.
    Random,
}

/// Makes events, each with an id of its own.
#[derive(Debug, Clone)]
pub struct Events {
    ids: Ids,
    /// Different `subject`s, when events have one.
    subjects: Option<u64>,
    number: u64,
}

impl Events {
    pub fn new(ids: Ids) -> Self {
        Self { ids, subjects: None, number: 0 }
    }

    /// With a `subject`: `s0`, `s1` and so on, of so many.
    pub fn of_subjects(subjects: u64) -> Self {
        Self { subjects: Some(subjects), ..Self::new(Ids::Ordered) }
    }

    /// For one of several publishers: other keys first.
    pub fn beginning_at(mut self, number: usize) -> Self {
        self.number = number as u64;
        self
    }

    /// The data of an event.
    pub fn data(&mut self) -> Bytes {
        let mut data = Vec::with_capacity(SIZE);
        write_data(&mut data, &now());
        data.into()
    }

    /// A CloudEvent as JSON.
    pub fn one(&mut self) -> Bytes {
        let mut body = Vec::with_capacity(2 * SIZE);
        self.write(&mut body);
        body.into()
    }

    /// So many CloudEvents as a JSON array.
    pub fn batch(&mut self, count: usize) -> Bytes {
        let mut body = Vec::with_capacity(2 * SIZE * count);
        for index in 0..count {
            body.push(if index == 0 { b'[' } else { b',' });
            self.write(&mut body);
        }
        body.push(b']');
        body.into()
    }

    fn write(&mut self, to: &mut Vec<u8>) {
        let id = match self.ids {
            Ids::Ordered => Uuid::now_v7(),
            Ids::Random => Uuid::new_v4(),
        };
        let (time, number) = (now(), self.number);
        self.number += 1;
        let mut write = |text: std::fmt::Arguments<'_>| to.write_fmt(text).expect("memory takes all");
        write(format_args!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"measured","time":"{time}","#
        ));
        if let Some(subjects) = self.subjects {
            write(format_args!(r#""subject":"s{}","#, number % subjects));
        }
        write(format_args!(r#""partitionkey":"k{}","datacontenttype":"application/json","data":"#, number % KEYS));
        write_data(to, &time);
        to.push(b'}');
    }
}

/// In microseconds, as the platform writes it.
fn now() -> String {
    humantime::format_rfc3339_micros(SystemTime::now()).to_string()
}

/// JSON of exactly [`SIZE`] bytes with the time in it.
fn write_data(to: &mut Vec<u8>, time: &str) {
    let end = to.len() + SIZE;
    write!(to, r#"{{"at":"{time}","text":""#).expect("memory takes all");
    to.resize(end - 2, b'x');
    to.extend_from_slice(br#""}"#);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn events_are_what_they_are_said_to_be() {
        let batch: Vec<Value> = serde_json::from_slice(&Events::of_subjects(2).batch(3)).unwrap();
        assert_eq!(batch.len(), 3);
        assert_eq!(
            batch.iter().map(|event| event["subject"].as_str().unwrap()).collect::<Vec<_>>(),
            ["s0", "s1", "s0"]
        );
        assert!(batch[0]["id"].as_str() < batch[1]["id"].as_str());
        assert_eq!(batch[0]["data"]["at"], batch[0]["time"]);
        assert_eq!(serde_json::to_vec(&batch[0]["data"]).unwrap().len(), SIZE);
        let data: Value = serde_json::from_slice(&Events::new(Ids::Random).data()).unwrap();
        assert!(data["at"].is_string());
    }
}
