//! How a function's component is made: the manifest's `build`.

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use std::fmt;

/// What makes the component: a command for the shell, or a language with its source, which `dunlin build` knows how to
/// compile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Build {
    /// A command, run in the manifest's folder. It leaves the component where `component` says.
    Command(String),
    /// A language with its source.
    Source(Source),
}

/// The source of a function in a language that `dunlin build` compiles. Paths are relative to the manifest's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The folder of a Cargo package: `.`
    Rust(String),
    /// A module, in TypeScript or JavaScript: `src/index.ts`
    JavaScript(String),
    /// A module: `app.py`
    Python(String),
    /// The folder of a main package: `.`
    Go(String),
    /// A file of a program that reads stdin and writes stdout: `main.c`
    C(String),
}

impl Source {
    /// Its key in a manifest: `python`.
    pub const fn language(&self) -> &'static str {
        match self {
            Self::Rust(_) => "rust",
            Self::JavaScript(_) => "javascript",
            Self::Python(_) => "python",
            Self::Go(_) => "go",
            Self::C(_) => "c",
        }
    }

    /// The path of the source.
    pub fn path(&self) -> &str {
        match self {
            Self::Rust(path) | Self::JavaScript(path) | Self::Python(path) | Self::Go(path) | Self::C(path) => path,
        }
    }

    /// Whether its components import all that the platform offers, whatever the function uses of it: an interpreter doesn't
    /// know that before the function runs.
    pub const fn imports_everything(&self) -> bool {
        matches!(self, Self::Python(_))
    }
}

impl Build {
    /// Whether what the component imports says nothing about what the function does.
    pub const fn imports_everything(&self) -> bool {
        matches!(self, Self::Source(source) if source.imports_everything())
    }
}

/// As it stands in the manifest, in one line.
impl fmt::Display for Build {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(command) => f.write_str(command),
            Self::Source(source) => write!(f, "{}: {}", source.language(), source.path()),
        }
    }
}

// By hand: serde's untagged enums forget which language it was that nobody knows.
impl<'de> Deserialize<'de> for Build {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Build;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a command, or a language with its source such as `{ python: app.py }`")
            }

            fn visit_str<E: serde::de::Error>(self, command: &str) -> Result<Build, E> {
                Ok(Build::Command(command.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Build, A::Error> {
                Source::deserialize(MapAccessDeserializer::new(map)).map(Build::Source)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    #[test]
    fn it_is_a_command_or_a_language() {
        for (written, read) in [
            (json!("make"), Build::Command("make".into())),
            (json!({ "python": "app.py" }), Build::Source(Source::Python("app.py".into()))),
            (json!({ "javascript": "src/index.ts" }), Build::Source(Source::JavaScript("src/index.ts".into()))),
        ] {
            assert_eq!(from_value::<Build>(written.clone()).unwrap(), read);
            assert_eq!(to_value(&read).unwrap(), written);
        }
        let error = |value| from_value::<Build>(value).unwrap_err().to_string();
        assert!(error(json!({ "pyton": "a" })).contains("unknown variant `pyton`, expected one of `rust`"));
        assert!(error(json!(7)).contains("a command, or a language with its source"));
    }
}
