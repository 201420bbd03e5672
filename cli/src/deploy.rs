//! `dunlin deploy`: checks manifests and components here, uploads what the platform lacks, and deploys all or nothing.

use crate::{
    build,
    client::{CallError, Client, ServerArgs, segment},
    functions::triggered_by,
    manifest::{self, FileProblems, ManifestFile, Refused, process_environment},
    output::{BOLD, PLAIN, count, print, print_json, size, spin, spinner, table, tell, upload_bar},
};
use bytes::Bytes;
use clap::Args;
use dunlin_events::{Component, Digest, manifest::Problem};
use dunlin_gateway::api::{DeployRequest, DeployResponse, Health, NewFunction, ProblemDocument};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use indicatif::ProgressBar;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

/// Deploy functions: every function.yaml in and below a folder, all of them or none.
///
/// Components that the platform has already are not uploaded again. What is deployed unchanged keeps its version.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// A function.yaml or a folder; several of them are deployed together.
    #[arg(value_name = "PATH", default_value = ".")]
    paths: Vec<PathBuf>,
    /// Run the manifests' `build` commands first.
    #[arg(long)]
    build: bool,
    /// Check everything, also on the platform, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: DeployArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let files = manifest::read_all(&args.paths, &process_environment)?;
    if args.build {
        build::build_all(&files).await?;
    }
    let response = deploy(&client, &files, args.dry_run).await?;
    if args.json { print_json(&response) } else { Ok(print(deployed_table(&response))?) }
}

/// Deploys manifests that were read.
pub(crate) async fn deploy(client: &Client, files: &[ManifestFile], dry_run: bool) -> anyhow::Result<DeployResponse> {
    check_sizes(client, files).await?;
    let components = read_components(files)?;
    upload(client, files, &components).await?;
    let functions = files
        .iter()
        .zip(&components)
        .map(|(file, component)| NewFunction { manifest: file.manifest.clone(), component: component.digest })
        .collect();
    let spinner = spinner(format!("deploying {}", count(files.len() as u64, "function")));
    let answer = client.post("/api/deployments", &DeployRequest { functions, dry_run }).await;
    spinner.finish_and_clear();
    answer.map_err(|error| match error {
        CallError::Problem(problem) if problem.errors.iter().any(|error| error.index < files.len()) => {
            refused(files, *problem).into()
        }
        other => other.into(),
    })
}

/// One component's file.
#[derive(Clone)]
struct ComponentFile {
    digest: Digest,
    bytes: Bytes,
}

/// Refuses what the platform wouldn't take before it is read: a file far too large would fill this machine's memory.
async fn check_sizes(client: &Client, files: &[ManifestFile]) -> anyhow::Result<()> {
    let len = |file: &ManifestFile| std::fs::metadata(file.component()).map_or(0, |metadata| metadata.len());
    if files.iter().all(|file| len(file) == 0) {
        return Ok(()); // that they can't be read is told when they are
    }
    let most = client.get::<Health>("/health").await?.max_component;
    let too_large = files.iter().filter(|file| len(file) > most).map(|file| {
        let (path, len, most) = (file.component(), size(len(file)), size(most));
        let message = format!("`{}` has {len}, more than the platform takes ({most})", path.display());
        let help = "is this the right file? build without debug information, or start the platform with a larger `--max-component`";
        file.problems(&[Problem::new("/component", message).help(help)])
    });
    let problems: Vec<_> = too_large.collect();
    if problems.is_empty() { Ok(()) } else { Err(Refused(problems).into()) }
}

/// Each file once, however many functions are made of it.
fn read_components(files: &[ManifestFile]) -> anyhow::Result<Vec<ComponentFile>> {
    let (mut components, mut problems) = (Vec::new(), Vec::new());
    let mut known = HashMap::<PathBuf, ComponentFile>::new();
    for file in files {
        let path = file.component();
        let place = path.canonicalize().unwrap_or_else(|_| path.clone());
        if let Some(component) = known.get(&place) {
            components.push(component.clone());
            continue;
        }
        match std::fs::read(&path) {
            Ok(bytes) => {
                let component = ComponentFile { digest: Digest::of(&bytes), bytes: bytes.into() };
                known.insert(place, component.clone());
                components.push(component);
            }
            Err(error) => problems.push(file.problems(&[unreadable(file, &error)])),
        }
    }
    if problems.is_empty() { Ok(components) } else { Err(Refused(problems).into()) }
}

fn unreadable(file: &ManifestFile, error: &io::Error) -> Problem {
    let path = file.component();
    let path = path.display();
    match (error.kind(), &file.manifest.build) {
        (io::ErrorKind::NotFound, Some(command)) => Problem::new("/component", format!("there is no file `{path}`"))
            .help(format!("run `dunlin build {}`, which runs `{command}`", file.path.display())),
        (io::ErrorKind::NotFound, None) => Problem::new("/component", format!("there is no file `{path}`"))
            .help("compile the function, or correct the path, which is relative to this manifest's folder"),
        (io::ErrorKind::IsADirectory, _) => {
            Problem::new("/component", format!("`{path}` is a folder")).help("name the compiled file, `....wasm`")
        }
        _ => Problem::new("/component", format!("`{path}` can't be read: {error}")),
    }
}

/// Uploads each component the platform doesn't have. What it refuses is told at the `component` line of each manifest that
/// names it, all together.
async fn upload(client: &Client, files: &[ManifestFile], components: &[ComponentFile]) -> anyhow::Result<()> {
    let mut users = BTreeMap::<Digest, Vec<usize>>::new();
    for (index, component) in components.iter().enumerate() {
        users.entry(component.digest).or_default().push(index);
    }
    let mut problems = Vec::new();
    for (digest, users) in users {
        let path = format!("/api/components/{}", segment(&digest.to_string()));
        match client.get::<Component>(&path).await {
            Ok(_) => continue,
            Err(CallError::Problem(problem)) if problem.status == 404 => {}
            Err(error) => return Err(error.into()),
        }
        let first = users[0];
        let name = files[first].manifest.name.as_str();
        let bytes = components[first].bytes.clone();
        let bar = upload_bar(name, bytes.len() as u64);
        if bar.is_hidden() {
            tell(format_args!("{BOLD}uploading{PLAIN} the component of `{name}`, {}", size(bytes.len() as u64)));
        }
        let answer = client.put::<Component>(&path, Upload { rest: bytes, bar: bar.clone() }.boxed_unsync()).await;
        bar.finish_and_clear();
        match answer {
            Ok(_) => {}
            Err(CallError::Problem(problem)) if matches!(problem.status, 413 | 422) => {
                let problem = Problem::new("/component", problem.detail.unwrap_or(problem.title));
                problems.extend(users.iter().map(|user| files[*user].problems(std::slice::from_ref(&problem))));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Refused(problems).into()) }
}

/// What the platform said about a deploy, each at its place in the file it is about.
fn refused(files: &[ManifestFile], problem: ProblemDocument) -> Refused {
    let mut by_file = BTreeMap::<usize, Vec<Problem>>::new();
    for error in problem.errors {
        by_file.entry(error.index).or_default().push(error.problem);
    }
    let found = by_file.iter().filter_map(|(index, problems)| Some(files.get(*index)?.problems(problems)));
    Refused(found.collect::<Vec<FileProblems>>())
}

pub(crate) fn deployed_table(response: &DeployResponse) -> String {
    let rows = response.functions.iter().map(|function| {
        let what = match (response.dry_run, function.unchanged) {
            (_, true) => "unchanged",
            (true, false) => "would be deployed",
            (false, false) => "deployed",
        };
        let version = function.version.map_or_else(|| "-".into(), |version| version.to_string());
        [function.name.to_string(), version, what.to_owned(), triggered_by(&function.triggers)]
    });
    table(["NAME", "VERSION", "", "TRIGGERS"], rows)
}

/// A component on its way to the platform, and the bar that shows how far it is.
struct Upload {
    rest: Bytes,
    bar: ProgressBar,
}

/// Small enough for a bar that moves, large enough to cost nothing.
const CHUNK: usize = 256 << 10;

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.rest.len().min(CHUNK);
        let chunk = self.rest.split_to(len);
        self.bar.inc(len as u64);
        if self.rest.is_empty() {
            // What the platform does from here on has no length that is known.
            spin(&self.bar, "compiling");
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
