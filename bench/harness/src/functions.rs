//! A folder of manifests to deploy.

use anyhow::Result;
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Functions that belong together in one deploy. The folder goes when this does.
pub struct Functions(TempDir);

impl Functions {
    pub fn new() -> Result<Self> {
        Ok(Self(tempfile::tempdir()?))
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    /// Adds a function. What its manifest has beside name and component comes as YAML; what it doesn't say is the
    /// platform's default.
    pub fn add(&mut self, name: &str, component: &Path, manifest: &str) -> Result<()> {
        let folder = self.folder().join(name);
        fs::create_dir(&folder)?;
        let manifest = format!("name: {name}\ncomponent: {}\n{manifest}", component.display());
        fs::write(folder.join("function.yaml"), manifest)?;
        Ok(())
    }

    /// A copy of a component that differs in a custom section alone, so that its digest and its compiled code are its own.
    pub fn distinct(&self, component: &Path, number: usize) -> Result<PathBuf> {
        let name = b"bench";
        let mut section = vec![u8::try_from(name.len()).expect("a short name")];
        section.extend_from_slice(name);
        section.extend_from_slice(&number.to_le_bytes());
        let mut bytes = fs::read(component)?;
        bytes.extend_from_slice(&[0, u8::try_from(section.len()).expect("a short section")]);
        bytes.extend_from_slice(&section);
        let copy = self.folder().join(format!("{number}.wasm"));
        fs::write(&copy, bytes)?;
        Ok(copy)
    }
}
