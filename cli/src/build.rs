//! `dunlin build`: runs the manifests' `build` commands.

use crate::{
    manifest::{self, ManifestFile, process_environment},
    output::{BOLD, PLAIN, tell},
    report::Failure,
};
use clap::Args;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// Run the `build` command of every function.yaml in and below a folder.
///
/// Each runs in its manifest's folder, in the shell, with the environment of this command.
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
    let Some(command) = &file.manifest.build else {
        tell(format_args!("`{name}` has no `build`: its component is taken as it is"));
        return Ok(());
    };
    tell(format_args!("{BOLD}building `{name}`{PLAIN}: {command}"));
    let failed = format!("`{name}` was not built");
    let status = shell(command, file.folder())
        .status()
        .await
        .map_err(|error| Failure::new(&failed).help("is there a shell, `sh`?").because(error))?;
    if !status.success() {
        let failure = Failure::new(failed).because(format!("its `build` ended with {status}"));
        return Err(failure.help(format!("the command is in `{}`: {command}", file.path.display())).into());
    }
    if !file.component().is_file() {
        let failure =
            Failure::new(failed).because(format!("its `build` ran, but `{}` is not there", file.component().display()));
        return Err(failure.help("`component` is the path of what `build` makes, from the manifest's folder").into());
    }
    Ok(())
}

/// A command that ends when the one who waits for it goes away.
fn shell(command: &str, folder: &Path) -> Command {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let mut process = Command::new(shell);
    process.arg(flag).arg(command).current_dir(folder).kill_on_drop(true);
    process
}
