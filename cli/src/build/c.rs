//! C, by `zig cc`, which has a C library for WASI in it: a program that reads stdin and writes stdout, as a WASI preview 1
//! module. The platform makes a component of it when it is deployed.

use super::{Project, tools};

const ZIG: &str = "ziglang==0.17.0";
const STACK: &str = "-Wl,-z,stack-size=1048576";

pub(super) async fn build(project: &Project) -> anyhow::Result<()> {
    let python = tools::from_python_index(project, "zig-0.17.0", &[ZIG]).await?;
    let cache = project.tool("zig-cache");
    let module = project.built("c", "module.wasm")?;
    let mut compile = tools::command(python);
    compile
        // Zig's own stack of 16 MiB would be most of what a small function takes.
        .args(["-m", "ziglang", "cc", STACK, "-target", "wasm32-wasi", "-std=c17", "-Wall", "-Oz", "-s", "-o"])
        .arg(&module)
        // Relative, so that no path of this machine is in the module.
        .arg(project.source.strip_prefix(&project.folder).unwrap_or(&project.source))
        .current_dir(&project.folder)
        .env("ZIG_GLOBAL_CACHE_DIR", &cache)
        .env("ZIG_LOCAL_CACHE_DIR", &cache);
    tools::run(&mut compile, "`zig cc`").await?;
    project.finish(&module)
}
