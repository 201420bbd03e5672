//! Python, by componentize-py: an interpreter with the function in it, imported already.
//!
//! ```text
//! .dunlin/tools/componentize-py-…   the tool, in an environment of its own
//! .dunlin/venv/NAME                 what the function requires, for its tests and editors as well
//! .dunlin/built/python/NAME         the component of the last build, for the same source
//! ```
//! How its parts are put together the SDK knows (`dunlin/_build.py`); `reproducible` sees to it that they give the same bytes
//! each time. While it is developed, a component is made once for all that it requires, and the folder's files come to it in a
//! variable: then nothing has to be compiled after an edit.

mod reproducible;

use super::{Developed, Project, link::link, tools};
use anyhow::Context as _;
use dunlin_events::Digest;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tokio::process::Command;

const TOOL: &str = "componentize-py";
const VERSION: &str = "0.25.1";
/// What a component that is made to be developed has the folder's files in.
pub(super) const VARIABLE: &str = "DUNLIN_PYTHON_SOURCE";

pub(super) async fn build(project: &Project) -> anyhow::Result<()> {
    let python = Python::of(project).await?;
    let built = project.built("python", "component.wasm")?;
    python.run(project, &["--cache"], &project.built("python", "cache")?, &built).await?;
    project.finish(&built)
}

/// The component for all that a function's folder can have and requires the same, and the variable that has its files.
pub(super) async fn develop(project: &Project) -> anyhow::Result<Developed> {
    let python = Python::of(project).await?;
    let stamp = format!(
        "{}\n{}\n{}",
        python.required,
        project.exports.world(),
        fs::read_to_string(python.sdk.with_extension("digest"))?
    );
    let (built, mark) = (project.built("python", "developed.wasm")?, project.built("python", "developed.digest")?);
    let digest = Digest::of(stamp.as_bytes()).to_string();
    if !(built.is_file() && fs::read_to_string(&mark).is_ok_and(|before| before == digest)) {
        python.run(project, &["--develop", "--cache"], &project.built("python", "developed")?, &built).await?;
        fs::write(&mark, digest).with_context(|| format!("`{}` can't be written", mark.display()))?;
    }
    let mut print = python.command(project, &["--variable", "--cache"], &project.built("python", "developed")?, &built);
    let output = tools::run(&mut print, "reading the source").await?;
    let source = String::from_utf8(output.stdout).context("the source can't be read")?.trim().to_owned();
    Ok(Developed { component: built, variable: (VARIABLE.to_owned(), source) })
}

/// What builds functions in Python.
struct Python {
    tool: PathBuf,
    sdk: PathBuf,
    wit: PathBuf,
    environment: PathBuf,
    /// What keeps clock and chance out of what is built.
    library: PathBuf,
    /// The text of requirements.txt.
    required: String,
}

impl Python {
    async fn of(project: &Project) -> anyhow::Result<Self> {
        let sdk = project.sdk("python")?;
        let tool =
            tools::from_python_index(project, &format!("{TOOL}-{VERSION}"), &[&format!("{TOOL}=={VERSION}")]).await?;
        let list = project.folder.join("requirements.txt");
        let required = match fs::read_to_string(&list) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("`{}` can't be read", list.display()))?,
        };
        let library = project.built("python", "reproducible.so")?;
        fs::write(&library, reproducible::library()?)
            .with_context(|| format!("`{}` can't be written", library.display()))?;
        let environment = project.venv();
        let stamp = Digest::of(format!("{required}\n{}", sdk.display()).as_bytes()).to_string();
        let mark = environment.join("required");
        if fs::read_to_string(&mark).is_ok_and(|before| before == stamp) {
            return Ok(Self { wit: sdk.with_file_name("wit"), tool, sdk, environment, library, required });
        }
        let what = format!("what `{}` requires", project.name);
        let wanted = required.lines().any(|line| !line.trim().is_empty() && !line.trim().starts_with('#'));
        tools::made_anew(&environment, if wanted { &what } else { "an environment of Python" }, async |environment| {
            tools::environment(environment, &["--without-pip"]).await?;
            if wanted {
                let mut install = tools::command(&tool);
                install
                    .args(["-m", "pip", "--python"])
                    .arg(tools::python_of(environment))
                    .args(["install", "--quiet", "--disable-pip-version-check", "--no-input", "-r"])
                    .arg(&list);
                tools::run(&mut install, "`pip install -r requirements.txt`").await?;
            }
            let packages = tools::packages_of(environment)?;
            fs::write(packages.join("dunlin-sdk.pth"), format!("{}\n", sdk.display()))?;
            Ok(fs::write(environment.join("required"), &stamp)?)
        })
        .await?;
        Ok(Self { wit: sdk.with_file_name("wit"), tool, sdk, environment, library, required })
    }

    fn command(&self, project: &Project, options: &[&str], cache: &Path, output: &Path) -> Command {
        let mut build = tools::command(&self.tool);
        build.args(["-m", "dunlin._build"]).args(options).arg(cache).arg("--source").arg(&project.source);
        build.args(["--world", project.exports.world(), "--wit"]).arg(&self.wit).arg("--environment");
        build.arg(&self.environment).arg("--library").arg(&self.library).arg("--output").arg(output);
        build.env("PYTHONPATH", &self.sdk).env("PYTHONDONTWRITEBYTECODE", "1");
        build
    }

    async fn run(&self, project: &Project, options: &[&str], cache: &Path, output: &Path) -> anyhow::Result<()> {
        let libraries = output.with_extension("libraries.wasm");
        let mut build = self.command(project, options, cache, &libraries);
        tools::run_quietly(&mut build, &format!("making a component of `{}`", project.name)).await?;
        let output = output.to_owned();
        let linked = tokio::task::spawn_blocking(move || {
            let mut component = fs::read(&libraries)?;
            reproducible::forget(&mut component)?;
            fs::write(output, link(&component)?)?;
            anyhow::Ok(fs::remove_file(libraries)?)
        });
        linked.await?.context("the component can't be linked")
    }
}
