//! What is documented is what there is: the reference of the WIT is made of the WIT, and every key of the manifest stands
//! on the page it belongs to.

use crate::harness::{dunlin, repository};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt::Write as _,
    fs,
    process::Command,
};
use wit_parser::{
    Docs, Function, FunctionKind, Handle, InterfaceId, PackageId, Resolve, Type, TypeDef, TypeDefKind, TypeId, WorldId,
    WorldItem,
};

/// Makes the pages anew instead of comparing them.
const WRITE: &str = "DUNLIN_WRITE_REFERENCE";

const HEAD: &str = "# The WIT, item by item

<!-- Made of sdk/wit by tests/platform/reference.rs. To change it, change the WIT, and run
     DUNLIN_WRITE_REFERENCE=1 cargo test --release -p dunlin --test platform reference -->

What a function and the platform say to each other. [sdk/wit](../sdk/wit) has the files, and says how a language without an SDK uses
them; `wasi:http` and the other interfaces of WASI are as they are [elsewhere](https://wasi.dev).
";

#[test]
fn the_reference_of_the_wit_is_made_of_the_wit() {
    let mut resolve = Resolve::default();
    let (own, _) = resolve.push_dir(repository().join("sdk/wit")).unwrap();
    let others = resolve
        .packages
        .iter()
        .find(|(_, package)| package.name.namespace == "wasi" && package.name.name == "keyvalue");
    let mut page = Page { resolve: &resolve, text: HEAD.to_owned(), undescribed: Vec::new() };
    page.package(own);
    page.package(others.expect("state has an interface").0);
    assert!(page.undescribed.is_empty(), "sdk/wit has no `///` for {:#?}", page.undescribed);

    let path = repository().join("docs/wit.md");
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &page.text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(page.text.lines()).take_while(|(is, should)| is == should).count();
    assert!(
        written == page.text,
        "docs/wit.md isn't what sdk/wit says (line {}): run `{WRITE}=1 cargo test --release -p dunlin --test platform reference`",
        differs + 1,
    );
}

/// A page in the making.
struct Page<'a> {
    resolve: &'a Resolve,
    text: String,
    /// What the WIT says nothing about.
    undescribed: Vec<String>,
}

impl Page<'_> {
    fn package(&mut self, id: PackageId) {
        let package = &self.resolve.packages[id];
        let name = package.name.to_string();
        let docs = self.paragraphs(&name, &package.docs);
        self.say(format_args!("\n## {name}\n\n{docs}\n"));
        for id in package.interfaces.values() {
            self.interface(*id);
        }
        for id in package.worlds.values() {
            self.world(*id);
        }
    }

    fn interface(&mut self, id: InterfaceId) {
        let interface = &self.resolve.interfaces[id];
        let name = interface.name.clone().expect("it belongs to a package");
        let docs = self.paragraphs(&name, &interface.docs);
        self.say(format_args!("\n### interface `{name}`\n\n{docs}\n"));
        let functions = interface.functions.values();
        for id in interface.types.values() {
            self.definition(&name, *id);
        }
        for function in functions.filter(|function| matches!(function.kind, FunctionKind::Freestanding)) {
            let docs = self.paragraphs(&format!("{name}.{}", function.name), &function.docs);
            let signature = self.signature(function);
            self.say(format_args!("\n#### func `{}`\n\n```wit\n{signature}\n```\n\n{docs}\n", function.name));
        }
    }

    fn definition(&mut self, interface: &str, id: TypeId) {
        let definition = &self.resolve.types[id];
        let name = definition.name.as_deref().expect("it belongs to an interface");
        let place = format!("{interface}.{name}");
        // What another interface says and this one only uses.
        if matches!(definition.kind, TypeDefKind::Type(Type::Id(_))) {
            return;
        }
        let docs = self.paragraphs(&place, &definition.docs);
        self.say(format_args!("\n#### {} `{name}`\n\n{docs}\n\n", definition.kind.as_str()));
        match &definition.kind {
            TypeDefKind::Record(record) => {
                self.text.push_str("| field | type | |\n| --- | --- | --- |\n");
                for field in &record.fields {
                    let docs = self.line(&format!("{place}.{}", field.name), &field.docs);
                    self.say(format_args!("| `{}` | `{}` | {docs} |\n", field.name, self.name(&field.ty)));
                }
            }
            TypeDefKind::Variant(variant) => {
                self.text.push_str("| case | of | |\n| --- | --- | --- |\n");
                for case in &variant.cases {
                    let docs = self.line(&format!("{place}.{}", case.name), &case.docs);
                    let of = case.ty.as_ref().map_or_else(String::new, |ty| format!("`{}`", self.name(ty)));
                    self.say(format_args!("| `{}` | {of} | {docs} |\n", case.name));
                }
            }
            TypeDefKind::Enum(cases) => {
                self.text.push_str("| case | |\n| --- | --- |\n");
                for case in &cases.cases {
                    let docs = self.line(&format!("{place}.{}", case.name), &case.docs);
                    self.say(format_args!("| `{}` | {docs} |\n", case.name));
                }
            }
            TypeDefKind::Resource => {
                self.text.push_str("| | |\n| --- | --- |\n");
                let functions = self.resolve.interfaces.iter().flat_map(|(_, interface)| interface.functions.values());
                for function in functions.filter(|function| function.kind.resource() == Some(id)) {
                    let docs = self.line(&format!("{place}.{}", function.item_name()), &function.docs);
                    self.say(format_args!("| `{}` | {docs} |\n", self.signature(function)));
                }
            }
            other => {
                panic!("{place} is a {}: tests/platform/reference.rs has to learn how to show one", other.as_str())
            }
        }
    }

    /// What a world imports and exports in itself. What these use of others in turn is left out.
    fn world(&mut self, id: WorldId) {
        let world = &self.resolve.worlds[id];
        let docs = self.paragraphs(&world.name, &world.docs);
        self.say(format_args!("\n### world `{}`\n\n{docs}\n\n| | | |\n| --- | --- | --- |\n", world.name));
        let used: HashSet<InterfaceId> =
            world.imports.values().chain(world.exports.values()).flat_map(|item| self.used(item)).collect();
        for (word, items) in [("import", &world.imports), ("export", &world.exports)] {
            for (key, item) in items {
                let WorldItem::Interface { id, docs, .. } = item else { panic!("a world of ours has interfaces only") };
                if docs.is_empty() && used.contains(id) {
                    continue;
                }
                let name = self.resolve.name_world_key(key);
                let docs = self.line(&format!("{}, {word} {name}", world.name), docs);
                self.say(format_args!("| {word} | `{name}` | {docs} |\n"));
            }
        }
    }

    fn used(&self, item: &WorldItem) -> Vec<InterfaceId> {
        match item {
            WorldItem::Interface { id, .. } => self.resolve.interface_direct_deps(*id).collect(),
            _ => Vec::new(),
        }
    }

    fn signature(&self, function: &Function) -> String {
        let receiver = usize::from(matches!(function.kind, FunctionKind::Method(_)));
        let parameters: Vec<_> = function.params[receiver..]
            .iter()
            .map(|parameter| format!("{}: {}", parameter.name, self.name(&parameter.ty)))
            .collect();
        let word = if matches!(function.kind, FunctionKind::Static(_)) { "static func" } else { "func" };
        let result = function.result.as_ref().map_or_else(String::new, |ty| format!(" -> {}", self.name(ty)));
        format!("{}: {word}({}){result}", function.item_name(), parameters.join(", "))
    }

    /// A type as WIT writes it.
    fn name(&self, ty: &Type) -> String {
        let Type::Id(id) = ty else {
            return match ty {
                Type::Bool => "bool",
                Type::S32 => "s32",
                Type::U32 => "u32",
                Type::S64 => "s64",
                Type::U64 => "u64",
                Type::U8 => "u8",
                Type::String => "string",
                other => panic!("tests/platform/reference.rs has to learn what {other:?} is called"),
            }
            .to_owned();
        };
        let TypeDef { name, kind, .. } = &self.resolve.types[*id];
        if let Some(name) = name {
            return name.clone();
        }
        let either = |ty: &Option<Type>| ty.as_ref().map(|ty| self.name(ty));
        match kind {
            TypeDefKind::List(ty) => format!("list<{}>", self.name(ty)),
            TypeDefKind::Option(ty) => format!("option<{}>", self.name(ty)),
            TypeDefKind::Tuple(tuple) => {
                format!("tuple<{}>", tuple.types.iter().map(|ty| self.name(ty)).collect::<Vec<_>>().join(", "))
            }
            TypeDefKind::Result(result) => match (either(&result.ok), either(&result.err)) {
                (None, None) => "result".to_owned(),
                (Some(ok), None) => format!("result<{ok}>"),
                (ok, Some(err)) => format!("result<{}, {err}>", ok.as_deref().unwrap_or("_")),
            },
            TypeDefKind::Handle(Handle::Own(id)) => self.name(&Type::Id(*id)),
            TypeDefKind::Handle(Handle::Borrow(id)) => format!("borrow<{}>", self.name(&Type::Id(*id))),
            other => panic!("tests/platform/reference.rs has to learn what a {} is called", other.as_str()),
        }
    }

    /// A description with its paragraphs, each in one line: where lines end in the WIT means nothing.
    fn paragraphs(&mut self, place: &str, docs: &Docs) -> String {
        let text = docs.contents.as_deref().unwrap_or_default();
        if text.trim().is_empty() {
            self.undescribed.push(place.to_owned());
        }
        let paragraphs = text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
        paragraphs.collect::<Vec<_>>().join("\n\n")
    }

    /// A description in a cell of a table.
    fn line(&mut self, place: &str, docs: &Docs) -> String {
        self.paragraphs(place, docs).replace("\n\n", " ").replace('|', "\\|")
    }

    fn say(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a string takes what is written to it");
    }
}

/// Where the keys of a manifest are described: by the path of what they are in, and the heading they stand below.
const PAGES: [(&str, &str, Option<&str>); 9] = [
    ("", "docs/manifest.md", Some("# The manifest")),
    ("build", "docs/manifest.md", Some("## build")),
    ("allow", "docs/manifest.md", Some("## allow")),
    ("limits", "docs/manifest.md", Some("## limits")),
    ("reuse", "docs/manifest.md", Some("## reuse")),
    ("retry", "docs/triggers/topic.md", None),
    ("triggers", "docs/triggers/README.md", None),
    ("triggers/http", "docs/http.md", None),
    // Each other trigger has a page of its name.
    ("triggers/*", "docs/triggers/*.md", None),
];

#[test]
fn every_key_of_the_manifest_is_described_and_no_other() {
    let output = Command::new(dunlin()).arg("schema").output().unwrap();
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut keys = Keys { schema: &schema, found: BTreeSet::new(), values: BTreeSet::new() };
    keys.walk(&schema, "");
    for known in
        ["name", "triggers/topic/batch/size", "limits/request_body", "build/python", "triggers/database/tables/where"]
    {
        assert!(keys.found.contains(known), "`{known}` is a key: {:#?}", keys.found);
    }
    let mut missing = Vec::new();
    for key in &keys.found {
        let (within, name) = apart(key);
        let (page, text) = page(within);
        // In a table or a sentence, or in an example of a manifest.
        if !text.contains(&format!("`{name}`")) && !text.contains(&format!("{name}:")) {
            missing.push(format!("the key `{key}`: say in {page} what it is"));
        }
    }
    for value in &keys.values {
        let (key, word) = apart(value);
        let (page, text) = page(key);
        let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_');
        if !words.any(|other| other == word) {
            missing.push(format!("`{key}: {word}`: say in {page} what it is"));
        }
    }
    assert!(missing.is_empty(), "the manifest has what its pages don't: {missing:#?}");

    // All keys of a page together: one table has keys within keys.
    let mut pages: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
    for (within, name) in keys.found.iter().map(|key| apart(key)) {
        pages.entry(page(within)).or_default().insert(name);
    }
    let unknown: Vec<_> = pages
        .iter()
        .flat_map(|((page, text), known)| in_tables(text).into_iter().map(move |name| (page, known, name)))
        .filter(|(_, known, name)| !known.contains(name.as_str()))
        .map(|(page, _, name)| format!("`{name}` in {page}"))
        .collect();
    assert!(unknown.is_empty(), "pages describe keys no manifest has: {unknown:#?}");
}

/// A path without its last part, and that part.
fn apart(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// The page, and its text as far as it is about the keys within `path`.
fn page(path: &str) -> (String, String) {
    let parts: Vec<_> = path.split('/').collect();
    let begins = |within: &str| {
        let within: Vec<_> = within.split('/').filter(|part| !part.is_empty()).collect();
        let same = within.iter().zip(&parts).all(|(one, other)| one == other || *one == "*");
        (same && within.len() <= parts.len()).then_some(within.len())
    };
    // The one that says most of the path; of two that say the same, the first.
    let (_, page, heading) = PAGES.iter().rev().max_by_key(|(within, ..)| begins(within)).expect("there are pages");
    let page = page.replace('*', parts.get(1).unwrap_or(&""));
    let text = fs::read_to_string(repository().join(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
    let text = match heading {
        None => text,
        Some(heading) => {
            let begin = text.find(heading).unwrap_or_else(|| panic!("{page} has no `{heading}`"));
            let section = &text[begin..];
            section[..section[2..].find("\n## ").map_or(section.len(), |end| end + 2)].to_owned()
        }
    };
    (page, text)
}

/// What stands in the first column of the tables of keys.
fn in_tables(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut in_table = false;
    for line in text.lines() {
        in_table = line.starts_with("| key |") || in_table && line.starts_with('|');
        if in_table && let Some(cell) = line.split('|').nth(1) {
            names.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

/// The keys a schema knows and the words it allows as values, by their paths.
struct Keys<'a> {
    schema: &'a Value,
    found: BTreeSet<String>,
    values: BTreeSet<String>,
}

impl Keys<'_> {
    fn walk(&mut self, schema: &Value, path: &str) {
        if let Some(reference) = schema["$ref"].as_str() {
            let definition = self.schema.pointer(reference.trim_start_matches('#')).expect("it is defined");
            self.walk(&definition.clone(), path);
        }
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}/{key}") };
            self.walk(below, &path);
            self.found.insert(path);
        }
        for word in ["anyOf", "oneOf", "allOf"] {
            for below in schema[word].as_array().into_iter().flatten() {
                self.walk(below, path);
            }
        }
        if schema["items"].is_object() {
            self.walk(&schema["items"], path);
        }
        for value in schema["enum"].as_array().into_iter().flatten().chain([&schema["const"]]).filter_map(Value::as_str)
        {
            self.values.insert(format!("{path}/{value}"));
        }
    }
}
