//! Rust, by cargo and the compiler's own target `wasm32-wasip2`.

use super::{Project, tools};
use crate::report::Failure;
use anyhow::Context as _;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

const TARGET: &str = "wasm32-wasip2";

pub(super) async fn build(project: &Project) -> anyhow::Result<()> {
    let cargo = tools::find("cargo").ok_or_else(|| {
        Failure::new("there is no `cargo`, which compiles Rust").help("install Rust: https://rustup.rs")
    })?;
    let rust = tools::first_line("rustc", &["--print", "target-libdir", "--target", TARGET]).await;
    if !rust.is_some_and(|folder| Path::new(&folder).is_dir()) {
        let what = format!("Rust has no target `{TARGET}` here");
        return Err(Failure::new(what).help(format!("rustup target add {TARGET}")).into());
    }
    project.sdk("rust")?;
    let mut compile = tools::command(cargo);
    compile
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .current_dir(&project.source)
        .stdout(Stdio::piped())
        // What it says, in colour and with its progress, is the best there is to show.
        .stderr(Stdio::inherit());
    let compiler = compile.spawn().context("`cargo` can't be run")?;
    let output = compiler.wait_with_output().await.context("`cargo` can't be waited for")?;
    if !output.status.success() {
        return Err(Failure::new(format!("`cargo build` ended with {}", output.status)).into());
    }
    let component = component(&output.stdout).ok_or_else(|| {
        Failure::new("`cargo build` made no component")
            .help("Cargo.toml needs `[lib]` with `crate-type = [\"cdylib\"]`, or a `src/main.rs` for a command")
    })?;
    project.finish(&component)
}

/// The last WebAssembly file among cargo's messages: dependencies come before the package that is built.
fn component(messages: &[u8]) -> Option<PathBuf> {
    let lines = messages.split(|byte| *byte == b'\n');
    let artifacts = lines.filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let mut files = artifacts.flat_map(|artifact| {
        let files = artifact["filenames"].as_array().cloned().unwrap_or_default();
        files.into_iter().filter_map(|file| file.as_str().map(PathBuf::from))
    });
    files.rfind(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_the_messages() {
        let messages = br#"{"reason":"compiler-artifact","filenames":["/t/deps/libserde.rlib"]}
{"reason":"compiler-artifact","filenames":["/t/wasm32-wasip2/release/billing.wasm"]}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(component(messages), Some("/t/wasm32-wasip2/release/billing.wasm".into()));
        assert_eq!(component(b"{\"reason\":\"build-finished\"}\n"), None);
    }
}
