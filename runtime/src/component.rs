//! What an upload is: recognised by its bytes and its exports, refused with the reason when it is nothing Dunlin can call.

use crate::{
    code::LinkError,
    engine::{MAX_MEMORY, MEMORIES_PER_COMPONENT, TABLE_ELEMENTS, TABLES_PER_COMPONENT},
};
use bytes::Bytes;
use dunlin_events::{Shape, runtime::CompileError};
use wasmparser::{Encoding, ExternalKind, Parser, Payload, Validator, WasmFeatures};

/// Part of the code cache's name: another adapter makes other code of the same module.
pub(crate) const ADAPTER_VERSION: &str = "wasi-preview1-component-adapter-provider 48";

/// Packages whose interfaces the platform offers, and in which versions: all that begin so where it ends with a dot.
const OFFERED: [(&str, &[&str]); 10] = [
    ("wasi:cli/", &WASI),
    ("wasi:clocks/", &WASI),
    ("wasi:filesystem/", &WASI),
    ("wasi:http/", &WASI),
    ("wasi:io/", &WASI),
    ("wasi:random/", &WASI),
    ("wasi:sockets/", &WASI),
    ("wasi:keyvalue/", &["0.2.0-draft", "0.2.0-draft2"]),
    ("wasi:config/", &["0.2.0-rc.1"]),
    ("dunlin:function/", &["0.1."]),
];
const WASI: [&str; 2] = ["0.2.", "0.3."];
const OFFERED_IN_WORDS: &str = "it offers the interfaces of WASI 0.2 and 0.3 (wasi:cli, wasi:clocks, wasi:filesystem, wasi:http, wasi:io, wasi:random and wasi:sockets), wasi:keyvalue@0.2.0-draft2, wasi:config@0.2.0-rc.1 and its own dunlin:function@0.1.x";

/// An upload that has been looked at.
pub(crate) struct Inspected {
    /// The component: the upload itself, or what was made of a core module.
    pub(crate) bytes: Bytes,
    pub(crate) shape: Shape,
    /// The export it is called through.
    pub(crate) export: String,
    pub(crate) imports: Vec<String>,
}

/// Finds out what an upload is, without compiling it.
pub(crate) fn inspect(upload: &Bytes) -> Result<Inspected, CompileError> {
    if upload.starts_with(b"\x7fELF") {
        return Err(CompileError::Precompiled);
    }
    if !upload.starts_with(b"\0asm") {
        return Err(CompileError::NotWasm { found: describe_start(upload) });
    }
    let bytes = match names(upload)? {
        // Validated by the engine, on all its threads, when it is compiled.
        (Encoding::Component, ..) => upload.clone(),
        (Encoding::Module, _, exports) => {
            validate(upload)?;
            Bytes::from(componentize(upload, &exports)?)
        }
    };
    let (_, imports, exports) = names(&bytes)?;
    let (shape, export) = recognise(&exports)?;
    if let Some(import) = imports.iter().find(|import| !is_offered(import)) {
        return Err(CompileError::Import { import: import.clone(), reason: OFFERED_IN_WORDS.into() });
    }
    Ok(Inspected { bytes, shape, export: export.to_owned(), imports })
}

/// Says where in it a fault is, which the engine doesn't.
pub(crate) fn validate(bytes: &[u8]) -> Result<(), CompileError> {
    Validator::new_with_features(WasmFeatures::all()).validate_all(bytes).map(drop).map_err(invalid)
}

fn is_offered(import: &str) -> bool {
    let (interface, version) = import.split_once('@').unwrap_or((import, ""));
    OFFERED.iter().any(|(package, versions)| {
        let matches = |offered: &&str| version == *offered || offered.ends_with('.') && version.starts_with(offered);
        interface.starts_with(package) && versions.iter().any(matches)
    })
}

fn describe_start(bytes: &[u8]) -> String {
    match bytes {
        [] => "nothing: it is empty".into(),
        [b'(', ..] => "`(`: it looks like WebAssembly text. compile it first, with `wasm-tools parse`".into(),
        [0x1f, 0x8b, ..] => "the mark of gzip. unpack it first".into(),
        [b'P', b'K', ..] => "the mark of a zip archive. unpack it first".into(),
        [b'#', b'!', ..] => "`#!`: it is a script".into(),
        _ => format!("`{}`", bytes[..bytes.len().min(4)].escape_ascii()),
    }
}

fn invalid(error: wasmparser::BinaryReaderError) -> CompileError {
    CompileError::Invalid { offset: error.offset(), reason: error.message().to_owned() }
}

/// What is imported and exported at the top: interfaces and functions of a component, names of a core module.
fn names(bytes: &[u8]) -> Result<(Encoding, Vec<String>, Vec<String>), CompileError> {
    let (mut imports, mut exports, mut depth, mut kind) = (Vec::new(), Vec::new(), 0_usize, Encoding::Module);
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(invalid)? {
            Payload::Version { encoding, .. } if depth == 0 => {
                kind = encoding;
                depth = 1;
            }
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export.map_err(invalid)?.name.name.to_owned());
                }
            }
            Payload::ExportSection(section) if depth == 1 && kind == Encoding::Module => {
                for export in section {
                    let export = export.map_err(invalid)?;
                    if export.kind == ExternalKind::Func {
                        exports.push(export.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    Ok((kind, imports, exports))
}

/// What a component is called through. Where it exports several of these, the first counts. The typed one comes first
/// since the manifest can tell then what is amiss: an HTTP trigger is refused, and nobody wonders why `handle` isn't called.
const SHAPES: [(Shape, &str, &str); 4] = [
    (Shape::Handler, "dunlin:function/handler", "0.1."),
    (Shape::Http03, "wasi:http/handler", "0.3."),
    (Shape::Http02, "wasi:http/incoming-handler", "0.2."),
    (Shape::Command, "wasi:cli/run", "0.2."),
];

fn recognise(exports: &[String]) -> Result<(Shape, &str), CompileError> {
    let find = |interface: &str, version: &str| {
        exports.iter().find(|export| {
            export.split_once('@').is_some_and(|(export, found)| export == interface && found.starts_with(version))
        })
    };
    SHAPES
        .iter()
        .find_map(|(shape, interface, version)| Some((*shape, find(interface, version)?.as_str())))
        .ok_or_else(|| CompileError::OtherWorld { exports: list(exports) })
}

/// Makes a component of a WASI preview 1 command.
fn componentize(module: &[u8], exports: &[String]) -> Result<Vec<u8>, CompileError> {
    if !exports.iter().any(|export| export == "_start") {
        return Err(CompileError::NoStart { exports: list(exports) });
    }
    let adapter = wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER;
    let encode = || {
        wit_component::ComponentEncoder::default()
            .validate(false)
            .module(module)?
            .adapter(wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter)?
            .encode()
    };
    encode().map_err(|error| {
        let import = foreign_import(module).unwrap_or_else(|| "what it needs".into());
        CompileError::Import { import, reason: format!("it is no plain WASI preview 1 module ({error:#})") }
    })
}

/// The first import of a core module that is not WASI preview 1.
fn foreign_import(module: &[u8]) -> Option<String> {
    for payload in Parser::new(0).parse_all(module) {
        if let Ok(Payload::ImportSection(section)) = payload {
            for import in section.into_imports().flatten() {
                if import.module != "wasi_snapshot_preview1" {
                    return Some(format!("{}.{}", import.module, import.name));
                }
            }
        }
    }
    None
}

fn list(names: &[String]) -> String {
    const MOST: usize = 8;
    let quoted: Vec<_> = names.iter().take(MOST).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "nothing".into(),
        n if n > MOST => format!("{} and {} more", quoted.join(", "), n - MOST),
        _ => quoted.join(", "),
    }
}

/// A page of WebAssembly memory, the unit of its sizes.
const PAGE: u64 = 64 << 10;

/// Whether the pool has room for what a component starts with, and how much memory that is.
pub(crate) fn initial_memory(component: &wasmtime::component::Component) -> Result<u64, CompileError> {
    let demanding = |what: String, most: String| Err(CompileError::TooDemanding { what, most });
    // `None` for a component that imports other components, which doesn't link anyway.
    let Some(needs) = component.resources_required() else { return Ok(0) };
    if needs.num_memories > MEMORIES_PER_COMPONENT {
        return demanding(format!("{} memories", needs.num_memories), MEMORIES_PER_COMPONENT.to_string());
    }
    if needs.num_tables > TABLES_PER_COMPONENT {
        return demanding(format!("{} tables", needs.num_tables), TABLES_PER_COMPONENT.to_string());
    }
    let elements = needs.max_initial_table_size.unwrap_or(0);
    if elements > TABLE_ELEMENTS as u64 {
        return demanding(format!("a table of {elements} elements"), TABLE_ELEMENTS.to_string());
    }
    let bytes = needs.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE);
    if bytes > MAX_MEMORY {
        return demanding(format!("a memory of {bytes} bytes"), format!("{MAX_MEMORY} bytes"));
    }
    Ok(bytes)
}

/// Explains why the engine doesn't take what it compiled: the pool has no place that large. The engine checks that when it
/// loads the code, and says it in words only, such as `table index 0 has a minimum element size of 200000 which exceeds
/// the limit of 100000`.
pub(crate) fn too_demanding(error: &wasmtime::Error) -> Option<CompileError> {
    let text = error.root_cause().to_string();
    let (what, rest) = text.split_once(" exceeds the ")?;
    let (_, most) = rest.split_once("limit of ")?;
    let what = what.trim_end_matches(" which");
    Some(CompileError::TooDemanding { what: format!("more than a sandbox has ({what})"), most: most.to_owned() })
}

/// Explains why a component that validates does not link.
pub(crate) fn link_error(error: &LinkError, inspected: &Inspected) -> CompileError {
    match error {
        LinkError::Import(error) => {
            let reason = format!("{error:#}");
            // The longest, since `…/types@0.2.0` may be said in explaining `…/types@0.2.0-draft2`.
            let named = inspected.imports.iter().filter(|import| reason.contains(import.as_str()));
            let import = named.max_by_key(|import| import.len()).map_or("something", String::as_str);
            CompileError::Import { import: import.to_owned(), reason }
        }
        LinkError::Export(error) => {
            CompileError::Export { export: inspected.export.clone(), reason: format!("{error:#}") }
        }
    }
}
