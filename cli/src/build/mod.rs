//! `dunlin build`: makes the components, by the manifests' commands or, where `build` names a language, by its toolchain.
//!
//! ```text
//!                            .dunlin/sdk/LANGUAGE      the SDK, out of this binary        project.rs
//!  build: { python: app.py } .dunlin/tools/...         what registries have of the tools  tools.rs
//!        └── python ───────▶ component
//! ```
//! One file knows one toolchain; `link` makes one module of what Python's gives. All of them write the component aside and
//! move it into place, so that `component` is never half a file, and the same source gives the same bytes.

mod c;
mod componentize;
mod go;
mod javascript;
mod jump;
mod link;
mod project;
mod python;
mod rust;
mod tools;

pub(crate) use project::{bring, own, sdk_path, venv_path};
pub(crate) use tools::first_line;

use project::Project;

use crate::{
    manifest::{self, ManifestFile, process_environment},
    output::{BOLD, PLAIN, tell},
    report::Failure,
};
use anyhow::Context as _;
use clap::Args;
use dunlin_events::{
    Manifest,
    manifest::{Build, Source},
};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};
use tokio::process::Command;

/// Build the component of every function.yaml in and below a folder.
///
/// A `build` that is a command runs in its manifest's folder, in the shell, with the environment of this command. One that
/// names a language is compiled by its toolchain, of which what is missing and a package registry has is installed into the
/// project's own `.dunlin/tools`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// A function.yaml, or a folder.
    #[arg(value_name = "PATH", default_value = ".")]
    path: PathBuf,
}

pub(crate) async fn run(args: BuildArgs) -> anyhow::Result<()> {
    let files = manifest::read_all(&[&args.path], &process_environment)?;
    build_all(&files).await
}

/// Builds one after the other: build tools use all processors by themselves.
pub(crate) async fn build_all(files: &[ManifestFile]) -> anyhow::Result<()> {
    for file in files {
        build(file).await?;
    }
    Ok(())
}

pub(crate) async fn build(file: &ManifestFile) -> anyhow::Result<()> {
    let name = &file.manifest.name;
    let Some(build) = &file.manifest.build else {
        tell(format_args!("`{name}` has no `build`: its component is taken as it is"));
        return Ok(());
    };
    tell(format_args!("{BOLD}building `{name}`{PLAIN}: {build}"));
    let begun = Instant::now();
    match build {
        Build::Command(command) => run_command(file, command).await?,
        Build::Source(source) => compile(&Project::of(file, source)?, source, &file.manifest).await?,
    }
    let component = file.component();
    let failed = format!("`{name}` was not built");
    let Ok(metadata) = component.metadata() else {
        let failure =
            Failure::new(failed).because(format!("its `build` ran, but `{}` is not there", component.display()));
        return Err(failure.help("`component` is the path of what `build` makes, from the manifest's folder").into());
    };
    let (size, seconds) = (crate::output::size(metadata.len()), begun.elapsed().as_secs_f32());
    tell(format_args!("built `{}`, {size}, in {seconds:.1} s", component.display()));
    Ok(())
}

async fn run_command(file: &ManifestFile, command: &str) -> anyhow::Result<()> {
    let failed = format!("`{}` was not built", file.manifest.name);
    let status = shell(command, file.folder())
        .status()
        .await
        .map_err(|error| Failure::new(&failed).help("is there a shell, `sh`?").because(error))?;
    if !status.success() {
        let failure = Failure::new(failed).because(format!("its `build` ended with {status}"));
        return Err(failure.help(format!("the command is in `{}`: {command}", file.path.display())).into());
    }
    Ok(())
}

async fn compile(project: &Project, source: &Source, manifest: &Manifest) -> anyhow::Result<()> {
    match source {
        Source::Rust(_) => rust::build(project).await,
        Source::C(_) => c::build(project).await,
        Source::Go(_) => go::build(project).await,
        Source::Python(_) => python::build(project).await,
        Source::JavaScript(_) => javascript::build(project, manifest).await,
    }
}

/// What `dunlin dev` deploys in place of the component, where that is sooner there.
pub(crate) struct Developed {
    pub(crate) component: PathBuf,
    /// What has to be in the function's environment.
    pub(crate) variable: (String, String),
}

/// The source that `dunlin dev` hands over in a variable: an interpreter's, whose component stays the same.
fn handed_over(manifest: &Manifest) -> Option<&Source> {
    match &manifest.build {
        Some(Build::Source(source @ Source::Python(_))) => Some(source),
        _ => None,
    }
}

/// Whether the source is part of what `dunlin dev` deploys, so that it is made anew whenever the manifest is read.
pub(crate) fn hands_over(manifest: &Manifest) -> bool {
    handed_over(manifest).is_some()
}

/// A manifest as it is shown to people: without the source that `dunlin dev` has put into it.
pub(crate) fn shown(mut manifest: Manifest) -> Manifest {
    if hands_over(&manifest) {
        for (_, source) in manifest.allow.env.iter_mut().filter(|(name, _)| name.as_str() == python::VARIABLE) {
            *source = format!("(the source, packed: {})", crate::output::size(source.len() as u64));
        }
    }
    manifest
}

/// Builds for `dunlin dev`.
pub(crate) async fn develop(file: &mut ManifestFile) -> anyhow::Result<()> {
    let Some(source) = handed_over(&file.manifest) else { return build(file).await };
    tell(format_args!("{BOLD}preparing `{}`{PLAIN}", file.manifest.name));
    let Developed { component, variable: (name, value) } = python::develop(&Project::of(file, source)?).await?;
    file.stand_in = Some(component);
    file.manifest.allow.env.insert(name.parse().context("it is a variable's name")?, value);
    Ok(())
}

/// A command that ends when the one who waits for it goes away.
fn shell(command: &str, folder: &Path) -> Command {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut process = Command::new(shell);
    process.arg(flag).arg(command).current_dir(folder).kill_on_drop(true);
    process
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_source_that_is_handed_over_is_not_shown() {
        let source = "eJyr".repeat(1000);
        let manifest = |build| -> Manifest {
            let env = json!({ "DUNLIN_PYTHON_SOURCE": source, "CURRENCY": "EUR" });
            serde_json::from_value(
                json!({ "name": "a", "component": "a.wasm", "build": build, "allow": { "env": env } }),
            )
            .unwrap()
        };
        let env = |manifest| shown(manifest).allow.env.into_values().collect::<Vec<_>>();
        assert_eq!(env(manifest(json!({ "python": "app.py" }))), ["EUR", "(the source, packed: 3.9 KiB)"]);
        // Anybody else may call a variable so.
        assert_eq!(env(manifest(json!("make"))), ["EUR", &source]);
    }
}
