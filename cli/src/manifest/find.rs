//! Which manifests a path stands for.

use crate::report::Failure;
use anyhow::Context as _;
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// The one name a manifest has.
pub(crate) const FILE_NAME: &str = "function.yaml";

/// A file stands for itself, whatever its name; a folder for every `function.yaml` in and below it, sorted. Hidden folders,
/// `target`, `node_modules`, `__pycache__` and symbolic links to folders are not looked into.
pub(crate) fn find(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let metadata = std::fs::metadata(path).with_context(|| format!("`{}` can't be read", path.display()))?;
    if metadata.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = || format!("the folder `{}` can't be read", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            let name = entry.file_name();
            let path = if folder == Path::new(".") { PathBuf::from(&name) } else { entry.path() };
            if entry.file_type().with_context(failed)?.is_dir() {
                if !is_skipped(&name) {
                    folders.push(path);
                }
            } else if name == FILE_NAME {
                found.push(path);
            } else if name == "function.yml" {
                let what = format!("`{}` would be passed over", path.display());
                return Err(Failure::refused(what).help("rename it to `function.yaml`").into());
            }
        }
    }
    found.sort();
    if found.is_empty() {
        let what = format!("there is no `{FILE_NAME}` in or below `{}`", path.display());
        return Err(Failure::refused(what).help("name a manifest, or a folder with manifests").into());
    }
    Ok(found)
}

/// Whether a folder of this name holds nothing that people write.
pub(crate) fn is_skipped(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "target" || name == "node_modules" || name == "__pycache__"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stands_for_the_manifests_below_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        for path in [
            "b/function.yaml",
            "a/x/function.yaml",
            ".git/function.yaml",
            "target/function.yaml",
            "a/node_modules/m/function.yaml",
            "a/other.yaml",
        ] {
            std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            std::fs::write(at(path), "").unwrap();
        }
        assert_eq!(find(folder.path()).unwrap(), [at("a/x/function.yaml"), at("b/function.yaml")]);
        assert_eq!(find(&at("a/other.yaml")).unwrap(), [at("a/other.yaml")]);
        std::fs::create_dir(at("empty")).unwrap();
        assert!(find(&at("empty")).unwrap_err().to_string().contains("there is no `function.yaml` in or below"));
        std::fs::write(at("b/function.yml"), "").unwrap();
        assert!(find(folder.path()).unwrap_err().to_string().contains("function.yml` would be passed over"));
    }
}
