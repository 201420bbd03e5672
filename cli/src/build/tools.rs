//! The tools that compile functions: found where they are, installed into the project where a package registry has them,
//! and told exactly where neither is so.
//!
//! Versions are pinned here, since the same source is to give the same bytes everywhere.

use super::Project;
use crate::{
    output::{spinner, tell},
    report::Failure,
};
use anyhow::Context as _;
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};
use tokio::process::Command;

/// How often is looked whether another process has installed what is wanted.
const LOOK: Duration = Duration::from_millis(100);

/// Where a program is, by the `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let name = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&path).map(|folder| folder.join(&name)).find(|path| path.is_file())
}

/// A command that ends when the one who waits for it goes away, and that nobody answers.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.kill_on_drop(true).stdin(std::process::Stdio::null());
    command
}

/// Runs a tool to its end. What it says is shown as it is if it fails; `doing` says what that was: `npm install`.
pub(crate) async fn run(command: &mut Command, doing: &str) -> anyhow::Result<Output> {
    let program = Path::new(command.as_std().get_program()).display().to_string();
    let output = command.output().await.with_context(|| format!("`{program}` can't be run"))?;
    if output.status.success() {
        return Ok(output);
    }
    for said in [&output.stdout, &output.stderr] {
        let said = String::from_utf8_lossy(said);
        if !said.trim().is_empty() {
            tell(said.trim_end());
        }
    }
    Err(Failure::new(format!("{doing} ended with {}", output.status)).into())
}

/// The first line a tool prints, if it is there and ends well.
pub(crate) async fn first_line(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output = command(program).args(arguments).output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

/// The same, with a spinner that says what is going on.
pub(crate) async fn run_quietly(command: &mut Command, doing: &str) -> anyhow::Result<Output> {
    let spinner = spinner(doing.to_owned());
    let ended = run(command, doing).await;
    spinner.finish_and_clear();
    ended
}

/// A folder that is made once, by `make`. One that was broken off is made anew.
pub(crate) async fn made_once(
    folder: &Path,
    what: &str,
    make: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let complete = folder.join(".complete");
    if complete.exists() {
        return Ok(());
    }
    let _alone = alone(&folder.with_extension("lock")).await?;
    if complete.exists() {
        return Ok(());
    }
    made_anew(folder, what, make).await?;
    fs::write(&complete, "").with_context(|| format!("`{}` can't be made", folder.display()))
}

/// Waits until no other process has this lock. It is given back when what this answers with is dropped, or the process ends.
async fn alone(path: &Path) -> anyhow::Result<fs::File> {
    let failed = || format!("`{}` can't be locked", path.display());
    fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).with_context(failed)?;
    let file = fs::File::create(path).with_context(failed)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
            Err(fs::TryLockError::Error(error)) => return Err(error).with_context(failed),
        }
    }
}

/// A folder that is made by `make`, whatever was there.
pub(crate) async fn made_anew(
    folder: &Path,
    what: &str,
    make: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let failed = || format!("`{}` can't be made", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(failed)?;
    }
    fs::create_dir_all(folder).with_context(failed)?;
    let spinner = spinner(format!("installing {what}"));
    if spinner.is_hidden() {
        tell(format_args!("installing {what} into `{}`", folder.display()));
    }
    let made = make(folder).await;
    spinner.finish_and_clear();
    made
}

/// Writes a file, unless it is so already: compilers look at its time.
pub(crate) fn write_if_other(path: &Path, content: &[u8]) -> std::io::Result<()> {
    if fs::read(path).is_ok_and(|before| before == content) { Ok(()) } else { fs::write(path, content) }
}

/// Packages of the Python index in an environment of their own, `.dunlin/tools/NAME`. Answers with its `python`.
pub(crate) async fn from_python_index(project: &Project, name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let folder = project.tool(name);
    made_once(&folder, &packages.join(", "), async |folder| {
        environment(folder, &[]).await?;
        let mut install = command(python_of(folder));
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]).args(packages);
        run(&mut install, "`pip install`").await.map(drop)
    })
    .await?;
    Ok(python_of(&folder))
}

/// Makes a virtual environment of Python.
pub(crate) async fn environment(folder: &Path, options: &[&str]) -> anyhow::Result<()> {
    let python = find("python3").or_else(|| find("python")).ok_or_else(|| {
        Failure::new("there is no `python3`, which installs the tools of this language")
            .help("install Python 3.10 or later: `apt install python3-venv`, `brew install python`, or python.org")
    })?;
    let mut make = command(python);
    make.args(["-m", "venv"]).args(options).arg(folder);
    run(&mut make, "`python3 -m venv`").await.map(drop).map_err(|error| {
        Failure::new(error.to_string()).help("Debian and Ubuntu have it in `apt install python3-venv`").into()
    })
}

/// The `python` of an environment.
pub(crate) fn python_of(environment: &Path) -> PathBuf {
    if cfg!(windows) { environment.join("Scripts/python.exe") } else { environment.join("bin/python") }
}

/// The folder an environment has its packages in.
pub(crate) fn packages_of(environment: &Path) -> anyhow::Result<PathBuf> {
    let windows = environment.join("Lib/site-packages");
    let lib = fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
    lib.map(|entry| entry.path().join("site-packages"))
        .chain([windows])
        .find(|path| path.is_dir())
        .ok_or_else(|| Failure::new(format!("`{}` is no environment of Python", environment.display())).into())
}
