//! Which folders a files trigger may have: whoever may deploy chooses them, and the operator says among which.
//!
//! The function of such a trigger reads all of its folder, so never those in which the platform keeps its own data and
//! secrets, and none that holds them.

use dunlin_events::source::SourceError;
use std::path::{Path, PathBuf};

/// The folders files triggers may have.
#[derive(Debug, Clone, Default)]
pub struct AllowedFolders {
    /// Any when empty.
    within: Vec<PathBuf>,
    never: Vec<PathBuf>,
}

impl AllowedFolders {
    /// Folders in and below `within`, or any where there are none, without those in, below and above `never`.
    pub fn new(within: Vec<PathBuf>, never: Vec<PathBuf>) -> Self {
        // As they are on disk: links must not lead past them.
        let real = |folder: PathBuf| folder.canonicalize().unwrap_or(folder);
        Self { within: within.into_iter().map(real).collect(), never: never.into_iter().map(real).collect() }
    }

    /// Refuses a folder, given as it is on disk.
    pub(super) fn check(&self, folder: &Path) -> Result<(), SourceError> {
        let shown = folder.display();
        if self.never.iter().any(|never| folder.starts_with(never) || never.starts_with(folder)) {
            let error = SourceError::new(format!("`{shown}` holds what the platform keeps for itself"));
            return Err(error.help("its data and secrets are nobody's to read: choose another folder"));
        }
        if self.within.is_empty() || self.within.iter().any(|allowed| folder.starts_with(allowed)) {
            return Ok(());
        }
        let allowed: Vec<_> = self.within.iter().map(|folder| format!("`{}`", folder.display())).collect();
        let error = SourceError::new(format!("`{shown}` is not among the folders of this platform"));
        Err(error.help(format!(
            "choose one in {}, or have its operator allow it: `dunlin up --files {shown}`",
            allowed.join(", ")
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_those_the_operator_allows_and_never_the_platforms_own() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["in/box", "in/data", "other"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(root.join("in"), root.join("link")).unwrap();
        let refused = |allowed: &AllowedFolders, folder: &str| allowed.check(&root.join(folder)).is_err();
        let any = AllowedFolders::new(vec![], vec![root.join("link/data")]);
        assert_eq!(
            ["other", "in/box", "in/data", "in"].map(|folder| refused(&any, folder)),
            [false, false, true, true]
        );
        let some = AllowedFolders::new(vec![root.join("link")], vec![root.join("in/data")]);
        assert_eq!(["in/box", "other", "in/data"].map(|folder| refused(&some, folder)), [false, true, true]);
        assert!(some.check(&root.join("other")).unwrap_err().to_string().contains("dunlin up --files"));
    }
}
