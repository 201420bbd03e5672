//! Reads typed values out of a [tree](super::tree), so that every complaint of serde's derived readers has a place.
//!
//! serde stops at its first complaint. To show more than one at once, what was complained about is marked bad and the tree
//! is read again without it, until nothing more is found.

use super::{
    diagnostic::Diagnostic,
    tree::{Entry, Node, Value},
};
use dunlin_events::similar;
use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, EnumAccess, Error as _, Expected, IntoDeserializer, MapAccess, SeqAccess,
        Unexpected, VariantAccess, Visitor, value::StrDeserializer,
    },
    forward_to_deserialize_any,
};
use std::fmt;

/// A wrong file can be wrong in a thousand places; nobody reads more than this many complaints.
const MOST: usize = 30;

/// Reads a value of type `T`, or says what is wrong with the tree.
pub(super) fn read<T: DeserializeOwned>(root: &mut Node, source: &str) -> (Option<T>, Vec<Diagnostic>) {
    let mut found = Vec::new();
    for _ in 0..MOST {
        let mistake = match T::deserialize(Reader { node: root, source }) {
            Ok(value) => return (Some(value), found),
            Err(mistake) => mistake,
        };
        let path: Vec<String> = mistake.path.iter().rev().cloned().collect();
        // "did you mean `name`?" has said already that `name` is missing.
        let meant = mistake.message.strip_suffix(" is missing").map(|key| format!("did you mean {key}?"));
        let said = meant.is_some() && found.iter().any(|found: &Diagnostic| found.help == meant);
        if !mistake.known && !said {
            let pointer: String =
                path.iter().map(|key| format!("/{}", key.replace('~', "~0").replace('/', "~1"))).collect();
            let span = if mistake.at_key { root.place_of_key(&pointer) } else { root.place(&pointer) };
            let mut diagnostic = Diagnostic::new(span, mistake.message);
            diagnostic.help = mistake.help;
            found.push(diagnostic);
        }
        // Something without a required key can't be read: neither can the list's element that it belongs to.
        let path = if mistake.missing {
            let element = path.iter().rposition(|key| key.bytes().all(|b| b.is_ascii_digit()));
            element.map_or(&path[..], |at| &path[..=at])
        } else {
            &path[..]
        };
        if path.is_empty() {
            break;
        }
        root.mark_bad(path);
    }
    (None, found)
}

/// A complaint on its way out of the tree.
#[derive(Debug)]
struct Mistake {
    /// The keys and indices that lead to it, the innermost first.
    path: Vec<String>,
    /// It is about the key, not about its value.
    at_key: bool,
    message: String,
    help: Option<String>,
    /// A key isn't there.
    missing: bool,
    /// The consequence of an earlier complaint, which says it all.
    known: bool,
}

impl Mistake {
    fn new(message: impl Into<String>, help: impl Into<Option<String>>) -> Self {
        Self {
            path: Vec::new(),
            at_key: false,
            message: message.into(),
            help: help.into(),
            missing: false,
            known: false,
        }
    }

    fn within(mut self, segment: impl Into<String>) -> Self {
        self.path.push(segment.into());
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

impl serde::de::Error for Mistake {
    fn custom<T: fmt::Display>(message: T) -> Self {
        // "`5` is not a size: write ...": the contracts' errors end with what to do.
        let message = message.to_string();
        for mark in ["; write ", ": write ", ": use "] {
            if let Some(at) = message.rfind(mark) {
                return Self::new(&message[..at], message[at + 2..].to_owned());
            }
        }
        Self::new(message, None)
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {}, found {found}", in_words(expected)), None)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Unsigned(number) => format!("`{number}`"),
            Unexpected::Signed(number) => format!("`{number}`"),
            other => other.to_string(),
        };
        Self::new(format!("expected {}, found {found}", in_words(expected)), None)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self { at_key: true, ..Self::new(format!("unknown key `{field}`"), suggest(field, expected)) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value `{variant}`"), suggest(variant, expected))
    }

    fn missing_field(field: &'static str) -> Self {
        let mistake = Self::new(format!("`{field}` is missing"), format!("add a line `{field}: ...`"));
        Self { at_key: true, missing: true, ..mistake }
    }
}

/// What serde expects, in the words of somebody who writes YAML.
fn in_words(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "a nonzero u32" => format!("a whole number from 1 to {}", u32::MAX),
        _ => text,
    }
}

/// What was probably meant, or all that can be meant.
fn suggest(word: &str, known: &[&str]) -> String {
    match similar(word, known.iter().copied()) {
        Some(known) => format!("did you mean `{known}`?"),
        None => {
            let known: Vec<_> = known.iter().map(|known| format!("`{known}`")).collect();
            format!("known here: {}", known.join(", "))
        }
    }
}

/// One node being read.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    source: &'a str,
}

impl<'a> Reader<'a> {
    fn at(self, node: &'a Node) -> Self {
        Self { node, ..self }
    }

    /// What is there, in words.
    fn found(self) -> String {
        match &self.node.value {
            Value::Null => "nothing".into(),
            Value::Bool(_) => format!("`{}`", self.written()),
            Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => format!("the number `{}`", self.written()),
            Value::Text(text) if text.chars().count() > 40 => "text".into(),
            Value::Text(text) => format!("the text `{text}`"),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "keys with values".into(),
        }
    }

    /// The node as the file has it.
    fn written(self) -> &'a str {
        self.source[self.node.span.clone()].trim()
    }

    fn expected(self, what: &str, help: impl Into<Option<String>>) -> Mistake {
        Mistake::new(format!("expected {what}, found {}", self.found()), help)
    }

    fn text(self) -> Result<&'a str, Mistake> {
        match &self.node.value {
            Value::Text(text) => Ok(text),
            Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) => {
                let written = self.written();
                let help = match self.node.value {
                    Value::Unsigned(_) => {
                        format!("put it in quotes, `\"{written}\"`, or give it its unit: `{written}s`, `{written}MiB`")
                    }
                    _ => format!("put it in quotes: `\"{written}\"`"),
                };
                Err(self.expected("text", help))
            }
            Value::Null => {
                Err(self.expected("text", "write it after the colon, or `\"\"` for an empty one".to_owned()))
            }
            Value::List(_) | Value::Map(_) => Err(self.expected("text", None)),
        }
    }

    /// The entries of keys with values.
    fn entries(self) -> Result<&'a [Entry], Mistake> {
        match &self.node.value {
            Value::Map(entries) => Ok(entries),
            Value::Null => Err(self.expected(
                "keys with values",
                "write them below, indented further than this key, or leave it out".to_owned(),
            )),
            Value::List(_) => Err(self.expected("keys with values", "leave out the `-`".to_owned())),
            _ => Err(self.expected("keys with values", None)),
        }
    }

    fn number<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Value::Unsigned(number) => visitor.visit_u64(*number),
            Value::Signed(number) => visitor.visit_i64(*number),
            Value::Text(text) if self.node.expanded => match text.trim().parse() {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => Err(self.expected("a whole number", "look at the variable's value".to_owned())),
            },
            Value::Text(text) if text.parse::<u64>().is_ok() => {
                Err(self.expected("a whole number", "leave out the quotes".to_owned()))
            }
            _ => Err(self.expected("a whole number", None)),
        }
    }
}

impl<'a> Deserializer<'a> for Reader<'a> {
    type Error = Mistake;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Unsigned(value) => visitor.visit_u64(*value),
            Value::Signed(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_str(value),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.deserialize_str(visitor)
    }

    fn deserialize_u32<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.number(visitor)
    }

    fn deserialize_u64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        self.number(visitor)
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match &self.node.value {
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Text(text) if self.node.expanded && matches!(text.as_str(), "true" | "false") => {
                visitor.visit_bool(text == "true")
            }
            _ => Err(self.expected("`true` or `false`", None)),
        }
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        let nodes = match &self.node.value {
            Value::List(nodes) => nodes,
            Value::Null => {
                return Err(self.expected(
                    "a list",
                    "write its entries below, each after a `- `, or leave the key out".to_owned(),
                ));
            }
            Value::Map(_) => return Err(self.expected("a list", "begin each entry with `- `".to_owned())),
            _ => return Err(self.expected("a list", format!("put it in brackets: `[{}]`", self.written()))),
        };
        visitor.visit_seq(Elements { reader: self, nodes: nodes.iter().enumerate() })
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Mistake> {
        visitor.visit_map(Entries { reader: self, entries: self.entries()?.iter(), current: None })
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let entries = self.entries()?;
        self.deserialize_map(visitor).map_err(|mut mistake| {
            if mistake.missing && mistake.path.is_empty() {
                let bad = |name: &str| entries.iter().any(|entry| entry.key == name && entry.node.bad);
                let missing = fields.iter().find(|field| mistake.message.starts_with(&format!("`{field}` ")));
                mistake.known = missing.is_some_and(|field| bad(field));
            }
            mistake
        })
    }

    /// An externally tagged enum: one word, or one key with the variant's value.
    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mistake> {
        let entries = match &self.node.value {
            Value::Text(word) => return visitor.visit_enum(Variant { reader: self, word, content: None }),
            Value::Map(entries) => entries,
            _ => {
                let known: Vec<_> = variants.iter().map(|known| format!("`{known}`")).collect();
                return Err(self.expected(&format!("one of {}", known.join(", ")), None));
            }
        };
        match entries.iter().filter(|entry| !entry.node.bad).collect::<Vec<_>>()[..] {
            [entry] => visitor.visit_enum(Variant { reader: self, word: &entry.key, content: Some(&entry.node) }),
            [] => Err(Mistake { known: !entries.is_empty(), ..self.expected("one key", suggest("", variants)) }),
            [first, second, ..] => Err(if matches!(first.node.value, Value::Null) {
                Mistake::new(
                    format!("`{}` stands beside `{}`, not below it", second.key, first.key),
                    format!("indent `{}` further than `{}`", second.key, first.key),
                )
            } else {
                Mistake::new(
                    format!("`{}` and `{}` are in one entry", first.key, second.key),
                    format!("begin an entry of its own: `- {}: ...`", second.key),
                )
            }),
        }
    }

    forward_to_deserialize_any! {
        <V: Visitor<'a>> i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// The elements of a list that nobody complained about yet.
struct Elements<'a> {
    reader: Reader<'a>,
    nodes: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'a> SeqAccess<'a> for Elements<'a> {
    type Error = Mistake;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Mistake> {
        let Some((index, node)) = self.nodes.find(|(_, node)| !node.bad) else { return Ok(None) };
        seed.deserialize(self.reader.at(node)).map(Some).map_err(|mistake| mistake.within(index.to_string()))
    }
}

/// The entries of keys with values that nobody complained about yet.
struct Entries<'a> {
    reader: Reader<'a>,
    entries: std::slice::Iter<'a, Entry>,
    current: Option<&'a Entry>,
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = Mistake;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Mistake> {
        self.current = self.entries.find(|entry| !entry.node.bad);
        let Some(entry) = self.current else { return Ok(None) };
        let key: StrDeserializer<'_, Mistake> = entry.key.as_str().into_deserializer();
        seed.deserialize(key).map(Some).map_err(|mistake| Mistake { at_key: true, ..mistake.within(&entry.key) })
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Mistake> {
        let entry = self.current.ok_or_else(|| Mistake::custom("a value before its key"))?;
        seed.deserialize(self.reader.at(&entry.node)).map_err(|mistake| mistake.within(&entry.key))
    }
}

/// The variant of an enum, with its content where it has one.
struct Variant<'a> {
    reader: Reader<'a>,
    word: &'a str,
    content: Option<&'a Node>,
}

impl<'a> EnumAccess<'a> for Variant<'a> {
    type Error = Mistake;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), Mistake> {
        let word: StrDeserializer<'_, Mistake> = self.word.into_deserializer();
        match seed.deserialize(word) {
            Ok(value) => Ok((value, self)),
            Err(mistake) if self.content.is_some() => {
                let message = format!("unknown key `{}`", self.word);
                Err(Mistake { at_key: true, message, ..mistake.within(self.word) })
            }
            Err(mistake) => Err(mistake),
        }
    }
}

impl<'a> VariantAccess<'a> for Variant<'a> {
    type Error = Mistake;

    fn unit_variant(self) -> Result<(), Mistake> {
        match self.content {
            None => Ok(()),
            Some(_) => Err(Mistake::new(format!("`{}` has no keys of its own", self.word), None)),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Mistake> {
        let Some(content) = self.content else {
            let help = format!("write `{}: {{ ... }}`", self.word);
            return Err(Mistake::new(format!("`{}` needs keys of its own", self.word), help));
        };
        seed.deserialize(self.reader.at(content)).map_err(|mistake| mistake.within(self.word))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Mistake> {
        match self.content {
            Some(content) => self.reader.at(content).deserialize_seq(visitor),
            None => Err(Mistake::new(format!("`{}` needs a list", self.word), None)),
        }
    }

    fn struct_variant<V: Visitor<'a>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Mistake> {
        match self.content {
            Some(content) => self.reader.at(content).deserialize_struct("", fields, visitor),
            None => Err(Mistake::new(format!("`{}` needs keys of its own", self.word), None)),
        }
    }
}
