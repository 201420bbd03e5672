//! What a deployed function is: its name, the component behind it, and one immutable version of both.

use crate::manifest::Manifest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// A function's name: 1 to 63 lowercase letters, digits and hyphens, beginning with a letter and not ending with a hyphen.
///
/// This is the DNS label of RFC 1035, so that a name can become a host name, a topic or a metric label as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[schemars(transparent)]
pub struct FunctionName(#[schemars(regex(pattern = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"))] Arc<str>);

/// Why a text is no function name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a function name: use 1 to 63 lowercase letters, digits and hyphens, beginning with a letter and not ending with a hyphen"
)]
pub struct InvalidName(pub String);

impl FunctionName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FunctionName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let bytes = text.as_bytes();
        let valid = matches!(bytes.first(), Some(b'a'..=b'z'))
            && bytes.len() <= 63
            && bytes.last() != Some(&b'-')
            && bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if valid { Ok(Self(text.into())) } else { Err(InvalidName(text.to_owned())) }
    }
}

impl<'de> Deserialize<'de> for FunctionName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for FunctionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The SHA-256 of a component as it was uploaded, written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is no digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: it is written `sha256:` and 64 hexadecimal digits")]
pub struct InvalidDigest(pub String);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits alone, fit for a file name.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.to_owned());
        let digits = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| invalid())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Digest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Digest".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^sha256:[0-9a-f]{64}$" })
    }
}

/// What a component is called through, read off its exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Exports `wasi:http/incoming-handler@0.2.x`.
    Http02,
    /// Exports `wasi:http/handler@0.3.x`.
    Http03,
    /// Exports `wasi:cli/run@0.2.x`, or is a WASI preview 1 core module with `_start`.
    Command,
    /// Exports `dunlin:function/handler@0.1.x`: takes events, typed.
    Handler,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http02 => "http 0.2",
            Self::Handler => "handler",
            Self::Http03 => "http 0.3",
            Self::Command => "command",
        })
    }
}

/// What the runtime found in an uploaded component. It depends on the component's bytes alone, never on a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Component {
    pub digest: Digest,
    /// Size of the component as uploaded, in bytes.
    pub size: u64,
    pub shape: Shape,
    /// Memory it has when it starts, all linear memories together, in bytes. A manifest must allow at least this.
    pub initial_memory: u64,
    /// The interfaces it imports, as the component names them: `wasi:http/outgoing-handler@0.2.3`.
    pub imports: Vec<String>,
}

/// One deploy of a function. Versions never change; which of them is *active* (gets the traffic) does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Version {
    /// Counts a function's deploys from 1. Numbers are never used twice, also not after a rollback.
    pub number: u64,
    pub manifest: Manifest,
    pub component: Component,
    /// When it was deployed, in milliseconds since the Unix epoch.
    pub deployed_at: u64,
}

impl Version {
    pub fn name(&self) -> &FunctionName {
        &self.manifest.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "hello", "hello-2", "x".repeat(63).as_str()] {
            assert_eq!(good.parse::<FunctionName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "2a", "a_b", "a.b", "ä", "x".repeat(64).as_str()] {
            assert!(bad.parse::<FunctionName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn digest_reads_what_it_writes() {
        let digest = Digest::of(b"hello");
        assert_eq!(digest.to_string(), "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert!("sha256:2cf2".parse::<Digest>().is_err());
    }
}
