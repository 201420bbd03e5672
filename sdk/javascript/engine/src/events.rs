//! `dunlin:function/handler`: deliveries become objects, and answers become drafts.

use crate::{
    bindings::{
        dunlin::function::types,
        exports::dunlin::function::handler::{Delivery, Failure, Guest},
    },
    call, enter, wire,
};
use rquickjs::{Array, CatchResultExt, Ctx, Object, Result, TypedArray, Value};

struct Component;

impl Guest for Component {
    fn handle(deliveries: Vec<Delivery>) -> Vec<std::result::Result<Vec<types::Draft>, Failure>> {
        let count = deliveries.len();
        enter(|ctx| {
            let answers = received(ctx, deliveries).catch(ctx).map_err(|error| error.to_string());
            let answers = answers.and_then(|deliveries| call(ctx, "handle", deliveries));
            answers.and_then(|answers| answered(answers).catch(ctx).map_err(|error| error.to_string()))
        })
        .unwrap_or_else(|reason| vec![Err(Failure::Retry((reason, None))); count])
    }
}

crate::bindings::export!(Component with_types_in crate::bindings);

fn received<'js>(ctx: &Ctx<'js>, deliveries: Vec<Delivery>) -> Result<Value<'js>> {
    let list = Array::new(ctx.clone())?;
    for (index, delivery) in deliveries.into_iter().enumerate() {
        let Delivery { topic, offset, attempt, event } = delivery;
        let object = Object::new(ctx.clone())?;
        object.set("topic", topic)?;
        object.set("offset", offset as f64)?;
        object.set("attempt", attempt)?;
        object.set("id", event.id)?;
        object.set("source", event.source)?;
        object.set("type", event.kind)?;
        object.set("subject", event.subject)?;
        object.set("time", event.time)?;
        object.set("datacontenttype", event.data_content_type)?;
        object.set("dataschema", event.data_schema)?;
        let extensions = Object::new(ctx.clone())?;
        for (name, value) in event.extensions {
            match value {
                types::Attribute::Boolean(value) => extensions.set(name, value)?,
                types::Attribute::Integer(value) => extensions.set(name, value)?,
                types::Attribute::Text(value) => extensions.set(name, value)?,
            }
        }
        object.set("extensions", extensions)?;
        if let Some(data) = event.data {
            object.set("data", TypedArray::new(ctx.clone(), data)?)?;
        }
        list.set(index, object)?;
    }
    Ok(list.into_value())
}

fn answered(answers: Value<'_>) -> Result<Vec<std::result::Result<Vec<types::Draft>, Failure>>> {
    let answers: Vec<Object> = answers.get()?;
    let answer = |answer: Object<'_>| {
        if let Some(reason) = answer.get::<_, Option<String>>("reject")? {
            return Ok(Err(Failure::Reject(reason)));
        }
        if let Some(reason) = answer.get::<_, Option<String>>("retry")? {
            let after = answer.get::<_, Option<f64>>("after")?;
            return Ok(Err(Failure::Retry((reason, after.map(|after| after as u64)))));
        }
        Ok(Ok(wire::drafts(answer.get("events")?)?))
    };
    answers.into_iter().map(answer).collect()
}
