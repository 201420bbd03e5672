//! Where `dunlin up` has secrets from: a folder with a file each (`--secrets DIR`), then variables of its own environment
//! (`DUNLIN_SECRET_<NAME>`). The folder wins, because somebody named it: a variable left over from elsewhere can't shadow a
//! secret that was rotated in it. Values are read when asked for, kept nowhere and printed nowhere.

use crate::report::Failure;
use dunlin_events::secrets::{SecretError, SecretName, SecretValue, Secrets};
use std::{ffi::OsString, io::Read as _, path::PathBuf};

/// A function gets a secret as an environment variable; no key or certificate chain is larger.
const MOST_BYTES: u64 = 64 << 10;

/// The platform's secrets.
pub(crate) struct PlatformSecrets {
    folder: Option<PathBuf>,
    variable: fn(&str) -> Option<OsString>,
}

impl PlatformSecrets {
    /// Secrets of the folder, if one is named, and of this process's environment.
    pub(crate) fn open(folder: Option<PathBuf>) -> Result<Self, Failure> {
        if let Some(folder) = &folder {
            let failed = || format!("the secrets in `{}` can't be read", folder.display());
            let entries = std::fs::read_dir(folder)
                .map_err(|error| Failure::new(failed()).help("name a folder with a file per secret").because(error))?;
            for entry in entries {
                let entry = entry.map_err(|error| Failure::new(failed()).because(error))?;
                warn_if_open_to_all(&entry);
            }
        }
        Ok(Self { folder, variable: |name| std::env::var_os(name) })
    }
}

#[cfg(unix)]
fn warn_if_open_to_all(entry: &std::fs::DirEntry) {
    use std::os::unix::fs::PermissionsExt as _;
    // Of the file itself, where the entry is a link: orchestrators mount secrets as links.
    let path = entry.path();
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o004 != 0) {
        tracing::warn!(file = %path.display(), "everybody on this machine can read this secret: chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_if_open_to_all(_: &std::fs::DirEntry) {}

impl Secrets for PlatformSecrets {
    fn get(&self, name: &SecretName) -> Result<SecretValue, SecretError> {
        let unreadable = |reason: String| SecretError::Unreadable { name: name.clone(), reason };
        if let Some(folder) = &self.folder {
            match std::fs::File::open(folder.join(name.as_str())) {
                Ok(file) => {
                    let mut bytes = Vec::new();
                    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
                    if bytes.len() as u64 > MOST_BYTES {
                        return Err(unreadable(format!("its file is larger than {} KiB", MOST_BYTES >> 10)));
                    }
                    let text =
                        String::from_utf8(bytes).map_err(|_| unreadable("its file is not text in UTF-8".into()))?;
                    // Editors and `echo` end a file with a line end that is no part of the secret.
                    let text =
                        text.strip_suffix('\n').map_or(&text[..], |text| text.strip_suffix('\r').unwrap_or(text));
                    return value(text, unreadable);
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(error.to_string())),
            }
        }
        let variable = format!("DUNLIN_SECRET_{name}");
        match (self.variable)(&variable) {
            Some(text) => {
                let text = text.to_str().ok_or_else(|| unreadable(format!("`{variable}` is not text in UTF-8")))?;
                value(text, unreadable)
            }
            None => {
                let file = match &self.folder {
                    Some(folder) => format!("write it to `{}`", folder.join(name.as_str()).display()),
                    None => format!("start it with `--secrets DIR` and a file `{name}` in that folder"),
                };
                let help = format!("start `dunlin up` with `{variable}` in its environment, or {file}");
                Err(SecretError::Unknown { name: name.clone(), help })
            }
        }
    }
}

fn value(text: &str, unreadable: impl Fn(String) -> SecretError) -> Result<SecretValue, SecretError> {
    if text.contains('\0') {
        return Err(unreadable("it holds a NUL character, which no environment variable can".into()));
    }
    Ok(SecretValue::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_wins_and_line_ends_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        write("BOTH", b"from the file\r\n");
        write("LINES", b"a\nb\n\n");
        write("BINARY", &[0xff, 0xfe]);
        write("NUL", b"a\0b");
        write("LARGE", &vec![b'x'; (64 << 10) + 1]);
        let secrets = PlatformSecrets {
            folder: Some(folder.path().to_owned()),
            variable: |name| {
                matches!(name, "DUNLIN_SECRET_BOTH" | "DUNLIN_SECRET_ONE").then(|| "from a variable".into())
            },
        };
        let get = |name: &str| secrets.get(&name.parse().unwrap());
        let text = |name: &str| get(name).unwrap().expose().to_owned();
        assert_eq!(text("BOTH"), "from the file");
        assert_eq!(text("ONE"), "from a variable");
        assert_eq!(text("LINES"), "a\nb\n");
        for bad in ["BINARY", "NUL", "LARGE"] {
            assert!(matches!(get(bad), Err(SecretError::Unreadable { .. })), "{bad}");
        }
        write("BOTH", b"rotated");
        assert_eq!(text("BOTH"), "rotated", "a secret is read when it is asked for");
        let error = get("NONE").unwrap_err().to_string();
        assert!(error.contains("`DUNLIN_SECRET_NONE` in its environment") && error.contains("NONE`"), "{error}");
        assert_eq!(format!("{:?}", get("BOTH").unwrap()), "***");
    }

    #[test]
    fn a_missing_folder_is_told_at_the_start() {
        let error = PlatformSecrets::open(Some("/nonexistent/secrets".into())).err().unwrap();
        assert_eq!(error.to_string(), "the secrets in `/nonexistent/secrets` can't be read");
    }
}
