//! The project a function belongs to, and what this binary brings into it: the SDKs and the WIT.
//!
//! They come out of the binary, so that an SDK is always of the platform's version and nothing has to be downloaded.

use crate::{manifest::ManifestFile, report::Failure};
use anyhow::Context as _;
use dunlin_events::{
    Digest,
    manifest::{Source, Trigger},
};
use rust_embed::{EmbeddedFile, RustEmbed};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A function that is to be compiled.
#[derive(Debug)]
pub(crate) struct Project {
    /// The function's name.
    pub(crate) name: String,
    /// The manifest's folder.
    pub(crate) folder: PathBuf,
    /// The source, as the manifest's `build` names it.
    pub(crate) source: PathBuf,
    /// Where the component goes.
    pub(crate) component: PathBuf,
    /// What it is to export, where the language leaves that open.
    pub(crate) exports: Exports,
    /// The folder `.dunlin` of the project, which its functions share.
    own: PathBuf,
}

/// What a component is called through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exports {
    /// `dunlin:function/handler`
    Events,
    /// `wasi:http/incoming-handler`
    Http,
}

impl Exports {
    /// A function answers requests if it has an `http` trigger, or none: then it is called by `dunlin invoke`.
    fn of(triggers: &[Trigger]) -> Self {
        let http = triggers.is_empty() || triggers.iter().any(|trigger| matches!(trigger, Trigger::Http(_)));
        if http { Self::Http } else { Self::Events }
    }

    /// The world in `sdk/wit`.
    pub(crate) const fn world(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Http => "http",
        }
    }
}

#[derive(RustEmbed)]
#[folder = "../sdk/wit"]
struct Wit;

#[derive(RustEmbed)]
#[folder = "../sdk/rust"]
#[exclude = "target/*"]
struct Rust;

#[derive(RustEmbed)]
#[folder = "../sdk/javascript"]
#[include = "src/*"]
#[include = "engine/*.wasm"]
#[include = "package.json"]
#[include = "README.md"]
struct JavaScript;

#[derive(RustEmbed)]
#[folder = "../sdk/python"]
#[include = "dunlin/*.py"]
#[include = "dunlin/py.typed"]
#[include = "README.md"]
struct Python;

#[derive(RustEmbed)]
#[folder = "../sdk/go"]
#[exclude = "*_test.go"]
#[exclude = "generate.sh"]
struct Go;

impl Project {
    pub(crate) fn of(file: &ManifestFile, source: &Source) -> anyhow::Result<Self> {
        let failed = || format!("`{}` can't be read", file.folder().display());
        let folder = file.folder().canonicalize().with_context(failed)?;
        let component = folder.join(&file.manifest.component);
        let path = folder.join(source.path());
        if !path.exists() {
            let what = format!("`{}` was not built: there is no `{}`", file.manifest.name, path.display());
            let help = format!("`build: {{ {} }}` names the source, from the manifest's folder", source.language());
            return Err(Failure::refused(what).help(help).into());
        }
        Ok(Self {
            name: file.manifest.name.to_string(),
            source: path,
            component,
            exports: Exports::of(&file.manifest.triggers),
            own: root(&folder).join(".dunlin"),
            folder,
        })
    }

    /// The SDK of a language, as this binary has it. The WIT is in the folder `wit` beside it.
    pub(crate) fn sdk(&self, language: &str) -> anyhow::Result<PathBuf> {
        bring(&self.own, language)
    }

    /// The function's own environment of Python: `.dunlin/venv/NAME`. It may not be there.
    pub(crate) fn venv(&self) -> PathBuf {
        self.own.join("venv").join(&self.name)
    }

    /// A file that is made on the way to a component: `.dunlin/built/LANGUAGE/NAME/FILE`. Its folder is there.
    pub(crate) fn built(&self, language: &str, file: &str) -> anyhow::Result<PathBuf> {
        let folder = self.own.join("built").join(language).join(&self.name);
        fs::create_dir_all(&folder).with_context(|| format!("`{}` can't be made", folder.display()))?;
        Ok(folder.join(file))
    }

    /// The folder of a tool: `.dunlin/tools/NAME`. It may not be there.
    pub(crate) fn tool(&self, name: &str) -> PathBuf {
        self.own.join("tools").join(name)
    }

    /// Moves what was built to where `component` says.
    pub(crate) fn finish(&self, built: &Path) -> anyhow::Result<()> {
        let bytes = fs::read(built).with_context(|| format!("`{}` can't be read", built.display()))?;
        self.write(&bytes)
    }

    /// Writes the component. What is there already stays, with its time.
    pub(crate) fn write(&self, component: &[u8]) -> anyhow::Result<()> {
        let path = &self.component;
        let failed = || format!("`{}` can't be written", path.display());
        if fs::read(path).is_ok_and(|before| before == component) {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(failed)?;
        }
        let part = path.with_extension("wasm.part");
        fs::write(&part, component).with_context(failed)?;
        fs::rename(&part, path).with_context(failed)
    }
}

/// The nearest folder upwards that is a project already or a repository, else the function's own.
fn root(folder: &Path) -> &Path {
    // Not any `.dunlin`: a platform that was started in a function's folder has its data in one.
    let is_root = |folder: &&Path| folder.join(".dunlin/sdk").is_dir() || folder.join(".git").exists();
    folder.ancestors().find(is_root).unwrap_or(folder)
}

/// The folder `.dunlin` of the project a folder is in. It is made where there is none.
pub(crate) fn own(folder: &Path) -> anyhow::Result<PathBuf> {
    let own = root(folder).join(".dunlin");
    make_own(&own)?;
    Ok(own)
}

/// Where a language's SDK is for a function's source, as a path from its folder: `./.dunlin/sdk/go`.
pub(crate) fn sdk_path(folder: &Path, language: &str) -> String {
    let root = root(folder);
    let up = folder.strip_prefix(root).map_or(0, |below| below.components().count());
    let way = if up == 0 { "./".to_owned() } else { "../".repeat(up) };
    format!("{way}.dunlin/sdk/{language}")
}

/// Where a function in Python has its environment, as a path from its folder.
pub(crate) fn venv_path(folder: &Path, name: &str) -> String {
    sdk_path(folder, name).replacen("/sdk/", "/venv/", 1)
}

/// Sees to it that an SDK and the WIT are in a project's `.dunlin/sdk`, as this binary has them. Answers with the SDK's folder.
pub(crate) fn bring(own: &Path, language: &str) -> anyhow::Result<PathBuf> {
    make_own(own)?;
    let sdk = own.join("sdk");
    unpack::<Wit>(&sdk.join("wit"))?;
    let folder = sdk.join(language);
    match language {
        "rust" => unpack::<Rust>(&folder)?,
        "javascript" => unpack::<JavaScript>(&folder)?,
        "python" => unpack::<Python>(&folder)?,
        "go" => unpack::<Go>(&folder)?,
        _ => {}
    }
    Ok(folder)
}

/// Makes `.dunlin`, which holds the platform's data as well: nobody else's to read, and nothing to be committed.
fn make_own(own: &Path) -> anyhow::Result<()> {
    let failed = || format!("`{}` can't be made", own.display());
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(own).with_context(failed)?;
    let ignore = own.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "*\n").with_context(failed)?;
    }
    Ok(())
}

/// Writes out what is embedded, unless it is there. A file beside the folder tells of which content that is.
fn unpack<E: RustEmbed>(folder: &Path) -> anyhow::Result<()> {
    let failed = || format!("`{}` can't be written", folder.display());
    let files: Vec<(String, EmbeddedFile)> =
        E::iter().filter_map(|name| Some((name.to_string(), E::get(&name)?))).collect();
    let all: Vec<u8> =
        files.iter().flat_map(|(name, file)| [name.as_bytes(), &[0], &file.metadata.sha256_hash()].concat()).collect();
    let digest = Digest::of(&all).to_string();
    let mark = folder.with_extension("digest");
    let is_there = || fs::read_to_string(&mark).is_ok_and(|before| before == digest) && folder.is_dir();
    if is_there() {
        return Ok(());
    }
    fs::create_dir_all(folder.parent().unwrap_or(folder)).with_context(failed)?;
    let lock = fs::File::create(folder.with_extension("lock")).with_context(failed)?;
    lock.lock().with_context(failed)?;
    if is_there() {
        return Ok(());
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(failed),
        _ => {}
    }
    for (name, file) in files {
        let path = folder.join(&name);
        fs::create_dir_all(path.parent().unwrap_or(folder)).with_context(failed)?;
        let content = if name.ends_with("Cargo.toml") { outside_workspace(&file.data) } else { file.data.into_owned() };
        fs::write(&path, content).with_context(failed)?;
    }
    fs::write(&mark, digest).with_context(failed)
}

/// A package's Cargo.toml without the line that makes it a member of this repository's workspace.
fn outside_workspace(manifest: &[u8]) -> Vec<u8> {
    let lines = manifest.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"workspace = ")).flatten().copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_sdk_is_brought_once_and_again_when_it_differs() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(".dunlin");
        let sdk = bring(&own, "rust").unwrap();
        for (path, name) in [("Cargo.toml", "name = \"dunlin\""), ("macros/Cargo.toml", "name = \"dunlin-macros\"")] {
            let manifest = fs::read_to_string(sdk.join(path)).unwrap();
            assert!(manifest.contains(name) && !manifest.contains("\nworkspace = "), "{manifest}");
        }
        assert!(own.join("sdk/wit/deps/http/http.wit").is_file());

        fs::write(sdk.join("mark"), "").unwrap();
        bring(&own, "rust").unwrap();
        assert!(sdk.join("mark").exists(), "it is left alone");
        fs::write(own.join("sdk/rust.digest"), "older").unwrap();
        bring(&own, "rust").unwrap();
        assert!(!sdk.join("mark").exists(), "it is replaced whole");
    }

    #[test]
    fn functions_of_a_repository_share_its_tools() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!((root(&deep), &*sdk_path(&deep, "go")), (&*deep, "./.dunlin/sdk/go"));
        fs::create_dir(folder.path().join("a/.git")).unwrap();
        assert_eq!(root(&deep), folder.path().join("a"));
        assert_eq!(sdk_path(&deep, "go"), "../.dunlin/sdk/go");
        fs::create_dir_all(deep.join(".dunlin/data")).unwrap();
        assert_eq!(root(&deep), folder.path().join("a"), "a platform's data makes no project");
        fs::create_dir(deep.join(".dunlin/sdk")).unwrap();
        assert_eq!(root(&deep), deep);
    }
}
