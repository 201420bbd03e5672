//! The functions JavaScript finds: what can't be written in it.

mod crypto;
mod outgoing;
#[cfg(feature = "http")]
pub(crate) use outgoing::{fields, flat};
pub(crate) mod streams;
mod url;

use crate::{
    bindings::dunlin::function::{log as log_lines, publish as publishing},
    cancel as cancel_wait, keyvalue, live, native_object, wait, wire,
};
use rquickjs::{Ctx, Exception, Function, Object, Result, TypedArray};
use wasip2::{cli::environment, clocks::monotonic_clock, random};

pub(crate) fn object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    let native = Object::new(ctx.clone())?;
    native.set("hooks", Object::new(ctx.clone())?)?;
    native.set("world", if cfg!(feature = "events") { "function" } else { "http" })?;
    native.set("live", Function::new(ctx.clone(), live)?)?;
    native.set("log", Function::new(ctx.clone(), log)?)?;
    native.set("publish", Function::new(ctx.clone(), publish)?)?;
    native.set("env", Function::new(ctx.clone(), env)?)?;
    native.set("sleep", Function::new(ctx.clone(), sleep)?)?;
    native.set("cancel", Function::new(ctx.clone(), cancel_wait)?)?;
    native.set("random", Function::new(ctx.clone(), random_bytes)?)?;
    native.set("encode", Function::new(ctx.clone(), encode)?)?;
    native.set("decode", Function::new(ctx.clone(), decode)?)?;
    keyvalue::add(ctx, &native)?;
    url::add(ctx, &native)?;
    crypto::add(ctx, &native)?;
    streams::add(ctx, &native)?;
    outgoing::add(ctx, &native)?;
    Ok(native)
}

/// What belongs to the call that has ended.
pub(crate) fn forget() {
    keyvalue::forget();
    streams::forget();
}

pub(crate) fn throw(ctx: &Ctx<'_>, message: &str) -> rquickjs::Error {
    Exception::throw_message(ctx, message)
}

/// Whether what the platform offers by that name can be called.
pub(crate) fn guard(ctx: &Ctx<'_>, what: &str) -> Result<()> {
    if !live() {
        return Err(throw(ctx, "the platform isn't there while the function is built: call it when the function runs, not at the top level of a module"));
    }
    if !native_object(ctx)?.get::<_, Vec<String>>("allow")?.iter().any(|allowed| allowed == what) {
        return Err(throw(ctx, "denied"));
    }
    Ok(())
}

fn log(level: String, message: String, fields: Vec<String>) {
    let fields: Vec<_> = fields.chunks_exact(2).map(|field| (field[0].clone(), field[1].clone())).collect();
    if !live() {
        // Whoever builds it reads it.
        let fields: String = fields.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        eprintln!("{message}{fields}");
        return;
    }
    let level = match level.as_str() {
        "trace" => log_lines::Level::Trace,
        "debug" => log_lines::Level::Debug,
        "warn" => log_lines::Level::Warn,
        "error" => log_lines::Level::Error,
        _ => log_lines::Level::Info,
    };
    log_lines::write(level, &message, &fields);
}

fn publish<'js>(ctx: Ctx<'js>, topic: String, drafts: Vec<Object<'js>>) -> Result<()> {
    guard(&ctx, "publish")?;
    publishing::publish(&topic, &wire::drafts(drafts)?).map_err(|reason| throw(&ctx, &reason))
}

fn env(ctx: Ctx<'_>, name: String) -> Result<Option<String>> {
    if !live() {
        return Err(throw(&ctx, &format!("`{name}` has no value while the function is built: read it when the function runs, not at the top level of a module")));
    }
    Ok(environment::get_environment().into_iter().find(|(other, _)| *other == name).map(|(_, value)| value))
}

fn sleep(ctx: Ctx<'_>, id: u32, millis: f64) -> Result<()> {
    if !live() {
        return Err(throw(&ctx, "there is no time to wait for while the function is built"));
    }
    wait(id, monotonic_clock::subscribe_duration((millis.max(0.0) * 1e6) as u64));
    Ok(())
}

fn random_bytes(ctx: Ctx<'_>, count: u32) -> Result<TypedArray<'_, u8>> {
    if !live() {
        return Err(throw(&ctx, "there is nothing random while the function is built"));
    }
    TypedArray::new(ctx, random::random::get_random_bytes(count.into()))
}

fn encode(ctx: Ctx<'_>, text: rquickjs::Coerced<String>) -> Result<TypedArray<'_, u8>> {
    TypedArray::new(ctx, text.0)
}

/// UTF-8. Nothing if it is to be right and isn't.
fn decode<'js>(bytes: TypedArray<'js, u8>, fatal: bool) -> Result<Option<String>> {
    let bytes = wire::bytes(&bytes)?;
    Ok(match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(_) if fatal => None,
        Err(error) => Some(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    })
}
