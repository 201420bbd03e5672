//! What the host-guest contract is in Rust: generated from `sdk/wit`, and from `runtime/wit` for interfaces of others.
//!
//! The functions a guest imports are synchronous for it and asynchronous here: the guest's stack waits, no thread does.
//! Those that can fail for the platform's own reasons may trap, so that the guest can't go on as if nothing had happened.

/// The world of `sdk/wit`: publish, log, `wasi:keyvalue` in draft 2; and the export of event handlers.
pub(crate) mod function {
    wasmtime::component::bindgen!({
        path: "../sdk/wit",
        world: "dunlin:function/function",
        imports: {
            "dunlin:function/log": trappable,
            default: async | trappable,
        },
        exports: { default: async },
        with: {
            "wasi:keyvalue/store.bucket": crate::keyvalue::BucketHandle,
            "wasi:keyvalue/atomics.cas": crate::keyvalue::Look,
        },
        trappable_error_type: {
            "wasi:keyvalue/store.error" => crate::keyvalue::StoreError,
            "wasi:keyvalue/atomics.cas-error" => crate::keyvalue::SwapError,
        },
        // Events are handed to the guest as they lie in memory: nothing is copied but into the guest.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The world of `runtime/wit`: `wasi:keyvalue` in its first draft, and `wasi:config`.
pub(crate) mod others {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "dunlin:runtime/others",
        imports: {
            "wasi:config/store": trappable,
            default: async | trappable,
        },
        with: {
            "wasi:keyvalue/store.bucket": crate::keyvalue::BucketHandle,
        },
        trappable_error_type: {
            "wasi:keyvalue/store.error" => crate::keyvalue::StoreError,
        },
    });
}
