//! Between a handler, whose types are its own, and the platform, which hands over bytes and takes outcomes.

use crate::{
    Error, Event, Outgoing,
    data::{FromData, IntoData},
    event::Received,
};
use std::marker::PhantomData;

/// What became of one event: the events it led to, or why it was not taken.
pub(crate) type Outcome = Result<Vec<Outgoing>, Error>;

/// A function `#[dunlin::handler]` can be put on. There is nothing to implement: see [`handler`](macro@crate::handler).
///
/// `Shape` is what tells one event from several; it is never named.
#[diagnostic::on_unimplemented(
    message = "`#[dunlin::handler]` can't be put on this function",
    label = "its parameter or its answer doesn't fit",
    note = "it takes an `Event<T>`, where `T` can be deserialized, and answers with nothing, an `Event`, an `Option` or a \
            `Vec` of them, or a `Result` of these; or it takes a `Vec<Event<T>>` and answers with a `Vec` of such answers, \
            one for each event"
)]
pub trait Handler<Shape> {
    #[doc(hidden)]
    fn handle(&self, events: Vec<Received>) -> Vec<Result<Vec<Outgoing>, Error>>;
}

#[doc(hidden)]
pub struct One<T, R>(PhantomData<(T, R)>);

#[doc(hidden)]
pub struct Many<T, R>(PhantomData<(T, R)>);

/// One at a time, also where the platform hands over several.
impl<F, T, R> Handler<One<T, R>> for F
where
    F: Fn(Event<T>) -> R,
    T: FromData,
    R: Returned,
{
    fn handle(&self, events: Vec<Received>) -> Vec<Outcome> {
        events.into_iter().map(|event| self(event.decode()?).returned()).collect()
    }
}

/// All at once, but for those that can't be read.
impl<F, T, R> Handler<Many<T, R>> for F
where
    F: Fn(Vec<Event<T>>) -> R,
    T: FromData,
    R: ReturnedEach,
{
    fn handle(&self, events: Vec<Received>) -> Vec<Outcome> {
        let mut readable = Vec::with_capacity(events.len());
        let mut outcomes: Vec<Option<Outcome>> = Vec::with_capacity(events.len());
        for event in events {
            outcomes.push(match event.decode() {
                Ok(event) => {
                    readable.push(event);
                    None
                }
                Err(error) => Some(Err(error)),
            });
        }
        if readable.is_empty() {
            return outcomes.into_iter().flatten().collect();
        }
        let count = readable.len();
        let mut answers = self(readable).returned_each(count).into_iter();
        let mut next = || answers.next().expect("there is an answer for each event that was readable");
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(&mut next)).collect()
    }
}

/// What a handler of one event can answer with.
///
/// | answer | meaning |
/// | --- | --- |
/// | `()` | taken |
/// | [`Event<T>`] | taken, and this one is returned |
/// | `Option<…>` | taken, and perhaps one is returned |
/// | `Vec<…>`, `[…; N]` | taken, and these are returned |
/// | `(A, B)`, `(A, B, C)` | all of them, of different types |
/// | `Result<…, E>` | one of these, or not taken: `E` is an [`Error`], or any `std::error::Error` |
///
/// Returned events go to the topic the manifest names in `publish`.
#[diagnostic::on_unimplemented(
    message = "a handler can't answer with `{Self}`",
    label = "answer with nothing, an `Event<T>`, an `Option` or `Vec` of them, or a `Result` of these"
)]
pub trait Returned {
    #[doc(hidden)]
    fn returned(self) -> Result<Vec<Outgoing>, Error>;
}

impl Returned for () {
    fn returned(self) -> Outcome {
        Ok(Vec::new())
    }
}

impl<T: IntoData> Returned for Event<T> {
    fn returned(self) -> Outcome {
        Ok(vec![self.erase().written().map_err(Error::retry)?])
    }
}

impl<R: Returned> Returned for Option<R> {
    fn returned(self) -> Outcome {
        self.map_or_else(|| Ok(Vec::new()), R::returned)
    }
}

impl<R: Returned> Returned for Vec<R> {
    fn returned(self) -> Outcome {
        all(self.into_iter().map(R::returned))
    }
}

impl<R: Returned, const N: usize> Returned for [R; N] {
    fn returned(self) -> Outcome {
        all(self.into_iter().map(R::returned))
    }
}

impl<A: Returned, B: Returned> Returned for (A, B) {
    fn returned(self) -> Outcome {
        all([self.0.returned(), self.1.returned()])
    }
}

impl<A: Returned, B: Returned, C: Returned> Returned for (A, B, C) {
    fn returned(self) -> Outcome {
        all([self.0.returned(), self.1.returned(), self.2.returned()])
    }
}

impl<R: Returned, E: Into<Error>> Returned for Result<R, E> {
    fn returned(self) -> Outcome {
        self.map_err(E::into)?.returned()
    }
}

fn all(outcomes: impl IntoIterator<Item = Outcome>) -> Outcome {
    outcomes.into_iter().collect::<Result<Vec<_>, _>>().map(|events| events.into_iter().flatten().collect())
}

/// What a handler of several events can answer with.
///
/// | answer | meaning |
/// | --- | --- |
/// | `Vec<R>` | for each event, in their order, what a handler of one event can answer with |
/// | `()` | all are taken |
/// | `Result<…, E>` | one of these, or none is taken |
///
/// What a call wrote can't be told apart by event: where some are taken and some are not, nothing of the call is kept, and
/// those that were taken are handed over once more without the others.
#[diagnostic::on_unimplemented(
    message = "a handler of several events can't answer with `{Self}`",
    label = "answer with a `Vec` that has for each event what a handler of one can answer with, or with nothing"
)]
pub trait ReturnedEach {
    #[doc(hidden)]
    fn returned_each(self, count: usize) -> Vec<Result<Vec<Outgoing>, Error>>;
}

impl ReturnedEach for () {
    fn returned_each(self, count: usize) -> Vec<Outcome> {
        vec![Ok(Vec::new()); count]
    }
}

impl<R: Returned> ReturnedEach for Vec<R> {
    fn returned_each(self, count: usize) -> Vec<Outcome> {
        if self.len() == count {
            self.into_iter().map(R::returned).collect()
        } else {
            // Nobody can say which answer belongs to which event. A fault of the function, as a trap is: another version
            // may do better.
            let reason = format!("the function answered {} times to {count} events", self.len());
            vec![Err(Error::retry(reason)); count]
        }
    }
}

impl<R: ReturnedEach, E: Into<Error>> ReturnedEach for Result<R, E> {
    fn returned_each(self, count: usize) -> Vec<Outcome> {
        match self {
            Ok(answer) => answer.returned_each(count),
            Err(error) => vec![Err(error.into()); count],
        }
    }
}

/// What the export calls: a handler without its types.
#[doc(hidden)]
pub fn handle<S, H: Handler<S>>(handler: H, events: Vec<Received>) -> Vec<Result<Vec<Outgoing>, Error>> {
    handler.handle(events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Value, event::Attributes};
    use serde_json::json;

    fn received(json: &str) -> Received {
        let content_type = Some("application/json".to_owned());
        let attributes = Attributes { id: "1".into(), kind: "test".into(), content_type, ..Attributes::default() };
        Received { attributes, data: Some(json.as_bytes().to_vec()), origin: None }
    }

    fn values(outcome: Outcome) -> Result<Vec<Value>, Error> {
        outcome?.into_iter().map(|event| Ok(event.into_event()?.data)).collect()
    }

    #[test]
    fn every_answer_counts() {
        fn run<S>(handler: impl Handler<S>) -> Result<Vec<Value>, Error> {
            values(handle(handler, vec![received("7")]).remove(0))
        }
        let again = |event: Event<u32>| event.map(|data| data + 1);
        assert_eq!(run(|_: Event| ()), Ok(vec![]));
        assert_eq!(run(|_: Event<()>| ()).map_err(|e| e.is_reject()), Err(true));
        assert_eq!(run(again), Ok(vec![json!(8)]));
        assert_eq!(run(|_: Event<u32>| None::<Event<u32>>), Ok(vec![]));
        assert_eq!(run(|event: Event<u32>| Some(again(event))), Ok(vec![json!(8)]));
        assert_eq!(run(|event: Event<u32>| vec![event.clone(), again(event)]), Ok(vec![json!(7), json!(8)]));
        assert_eq!(run(|event: Event<u32>| (event, Event::new("b", "text"))), Ok(vec![json!(7), json!("text")]));
        assert_eq!(run(|event: Event| [event.erase(), Event::new("b", true).erase()]), Ok(vec![json!(7), json!(true)]));
        assert_eq!(run(|event: Event| Ok::<_, Error>(vec![event])), Ok(vec![json!(7)]));
        assert_eq!(run(|_: Event| Err::<(), _>(Error::reject("no"))), Err(Error::reject("no")));
        assert_eq!(run(|_: Event| "x".parse::<u8>().map(drop)), Err(Error::retry("invalid digit found in string")));
    }

    #[test]
    fn each_event_of_a_batch_has_its_answer() {
        let batch = || ["1", "\"x\"", "2", "3"].map(received).into();
        let even = |events: Vec<Event<u32>>| -> Vec<Result<Event<u32>, Error>> {
            let keep = |event: Event<u32>| if event.data == 2 { Err(Error::reject("two")) } else { Ok(event) };
            events.into_iter().map(keep).collect()
        };
        let outcomes: Vec<_> = handle(even, batch()).into_iter().map(values).collect();
        assert_eq!(outcomes[0], Ok(vec![json!(1)]));
        assert!(
            outcomes[1].as_ref().unwrap_err().message().contains("is no `u32`: invalid type: string"),
            "{outcomes:?}"
        );
        assert_eq!(outcomes[2], Err(Error::reject("two")));
        assert_eq!(outcomes[3], Ok(vec![json!(3)]));

        let too_few = handle(|_: Vec<Event<u32>>| vec![()], batch());
        assert_eq!(too_few[0], Err(Error::retry("the function answered 1 times to 3 events")));
        assert!(too_few[1].as_ref().unwrap_err().is_reject());
        let failed = handle(|_: Vec<Event<u32>>| Err::<(), _>(Error::retry("down")), batch());
        assert_eq!(failed[3], Err(Error::retry("down")));
        assert_eq!(handle(|_: Vec<Event>| (), batch()), vec![Ok(vec![]); 4]);
        // Where none can be read, the handler isn't called.
        let none = handle(|_: Vec<Event<u32>>| -> () { unreachable!() }, vec![received("{}")]);
        assert!(none[0].as_ref().unwrap_err().is_reject());
    }
}
