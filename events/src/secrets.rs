//! Secrets: values the platform knows and a manifest only names.
//!
//! A [`SecretValue`] has no `Display`, its `Debug` hides it, and it can't be serialised: whoever wants the text has to
//! write [`SecretValue::expose`], which is easy to search for.

use crate::manifest::as_text;
use std::{fmt, str::FromStr};

/// A secret's name: uppercase letters, digits and `_`, beginning with a letter. It is also the environment variable the
/// function finds it in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// Why a text is no secret name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a secret's name: use uppercase letters, digits and `_`, beginning with a letter")]
pub struct InvalidSecretName(pub String);

impl SecretName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = InvalidSecretName;

    fn from_str(text: &str) -> Result<Self, InvalidSecretName> {
        let valid = text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
            && text.bytes().next().is_some_and(|b| b.is_ascii_uppercase())
            && text.len() <= 128;
        if valid { Ok(Self(text.to_owned())) } else { Err(InvalidSecretName(text.to_owned())) }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(SecretName, "SecretName", { "type": "string", "pattern": "^[A-Z][A-Z0-9_]*$", "examples": ["STRIPE_KEY"] });

/// The value of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The text itself, for the one who must hand it on.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why a secret could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the platform has no secret `{name}`: {help}")]
    Unknown {
        name: SecretName,
        /// How the operator sets it.
        help: String,
    },
    #[error("the secret `{name}` can't be read: {reason}")]
    Unreadable { name: SecretName, reason: String },
}

/// Where secret values come from.
pub trait Secrets: Send + Sync {
    /// The value of a secret now. It is asked again whenever a function's code is loaded, so a changed value reaches the
    /// next sandboxes without a deploy.
    fn get(&self, name: &SecretName) -> Result<SecretValue, SecretError>;
}

/// A platform without any.
impl Secrets for () {
    fn get(&self, name: &SecretName) -> Result<SecretValue, SecretError> {
        Err(SecretError::Unknown { name: name.clone(), help: "it has none at all".into() })
    }
}
