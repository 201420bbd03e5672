//! Makes a component of a core module that a language's own compiler made for WASI preview 1 as a library ("reactor").
//!
//! Such a module says by its exports what it is, as the host's check of a component does; what is missing is the types of
//! what crosses its border, and preview 1 in terms of preview 2. Both are added here, in memory. Commands, which export
//! `_start`, need neither: the platform adapts them at deploy.

use anyhow::{Context, bail};
use std::path::Path;
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// What a module's exports begin with, and the world in `sdk/wit` it is made for. Of Go's modules those that answer requests
/// have the other export too: it lies in the package every function imports. It is left out of the component.
const WORLDS: [(&str, &str); 2] = [("wasi:http/incoming-handler@", "http"), ("dunlin:function/handler@", "events")];

/// Makes a component of a module. `wit` is the folder `sdk/wit`. A command is answered with as it is.
pub(crate) fn componentize(module: &[u8], wit: &Path) -> anyhow::Result<Vec<u8>> {
    let Some(world) = world_of(module)? else {
        return Ok(module.to_vec());
    };
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(wit).context("the SDK's interfaces can't be read")?;
    let world = resolve.select_world(&[package], Some(world))?;
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    // What of the world the module doesn't import the component doesn't either.
    reactor(&module)?.encode()
}

/// An encoder for a module that is a library of WASI preview 1 and says what it is.
pub(super) fn reactor(module: &[u8]) -> anyhow::Result<ComponentEncoder> {
    // The platform checks it at deploy.
    ComponentEncoder::default().validate(false).module(module)?.adapter(
        wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
        wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    )
}

/// The world of a module that is a library; nothing for a command.
fn world_of(module: &[u8]) -> anyhow::Result<Option<&'static str>> {
    let mut exports = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload.context("this is no WebAssembly module")? {
            Payload::ExportSection(section) => {
                for export in section {
                    exports.push(export?.name);
                }
            }
            // Code and data are of no interest, and the most of it.
            Payload::CodeSectionStart { .. } => break,
            _ => {}
        }
    }
    let found = WORLDS.into_iter().find(|(prefix, _)| exports.iter().any(|export| export.starts_with(prefix)));
    match found {
        Some((_, world)) => Ok(Some(world)),
        None if exports.contains(&"_start") => Ok(None),
        None => bail!(
            "it exports neither `dunlin:function/handler`, nor `wasi:http/incoming-handler`, nor `_start`: it would never be \
             called"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with these functions as its exports, and one page of memory.
    fn module(exports: &[&str]) -> Vec<u8> {
        let mut section = vec![exports.len() as u8];
        for name in exports {
            section.push(name.len() as u8);
            section.extend(name.as_bytes());
            section.extend([0, 0]);
        }
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        for (id, section) in [(1, vec![1, 0x60, 0, 0]), (3, vec![1, 0]), (7, section), (10, vec![1, 2, 0, 0x0b])] {
            module.push(id);
            module.push(section.len() as u8);
            module.extend(section);
        }
        module
    }

    #[test]
    fn a_module_says_by_its_exports_what_it_is() {
        let world = |exports: &[&str]| world_of(&module(exports));
        assert_eq!(world(&["_initialize", "dunlin:function/handler@0.1.0#handle"]).unwrap(), Some("events"));
        let both = ["dunlin:function/handler@0.1.0#handle", "wasi:http/incoming-handler@0.2.12#handle"];
        assert_eq!(world(&both).unwrap(), Some("http"));
        assert_eq!(world(&["_start"]).unwrap(), None);
        assert!(world(&["run"]).unwrap_err().to_string().contains("it would never be called"));
        assert!(world_of(b"\0asm").unwrap_err().to_string().contains("no WebAssembly module"));
    }

    #[test]
    fn a_command_is_left_alone() {
        let command = module(&["_start"]);
        assert_eq!(componentize(&command, Path::new("nowhere")).unwrap(), command);
    }
}
