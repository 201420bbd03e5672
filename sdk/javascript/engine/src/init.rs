//! Making a function: its program comes in by stdin, and is run as far as its top level goes.
//!
//! ```text
//! {"source":LENGTH,"map":LENGTH,"name":"index.js"} \n source map
//! ```
//! What goes wrong is written to stderr as it is to be shown, and ends with a trap.

use crate::{enter, hooks, native_object, settle, start};
use rquickjs::{CatchResultExt, CaughtError, Ctx, Function, Promise, Value, qjs};
use std::{cell::UnsafeCell, ffi::CString, io::Read};

#[derive(serde::Deserialize)]
struct Header {
    /// The bytes of the program.
    source: usize,
    /// The bytes of its source map; the rest of the input.
    map: usize,
    /// Its name in stacks.
    name: String,
    /// What the component may import: `state`, `publish`, `http`.
    allow: Vec<String>,
}

/// The runtime, until it has run: it is no part of what is made.
struct Runtime(UnsafeCell<[u8; SOURCE.len()]>);

// SAFETY: there is one thread.
unsafe impl Sync for Runtime {}

const SOURCE: &[u8] = include_bytes!("../runtime.js");
static RUNTIME: Runtime = Runtime(UnsafeCell::new(*include_bytes!("../runtime.js")));

#[unsafe(export_name = "wizer-initialize")]
extern "C" fn initialize() {
    if let Err(reason) = read() {
        eprintln!("{reason}");
        std::process::exit(1);
    }
}

fn read() -> Result<(), String> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).map_err(|error| error.to_string())?;
    let line = input.iter().position(|byte| *byte == b'\n').ok_or("the input has no header")?;
    let header: Header = serde_json::from_slice(&input[..line]).map_err(|error| error.to_string())?;
    let rest = &input[line + 1..];
    if rest.len() != header.source + header.map {
        return Err("the input has another length than its header says".to_owned());
    }
    let (source, map) = rest.split_at(header.source);
    let map = std::str::from_utf8(map).map_err(|error| error.to_string())?.to_owned();

    start()?;
    enter(|ctx| {
        let text = |error| describe(ctx, &error);
        let native = native_object(ctx).catch(ctx).map_err(text)?;
        native.set("map", map).catch(ctx).map_err(text)?;
        native.set("allow", header.allow).catch(ctx).map_err(text)?;
        native.set("program", header.name.as_str()).catch(ctx).map_err(text)?;
        // SAFETY: nobody else looks at it, here or below.
        let runtime = unsafe { (*RUNTIME.0.get()).to_vec() };
        let runtime = run(ctx, "runtime.js", &runtime).and_then(|runtime| runtime.get::<Function>());
        runtime.and_then(|runtime| runtime.call::<_, ()>((native,))).catch(ctx).map_err(text)?;
        unsafe { RUNTIME.0.get().write([0; SOURCE.len()]) };
        // It is `(async () => { … })()`, for the sake of `await` at its top level.
        let promise = run(ctx, &header.name, source).and_then(|promise| promise.get::<Promise>());
        promise.and_then(|promise| settle(ctx, &promise)).catch(ctx).map_err(text)?;
        ctx.run_gc();
        Ok::<_, String>(())
    })?;
    drop(input);
    wipe();
    Ok(())
}

/// Runs a script, and answers with what it comes to. What it leaves in memory is without its text: it is compiled, written
/// out without it, and read again.
fn run<'js>(ctx: &Ctx<'js>, name: &str, source: &[u8]) -> rquickjs::Result<Value<'js>> {
    let name = CString::new(name)?;
    let text = CString::new(source)?;
    let raw = ctx.as_raw().as_ptr();
    let flags = qjs::JS_EVAL_TYPE_GLOBAL | qjs::JS_EVAL_FLAG_STRICT | qjs::JS_EVAL_FLAG_COMPILE_ONLY;
    // SAFETY: each value is handed on once, and `Value` takes care of the last.
    unsafe {
        let compiled = qjs::JS_Eval(raw, text.as_ptr(), source.len() as _, name.as_ptr(), flags as i32);
        let compiled = Value::from_raw(ctx.clone(), compiled);
        if compiled.is_exception() {
            return Err(rquickjs::Error::Exception);
        }
        let mut length = 0;
        let flags = qjs::JS_WRITE_OBJ_BYTECODE | qjs::JS_WRITE_OBJ_STRIP_SOURCE;
        let code = qjs::JS_WriteObject(raw, &raw mut length, compiled.as_raw(), flags as i32);
        drop(compiled);
        if code.is_null() {
            return Err(rquickjs::Error::Exception);
        }
        let read = qjs::JS_ReadObject(raw, code, length, qjs::JS_READ_OBJ_BYTECODE as i32);
        qjs::js_free(raw, code.cast());
        let result = Value::from_raw(ctx.clone(), qjs::JS_EvalFunction(raw, read));
        if result.is_exception() { Err(rquickjs::Error::Exception) } else { Ok(result) }
    }
}

/// Writes zeros over memory that isn't used any more, so that it is no part of what is made.
fn wipe() {
    let size = core::arch::wasm32::memory_size::<0>;
    let mut taken: Vec<(usize, usize)> = Vec::with_capacity(1 << 15);
    for length in [1 << 16, 1 << 12, 512, 128, 48, 24] {
        // When there is no room of that length left, memory grows.
        let before = size();
        while size() == before && taken.len() < taken.capacity() {
            taken.push((Box::into_raw(vec![0u8; length].into_boxed_slice()).cast::<u8>() as usize, length));
        }
    }
    for (start, length) in &taken {
        // SAFETY: it is the box of that length from above.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(*start as *mut u8, *length)) });
    }
    taken.fill((0, 0));
    std::hint::black_box(&taken);
}

/// With its lines mapped to those of the sources, once the runtime is there to do it.
fn describe<'js>(ctx: &Ctx<'js>, error: &CaughtError<'js>) -> String {
    let thrown = match error {
        CaughtError::Exception(exception) => exception.as_object().clone().into_value(),
        CaughtError::Value(value) => value.clone(),
        CaughtError::Error(_) => return error.to_string(),
    };
    let describe = hooks(ctx).and_then(|hooks| hooks.get::<_, Function>("describe"));
    describe.and_then(|describe| describe.call((thrown,))).unwrap_or_else(|_| error.to_string())
}

// What the program sees of the time while it is built is 1970, so that the same program gives the same bytes. QuickJS asks libc,
// whose own answer is not linked then.

const NANOS: u64 = 1_000_000_000;

#[repr(C)]
struct Timeval {
    seconds: i64,
    micros: i64,
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: i32,
}

#[unsafe(no_mangle)]
extern "C" fn gettimeofday(time: *mut Timeval, _zone: *mut core::ffi::c_void) -> i32 {
    let now = if crate::live() {
        let now = wasip2::clocks::wall_clock::now();
        Timeval { seconds: now.seconds.cast_signed(), micros: i64::from(now.nanoseconds / 1000) }
    } else {
        Timeval { seconds: 0, micros: 0 }
    };
    // SAFETY: QuickJS hands over a place on its stack.
    unsafe { time.write(now) };
    0
}

#[unsafe(no_mangle)]
extern "C" fn clock_gettime(_clock: *const core::ffi::c_void, time: *mut Timespec) -> i32 {
    let now = if crate::live() { wasip2::clocks::monotonic_clock::now() } else { 0 };
    let now = Timespec { seconds: (now / NANOS).cast_signed(), nanos: i32::try_from(now % NANOS).unwrap_or(0) };
    // SAFETY: as above.
    unsafe { time.write(now) };
    0
}
