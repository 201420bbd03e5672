//! The engine of functions in JavaScript: QuickJS, and what its programs reach of the platform.
//!
//! When a function is built, `wizer-initialize` reads its program and runs it as far as its top level goes; what is in memory
//! then is the function. From then on the exports call into it.
//!
//! It knows nothing of events or requests beyond handing them over: the web's interfaces are written in JavaScript
//! (`runtime/`), and so is the SDK. Both find the functions of [`native`] in one object, and leave in its `hooks` what is to be
//! called. All that waits is a pollable of WASI, so there is one loop, [`settle`].

mod init;
mod keyvalue;
mod native;
mod wire;

#[cfg(feature = "events")]
mod events;
#[cfg(feature = "http")]
mod http;

use rquickjs::{CatchResultExt, Context, Ctx, Function, Object, Persistent, Promise, Result, Runtime, Value};
use std::cell::{OnceCell, RefCell};
use wasip2::io::poll::{Pollable, poll};

#[allow(unsafe_code, dead_code, reason = "generated")]
mod bindings {
    #[cfg(feature = "events")]
    wit_bindgen::generate!({ path: "../../wit", world: "function", generate_all, pub_export_macro: true });
    #[cfg(not(feature = "events"))]
    wit_bindgen::generate!({ path: "../../wit", world: "imports", generate_all });
}

struct Engine {
    context: Context,
    native: Persistent<Object<'static>>,
}

thread_local! {
    static ENGINE: OnceCell<Engine> = const { OnceCell::new() };
    /// What is waited for, with the number JavaScript knows it by.
    static WAITING: RefCell<Vec<(u32, Pollable)>> = const { RefCell::new(Vec::new()) };
    /// Whether the platform is there. It isn't while the function is built.
    static LIVE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What the stack of JavaScript may use of the memory set aside for it. The rest is for what is called at its end.
const STACK: usize = 256 << 10;

fn start() -> std::result::Result<(), String> {
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    runtime.set_max_stack_size(STACK);
    let context = Context::full(&runtime).map_err(|error| error.to_string())?;
    let native = context.with(|ctx| {
        let native = native::object(&ctx).catch(&ctx).map_err(|error| error.to_string())?;
        Ok::<_, String>(Persistent::save(&ctx, native))
    })?;
    runtime.set_host_promise_rejection_tracker(Some(Box::new(|ctx, promise, reason, handled| {
        // Whoever fails here has nobody to tell.
        let _ = hooks(&ctx).and_then(|hooks| hooks.get::<_, Function>("rejection")?.call::<_, ()>((promise, reason, handled)));
    })));
    ENGINE.with(|engine| engine.set(Engine { context, native }).map_err(|_| "it was started before".to_owned()))
}

/// Enters JavaScript.
fn enter<R>(work: impl FnOnce(&Ctx<'_>) -> R) -> R {
    ENGINE.with(|engine| engine.get().expect("the function was built by `wizer-initialize`").context.with(|ctx| work(&ctx)))
}

fn native_object<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    ENGINE.with(|engine| engine.get().expect("it has started").native.clone().restore(ctx))
}

/// What the runtime and the SDK have left to be called.
fn hooks<'js>(ctx: &Ctx<'js>) -> Result<Object<'js>> {
    native_object(ctx)?.get("hooks")
}

fn live() -> bool {
    LIVE.get()
}

/// Has it waited for: `hooks.fire` is called with its number, once.
fn wait(id: u32, pollable: Pollable) {
    WAITING.with_borrow_mut(|waiting| waiting.push((id, pollable)));
}

fn cancel(id: u32) {
    WAITING.with_borrow_mut(|waiting| waiting.retain(|(other, _)| *other != id));
}

/// Runs what there is to run until the promise is settled.
fn settle<'js>(ctx: &Ctx<'js>, promise: &Promise<'js>) -> Result<Value<'js>> {
    let hooks = hooks(ctx)?;
    loop {
        while ctx.execute_pending_job() {}
        if let Some(result) = promise.result() {
            return result;
        }
        // Taken out, as what fires may wait for more.
        let mut waiting = WAITING.take();
        if waiting.is_empty() {
            // Nothing is left that could settle it.
            if hooks.get::<_, Function>("stuck")?.call::<_, bool>(())? {
                continue;
            }
            return Err(rquickjs::Exception::throw_message(ctx, "a promise is waited for that nothing will settle"));
        }
        let ready = poll(&waiting.iter().map(|(_, pollable)| pollable).collect::<Vec<_>>());
        let mut index = 0;
        let mut fired = Vec::with_capacity(ready.len());
        waiting.retain(|(id, _)| {
            let is_ready = ready.contains(&index);
            index += 1;
            if is_ready {
                fired.push(*id);
            }
            !is_ready
        });
        WAITING.with_borrow_mut(|current| {
            waiting.append(current);
            *current = waiting;
        });
        let fire: Function = hooks.get("fire")?;
        for id in fired {
            fire.call::<_, ()>((id,))?;
        }
    }
}

/// Calls a hook, and answers with what its promise comes to. The error is its text, with the stack.
fn call<'js>(ctx: &Ctx<'js>, hook: &str, argument: Value<'js>) -> std::result::Result<Value<'js>, String> {
    LIVE.set(true);
    let outcome = (|| {
        let promise: Promise = hooks(ctx)?.get::<_, Function>(hook)?.call((argument,))?;
        settle(ctx, &promise)
    })();
    // What a call left behind is of no use to the next, which may be another event's.
    WAITING.take();
    native::forget();
    outcome.catch(ctx).map_err(|error| error.to_string())
}
