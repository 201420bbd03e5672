//! Reads `function.yaml` and shows what is wrong with it: file, line, column, the line itself, and the fix.
//!
//! ```text
//!  text ──tree──▶ keys and values with places ──expand──▶ ${VAR} replaced ──reader──▶ Manifest
//!                                                                                        │
//!       error at line:column  ◀──place── JSON Pointer ◀── Manifest::problems, the server ◀┘
//! ```
//!
//! Each step goes on after a complaint where it can, so that one run shows all that is wrong. The types and what they accept
//! are `dunlin-events`' business; here is only how a person writes them and is told about mistakes.

mod diagnostic;
mod expand;
mod find;
mod reader;
mod tree;

pub(crate) use self::{
    diagnostic::{FileProblems, Refused},
    expand::Environment,
    find::is_skipped,
};

use self::{diagnostic::Diagnostic, find::find, tree::Node};
use crate::report::Failure;
use anyhow::Context as _;
use dunlin_events::{
    Manifest,
    manifest::{Problem, Trigger},
};
use std::path::{Component, Path, PathBuf};

/// Far more than any manifest has.
const MOST_BYTES: u64 = 1 << 20;

/// A manifest that was read, with the file it came from.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    pub(crate) path: PathBuf,
    pub(crate) manifest: Manifest,
    /// A component that is deployed in place of the manifest's.
    pub(crate) stand_in: Option<PathBuf>,
    text: String,
    root: Node,
}

/// Reads the manifests at these paths, or for a folder all of them in and below it. All that is wrong in any of them is
/// told together.
pub(crate) fn read_all<P: AsRef<Path>>(paths: &[P], environment: Environment<'_>) -> anyhow::Result<Vec<ManifestFile>> {
    let (mut files, mut problems) = (Vec::<ManifestFile>::new(), Vec::new());
    let mut found = Vec::new();
    for path in paths {
        for path in find(path.as_ref())? {
            // A folder may be given along with one within it.
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    for path in found {
        match ManifestFile::parse(path.clone(), load(&path)?, environment) {
            Ok(file) => match files.iter().find(|other| other.manifest.name == file.manifest.name) {
                Some(other) => {
                    let message = format!("`{}` is also the name in `{}`", file.manifest.name, other.path.display());
                    problems.push(
                        file.problems(&[Problem::new("/name", message).help("give each function a name of its own")]),
                    );
                }
                None => files.push(file),
            },
            Err(found) => problems.push(found),
        }
    }
    if problems.is_empty() { Ok(files) } else { Err(Refused(problems).into()) }
}

/// The environment of this process.
pub(crate) fn process_environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl ManifestFile {
    /// Reads a manifest's text.
    fn parse(path: PathBuf, text: Vec<u8>, environment: Environment<'_>) -> Result<Self, FileProblems> {
        let text = match String::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let found = Diagnostic::new(at..at, "the file is not text in UTF-8").help("save it as UTF-8");
                return Err(FileProblems { path, text, diagnostics: vec![found] });
            }
        };
        match read(&text, environment) {
            Ok((manifest, root)) => {
                let mut file = Self { path, manifest, stand_in: None, text, root };
                file.anchor();
                Ok(file)
            }
            Err(mut diagnostics) => {
                diagnostics.sort_by_key(|found| found.span.start);
                Err(FileProblems { path, text, diagnostics })
            }
        }
    }

    /// Makes the folders of files triggers absolute: what they are relative to is known here only.
    fn anchor(&mut self) {
        let folder = self.folder().canonicalize().or_else(|_| std::path::absolute(self.folder()));
        let folder = folder.unwrap_or_else(|_| self.folder().to_owned());
        for trigger in &mut self.manifest.triggers {
            if let Trigger::Files(files) = trigger
                && let Some(path) = &mut files.path
                && let Some(absolute) = plain(&folder.join(&*path)).to_str()
            {
                *path = absolute.to_owned();
            }
        }
    }

    /// Shows problems that name their place in the manifest at their place in the file.
    pub(crate) fn problems(&self, problems: &[Problem]) -> FileProblems {
        let diagnostics = problems.iter().map(|problem| diagnose(problem, &self.root)).collect();
        FileProblems { path: self.path.clone(), text: self.text.clone(), diagnostics }
    }

    /// The folder the manifest is in.
    pub(crate) fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        }
    }

    /// The component's file.
    pub(crate) fn component(&self) -> PathBuf {
        self.stand_in.clone().unwrap_or_else(|| self.folder().join(&self.manifest.component))
    }
}

/// A path without `.` and `..`.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}

fn load(path: &Path) -> anyhow::Result<Vec<u8>> {
    let failed = || format!("`{}` can't be read", path.display());
    let size = std::fs::metadata(path).with_context(failed)?.len();
    if size > MOST_BYTES {
        let what = format!("`{}` is {} MiB, too large for a manifest", path.display(), size >> 20);
        return Err(Failure::refused(what).help("is this the right file?").into());
    }
    std::fs::read(path).with_context(failed)
}

fn read(text: &str, environment: Environment<'_>) -> Result<(Manifest, Node), Vec<Diagnostic>> {
    let (mut root, mut diagnostics) = tree::parse(text).map_err(|broken| vec![broken])?;
    if matches!(root.value, tree::Value::Null) {
        let help = "write at least `name: ...` and `component: ...`";
        return Err(vec![Diagnostic::new(0..0, "the file is empty").help(help)]);
    }
    diagnostics.extend(expand::expand(&mut root, text, environment));
    let (manifest, found) = reader::read::<Manifest>(&mut root, text);
    diagnostics.extend(found);
    if let Some(manifest) = manifest {
        diagnostics.extend(manifest.problems().iter().map(|problem| diagnose(problem, &root)));
        if diagnostics.is_empty() {
            return Ok((manifest, root));
        }
    }
    Err(diagnostics)
}

fn diagnose(problem: &Problem, root: &Node) -> Diagnostic {
    let mut diagnostic = Diagnostic::new(root.place(&problem.pointer), &problem.message);
    diagnostic.help.clone_from(&problem.help);
    diagnostic
}

#[cfg(test)]
mod tests;
