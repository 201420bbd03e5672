//! `wasi:keyvalue`. Errors are thrown as text: `denied`, `missing`, or what the platform says.

use crate::{
    bindings::wasi::keyvalue::{atomics, batch, store},
    native::{guard, throw},
    wire::bytes,
};
use rquickjs::{Array, Ctx, Function, Object, Result, TypedArray, Value};
use std::cell::RefCell;

thread_local! {
    static BUCKETS: RefCell<Vec<(String, &'static store::Bucket)>> = const { RefCell::new(Vec::new()) };
    static LOOKED: RefCell<Vec<(u32, atomics::Cas)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn add<'js>(ctx: &Ctx<'js>, native: &Object<'js>) -> Result<()> {
    native.set("get", Function::new(ctx.clone(), get)?)?;
    native.set("set", Function::new(ctx.clone(), set)?)?;
    native.set("delete", Function::new(ctx.clone(), delete)?)?;
    native.set("exists", Function::new(ctx.clone(), exists)?)?;
    native.set("keys", Function::new(ctx.clone(), keys)?)?;
    native.set("getMany", Function::new(ctx.clone(), get_many)?)?;
    native.set("setMany", Function::new(ctx.clone(), set_many)?)?;
    native.set("deleteMany", Function::new(ctx.clone(), delete_many)?)?;
    native.set("increment", Function::new(ctx.clone(), increment)?)?;
    native.set("look", Function::new(ctx.clone(), look)?)?;
    native.set("swap", Function::new(ctx.clone(), swap)?)
}

/// Handles of values that were looked at and never replaced.
pub(crate) fn forget() {
    LOOKED.take();
}

fn bucket(ctx: &Ctx<'_>, name: &str) -> Result<&'static store::Bucket> {
    guard(ctx, "state")?;
    if let Some(bucket) = BUCKETS.with_borrow(|buckets| buckets.iter().find(|(other, _)| other == name).map(|(_, bucket)| *bucket)) {
        return Ok(bucket);
    }
    let bucket = store::open(name).map_err(|error| failed(ctx, error))?;
    // A handle for each bucket, for as long as the sandbox is there.
    let bucket: &'static store::Bucket = Box::leak(Box::new(bucket));
    BUCKETS.with_borrow_mut(|buckets| buckets.push((name.to_owned(), bucket)));
    Ok(bucket)
}

fn failed(ctx: &Ctx<'_>, error: store::Error) -> rquickjs::Error {
    match error {
        store::Error::NoSuchStore => throw(ctx, "missing"),
        store::Error::AccessDenied => throw(ctx, "denied"),
        store::Error::Other(reason) => throw(ctx, &reason),
    }
}

fn value<'js>(ctx: &Ctx<'js>, bytes: Option<Vec<u8>>) -> Result<Value<'js>> {
    match bytes {
        Some(bytes) => Ok(TypedArray::new(ctx.clone(), bytes)?.into_value()),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

fn get<'js>(ctx: Ctx<'js>, name: String, key: String) -> Result<Value<'js>> {
    value(&ctx, bucket(&ctx, &name)?.get(&key).map_err(|error| failed(&ctx, error))?)
}

fn set<'js>(ctx: Ctx<'js>, name: String, key: String, value: TypedArray<'js, u8>) -> Result<()> {
    bucket(&ctx, &name)?.set(&key, &bytes(&value)?).map_err(|error| failed(&ctx, error))
}

fn delete(ctx: Ctx<'_>, name: String, key: String) -> Result<()> {
    bucket(&ctx, &name)?.delete(&key).map_err(|error| failed(&ctx, error))
}

fn exists(ctx: Ctx<'_>, name: String, key: String) -> Result<bool> {
    bucket(&ctx, &name)?.exists(&key).map_err(|error| failed(&ctx, error))
}

fn keys<'js>(ctx: Ctx<'js>, name: String, cursor: Option<String>) -> Result<Array<'js>> {
    let page = bucket(&ctx, &name)?.list_keys(cursor.as_deref()).map_err(|error| failed(&ctx, error))?;
    let array = Array::new(ctx)?;
    array.set(0, page.keys)?;
    array.set(1, page.cursor)?;
    Ok(array)
}

/// In the order of the keys.
fn get_many<'js>(ctx: Ctx<'js>, name: String, keys: Vec<String>) -> Result<Array<'js>> {
    let found = batch::get_many(bucket(&ctx, &name)?, &keys).map_err(|error| failed(&ctx, error))?;
    let array = Array::new(ctx.clone())?;
    for (index, (_, bytes)) in found.into_iter().enumerate() {
        array.set(index, value(&ctx, bytes)?)?;
    }
    Ok(array)
}

fn set_many<'js>(ctx: Ctx<'js>, name: String, keys: Vec<String>, values: Vec<TypedArray<'js, u8>>) -> Result<()> {
    let values = values.iter().map(bytes).collect::<Result<Vec<_>>>()?;
    let entries: Vec<_> = keys.into_iter().zip(values).collect();
    batch::set_many(bucket(&ctx, &name)?, &entries).map_err(|error| failed(&ctx, error))
}

fn delete_many(ctx: Ctx<'_>, name: String, keys: Vec<String>) -> Result<()> {
    batch::delete_many(bucket(&ctx, &name)?, &keys).map_err(|error| failed(&ctx, error))
}

fn increment(ctx: Ctx<'_>, name: String, key: String, delta: f64) -> Result<f64> {
    let sum = atomics::increment(bucket(&ctx, &name)?, &key, delta as i64).map_err(|error| failed(&ctx, error))?;
    Ok(sum as f64)
}

/// What a key holds, with a number to replace it by.
fn look<'js>(ctx: Ctx<'js>, name: String, key: String) -> Result<Array<'js>> {
    let cas = atomics::Cas::new(bucket(&ctx, &name)?, &key).map_err(|error| failed(&ctx, error))?;
    looked(&ctx, cas)
}

fn looked<'js>(ctx: &Ctx<'js>, cas: atomics::Cas) -> Result<Array<'js>> {
    let held = cas.current().map_err(|error| failed(ctx, error))?;
    let id = LOOKED.with_borrow_mut(|looked| {
        let id = looked.iter().map(|(id, _)| *id).max().unwrap_or(0) + 1;
        looked.push((id, cas));
        id
    });
    let array = Array::new(ctx.clone())?;
    array.set(0, id)?;
    array.set(1, value(ctx, held)?)?;
    Ok(array)
}

/// Nothing if it was replaced; otherwise what is there by now, as `look` has it.
fn swap<'js>(ctx: Ctx<'js>, id: u32, value: TypedArray<'js, u8>) -> Result<Option<Array<'js>>> {
    let value = bytes(&value)?;
    let cas = LOOKED.with_borrow_mut(|looked| {
        looked.iter().position(|(other, _)| *other == id).map(|index| looked.swap_remove(index).1)
    });
    match atomics::swap(cas.ok_or_else(|| throw(&ctx, "it was replaced before"))?, &value) {
        Ok(()) => Ok(None),
        Err(atomics::CasError::CasFailed(cas)) => looked(&ctx, cas).map(Some),
        Err(atomics::CasError::StoreError(error)) => Err(failed(&ctx, error)),
    }
}
