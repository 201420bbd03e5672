//! A YAML file as a tree in which every key and value knows its place.
//!
//! serde's derived readers forget places, and `Spanned` in the manifest's own types would put a YAML crate into
//! `dunlin-events`. So the file is read into this tree first: problems found later, by the manifest's types, by
//! [`Manifest::problems`](dunlin_events::Manifest::problems) or by the server, name a JSON Pointer, and the tree
//! turns it into a place. Anchors, aliases and merge keys are resolved on the way, within a budget.

use super::diagnostic::Diagnostic;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_yaml::{Location, Spanned, options::DuplicateKeyPolicy};
use std::{fmt, ops::Range};

/// One value.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    /// Bytes of the file. For lists and keys with values only where they begin.
    pub(super) span: Range<usize>,
    /// Its text came out of a variable, so it may stand for a number as well.
    pub(super) expanded: bool,
    /// There is a complaint about it already: readers skip it.
    pub(super) bad: bool,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) node: Node,
}

/// Reads a file. Errors of YAML itself leave nothing to go on with; duplicate keys are complaints about one entry each.
pub(super) fn parse(text: &str) -> Result<(Node, Vec<Diagnostic>), Diagnostic> {
    // A manifest has some fifty values. These bounds are far above that, and keep a bomb of aliases, an endless nesting
    // or a wrong file from taking memory.
    let mut alias_limits = serde_yaml::options::AliasLimits::default();
    alias_limits.max_total_replayed_events = 10_000;
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! { max_depth: 32, max_nodes: 10_000, max_events: 50_000, max_aliases: 1_000, max_anchors: 1_000 },
        alias_limits: alias_limits,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let raw: Spanned<Raw> = serde_yaml::from_str_with_options(text, options).map_err(|error| broken(&error, text))?;
    let mut root = raw.value.place(raw.referenced);
    let mut duplicates = Vec::new();
    mark_duplicates(&mut root, &mut duplicates);
    Ok((root, duplicates))
}

impl Node {
    /// The place of what a JSON Pointer names: a value where it is one word, else its key. Where the file doesn't have it (a
    /// default, or a line that should be there), the nearest key around it.
    pub(super) fn place(&self, pointer: &str) -> Range<usize> {
        self.find(pointer.split('/').skip(1).map(unescape), false)
    }

    /// As [`Node::place`], but the key even where the value is one word.
    pub(super) fn place_of_key(&self, pointer: &str) -> Range<usize> {
        self.find(pointer.split('/').skip(1).map(unescape), true)
    }

    fn find(&self, path: impl Iterator<Item = String>, key: bool) -> Range<usize> {
        let mut node = self;
        let mut place = self.begin();
        for segment in path {
            match &node.value {
                Value::Map(entries) => {
                    let Some(entry) = entries.iter().find(|entry| entry.key == segment) else { return place };
                    node = &entry.node;
                    let has_text = !key
                        && matches!(
                            node.value,
                            Value::Bool(_) | Value::Unsigned(_) | Value::Signed(_) | Value::Float(_) | Value::Text(_)
                        );
                    place = if has_text { node.span.clone() } else { entry.key_span.clone() };
                }
                Value::List(nodes) => {
                    let Some(inner) = segment.parse::<usize>().ok().and_then(|index| nodes.get(index)) else {
                        return place;
                    };
                    node = inner;
                    place = node.begin();
                }
                _ => return place,
            }
        }
        place
    }

    /// Where it begins: for keys with values the first key.
    fn begin(&self) -> Range<usize> {
        match &self.value {
            Value::Map(entries) => entries.first().map_or(self.span.clone(), |entry| entry.key_span.clone()),
            _ => self.span.clone(),
        }
    }

    /// Marks what a pointer names as bad.
    pub(super) fn mark_bad(&mut self, path: &[String]) {
        let Some((first, rest)) = path.split_first() else {
            self.bad = true;
            return;
        };
        match &mut self.value {
            // The last of that name: an earlier one may have been marked as a duplicate.
            Value::Map(entries) => {
                for entry in entries.iter_mut().filter(|entry| entry.key == *first && !entry.node.bad) {
                    entry.node.mark_bad(rest);
                }
            }
            Value::List(nodes) => {
                if let Some(node) = first.parse::<usize>().ok().and_then(|index| nodes.get_mut(index)) {
                    node.mark_bad(rest);
                }
            }
            _ => {}
        }
    }
}

/// A pointer's segment as the key it names (RFC 6901, section 4).
fn unescape(segment: &str) -> String {
    segment.replace("~1", "/").replace("~0", "~")
}

fn mark_duplicates(node: &mut Node, found: &mut Vec<Diagnostic>) {
    match &mut node.value {
        Value::Map(entries) => {
            for index in 0..entries.len() {
                let first = entries[..index].iter().find(|entry| entry.key == entries[index].key);
                if let Some(first) = first.map(|entry| entry.key_span.clone()) {
                    let second = &mut entries[index];
                    second.node.bad = true;
                    found.push(
                        Diagnostic::new(second.key_span.clone(), format!("the key `{}` is there twice", second.key))
                            .context(first, "first here")
                            .help("keep one of the two"),
                    );
                } else {
                    mark_duplicates(&mut entries[index].node, found);
                }
            }
        }
        Value::List(nodes) => nodes.iter_mut().for_each(|node| mark_duplicates(node, found)),
        _ => {}
    }
}

/// What the YAML reader says, in our words where its own don't tell what to do.
fn broken(error: &serde_yaml::Error, text: &str) -> Diagnostic {
    use serde_yaml::{Error, MessageFormatter as _, UserMessageFormatter};
    let error = error.without_snippet();
    let place = error.location().map_or(0..0, |location| bytes(location, text));
    let message = UserMessageFormatter.format_message(error).into_owned();
    match error {
        Error::MultipleDocuments { .. } => Diagnostic::new(place, "a second document begins here")
            .help("one file holds one function: give the other one a folder and a `function.yaml` of its own"),
        Error::UnsupportedTag { .. } => {
            Diagnostic::new(place, "a manifest has no YAML tags").help("leave out what begins with `!`")
        }
        // The breach of a bound comes in several variants, some of them wrapped; the text is the same in all.
        _ if message.contains("too large or too complex") => {
            Diagnostic::new(place, "the file is larger, deeper or expands to more than any manifest needs")
                .help("is this the right file? a manifest has no use for thousands of values or for aliases of aliases")
        }
        _ => {
            // The reader complains where the value before a tab begins.
            let line_begin = text[..place.start].rfind('\n').map_or(0, |at| at + 1);
            let lines = text[line_begin..].split_inclusive('\n').take(2);
            let mut tab = lines.scan(line_begin, |at, line| Some((std::mem::replace(at, *at + line.len()), line)));
            let tab = tab.find(|(_, line)| line.trim_start_matches(' ').starts_with('\t'));
            if let Some((at, line)) = tab {
                let at = at + (line.len() - line.trim_start_matches(' ').len());
                return Diagnostic::new(at..at + 1, "this line is indented with a tab")
                    .help("indent it with spaces: YAML knows no tabs");
            }
            let help = "look at the lines before, too: often a quote or a bracket is open, a colon lacks its space, or the indentation is off";
            Diagnostic::new(place, format!("the YAML can't be read: {message}")).help(help)
        }
    }
}

/// The bytes a location stands for, never outside the text. Some errors have a line and a column only.
fn bytes(location: Location, text: &str) -> Range<usize> {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let span = location.span();
    let start = match span.byte_offset() {
        Some(offset) => number(offset).min(text.len()),
        None => {
            let line =
                text.split_inclusive('\n').take(number(location.line()).saturating_sub(1)).map(str::len).sum::<usize>();
            let columns = text[line..].char_indices().take_while(|(_, c)| *c != '\n');
            line + columns.take(number(location.column()).saturating_sub(1)).map(|(_, c)| c.len_utf8()).sum::<usize>()
        }
    };
    let mut end = start.saturating_add(span.byte_len().map_or(0, number)).min(text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// The tree as serde builds it: the places follow outside, in [`Spanned`].
enum Raw {
    Value(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl Raw {
    fn place(self, location: Location) -> Node {
        let value = match self {
            Self::Value(value) => value,
            Self::List(nodes) => Value::List(nodes.into_iter().map(|node| node.value.place(node.referenced)).collect()),
            Self::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, node)| Entry {
                        key: key.value,
                        key_span: span(key.referenced),
                        node: node.value.place(node.referenced),
                    })
                    .collect(),
            ),
        };
        Node { value, span: span(location), expanded: false, bad: false }
    }
}

fn span(location: Location) -> Range<usize> {
    let offset = |at: Option<u64>| at.and_then(|at| usize::try_from(at).ok()).unwrap_or_default();
    let start = offset(location.span().byte_offset());
    start..start + offset(location.span().byte_len())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Value(Value::Null))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
                Ok(Raw::Value(Value::Bool(value)))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
                Ok(Raw::Value(Value::Unsigned(value)))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
                Ok(Raw::Value(u64::try_from(value).map_or(Value::Signed(value), Value::Unsigned)))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
                Ok(Raw::Value(Value::Float(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
                Ok(Raw::Value(Value::Text(value.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = access.next_element()? {
                    nodes.push(node);
                }
                Ok(Raw::List(nodes))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = access.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }

        deserializer.deserialize_any(Any)
    }
}
