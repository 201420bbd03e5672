//! `wasmtime serve` knows the interfaces of WASI and no others, while an SDK imports Dunlin's too. Here they are put into the
//! component, as traps: a request that needs none of them is answered by the same code on both sides.

use anyhow::{Context, Result, bail};
use wac_graph::{CompositionGraph, EncodeOptions, plug, types::Package};
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, decode, dummy_module, embed_component_metadata};
use wit_parser::{LiftLowerAbi, ManglingAndAbi, WorldItem};

/// What `wasmtime serve -Scli` has.
const KNOWN: [&str; 7] =
    ["wasi:cli/", "wasi:clocks/", "wasi:filesystem/", "wasi:http/", "wasi:io/", "wasi:random/", "wasi:sockets/"];

/// The component, importing what `wasmtime serve` knows alone.
pub fn without_platform(component: Vec<u8>) -> Result<Vec<u8>> {
    let DecodedWasm::Component(mut resolve, world) = decode(&component)? else { bail!("this is no component") };
    let imports = resolve.worlds[world].imports.values().filter_map(|item| match item {
        WorldItem::Interface { id, .. } => resolve.id_of(*id),
        _ => None,
    });
    let exports: String = imports
        .filter(|name| !KNOWN.iter().any(|known| name.starts_with(known)))
        .map(|name| format!("export {name};"))
        .collect();
    if exports.is_empty() {
        return Ok(component);
    }
    let package = resolve.push_str("stub.wit", &format!("package bench:stub; world stub {{ {exports} }}"))?;
    let world = resolve.select_world(&[package], Some("stub"))?;
    let mut stub = dummy_module(&resolve, world, ManglingAndAbi::Legacy(LiftLowerAbi::Sync));
    embed_component_metadata(&mut stub, &resolve, world, StringEncoding::UTF8)?;
    let stub = ComponentEncoder::default().module(&stub)?.encode().context("no component can be made of traps")?;

    let mut graph = CompositionGraph::new();
    let stub = Package::from_bytes("bench:stub", None, stub, graph.types_mut())?;
    let stub = graph.register_package(stub)?;
    let function = Package::from_bytes("bench:function", None, component, graph.types_mut())?;
    let function = graph.register_package(function)?;
    plug(&mut graph, vec![stub], function)?;
    Ok(graph.encode(EncodeOptions::default())?)
}
