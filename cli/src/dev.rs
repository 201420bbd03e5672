//! `dunlin dev`: builds and deploys a folder's functions, again after every change, with logs and errors in one place.
//!
//! What the file system tells is taken as a hint: the folder is scanned and compared, because hints come twice, late or for
//! files that stayed the same.

use crate::{
    build,
    client::{Client, ServerArgs},
    deploy, interruptible,
    logs::{self, Lines},
    manifest::{self, is_skipped, process_environment},
    output::{BOLD, DIM, PLAIN, print, tell},
    report::{Failure, report},
    up::{Platform, UpArgs, log_if_asked},
};
use anyhow::Context as _;
use clap::Args;
use dunlin_runtime::Compiler;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::Notify, time::timeout};

/// How often files are looked at though nobody tells of a change.
const LOOK: Duration = Duration::from_secs(2);
/// An editor or a version control system writes many files at once: wait until it is quiet ...
const QUIET: Duration = Duration::from_millis(100);

/// ... but not forever, should something write all the time.
const PATIENCE: Duration = Duration::from_secs(2);
/// A file that so many builds in a row have written is made by them.
const SURE: u8 = 3;

/// Build, deploy and watch: after every change again, with logs and errors in one place.
///
/// Without --server it runs a platform of its own, with its data in --data.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// A folder with functions.
    #[arg(value_name = "DIR", default_value = ".")]
    path: PathBuf,
    /// The folder the platform's data goes to [default: .dunlin]
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data: Option<PathBuf>,
    /// Where functions answer [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", conflicts_with = "server")]
    listen: Option<SocketAddr>,
    /// Where the admin API answers [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR", conflicts_with = "server")]
    admin: Option<SocketAddr>,
    /// A folder with a file per secret.
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    secrets: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: DevArgs) -> anyhow::Result<ExitCode> {
    let mut server = args.server;
    if server.server.as_deref().is_some_and(|server| !server.is_empty()) {
        let client = Client::new(&server)?;
        return interruptible(watch(&args.path, &client)).await;
    }
    let mut options = UpArgs::defaults()?;
    options.data = args.data.unwrap_or(options.data);
    options.listen = args.listen.unwrap_or(options.listen);
    options.admin = args.admin.unwrap_or(options.admin);
    options.secrets = args.secrets.or(options.secrets);
    options.compiler = Some(Compiler::Baseline);
    options.token.clone_from(&server.token);
    log_if_asked(&options)?;
    let platform = Platform::start(options).await?;
    server.server = Some(platform.admin_url());
    tell(format_args!("functions answer at {BOLD}{}{PLAIN}", platform.functions_url()));
    let client = Client::new(&server)?;
    let ended = interruptible(watch(&args.path, &client)).await;
    platform.stop().await;
    ended
}

/// Builds and deploys whenever something changes. Ends only when the folder can't be watched.
async fn watch(path: &Path, client: &Client) -> anyhow::Result<ExitCode> {
    let mut watch = Watch::new(path)?;
    let logs = tokio::spawn(follow(client.clone()));
    let _end_with_this = AbortOnDrop(logs);
    let mut before = watch.scan();
    // What changed since the last cycle that went well; `None` at the start, when all is new.
    let mut changed: Option<BTreeSet<PathBuf>> = None;
    loop {
        match cycle(path, client, changed.as_ref(), &mut watch.components).await {
            Ok(()) => changed = Some(BTreeSet::new()),
            Err(error) => {
                report(&error);
                tell(format_args!("{DIM}waiting for a change{PLAIN}"));
            }
        }
        let (after, new) = watch.changed(before).await;
        before = after;
        if let Some(changed) = &mut changed {
            changed.extend(new);
        }
    }
}

/// One round: read, build what changed, deploy.
async fn cycle(
    path: &Path,
    client: &Client,
    changed: Option<&BTreeSet<PathBuf>>,
    components: &mut BTreeSet<PathBuf>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut files = manifest::read_all(&[path], &process_environment)?;
    let folders = files.iter().map(|file| file.folder().canonicalize()).collect::<Result<Vec<_>, _>>()?;
    for (index, file) in files.iter_mut().enumerate() {
        if build::hands_over(&file.manifest) || changed.is_none_or(|changed| is_affected(index, &folders, changed)) {
            build::develop(file).await?;
        }
        if file.manifest.build.is_some() {
            components.extend(file.component().canonicalize());
        }
    }
    let response = deploy::deploy(client, &files, false).await?;
    print(deploy::deployed_table(&response))?;
    tell(format_args!("{DIM}done in {:.1} s, waiting for a change{PLAIN}", begun.elapsed().as_secs_f32()));
    Ok(())
}

/// Whether a change is in a function's folder, or in none: then it may be shared by all.
fn is_affected(index: usize, folders: &[PathBuf], changed: &BTreeSet<PathBuf>) -> bool {
    changed
        .iter()
        .any(|path| path.starts_with(&folders[index]) || !folders.iter().any(|folder| path.starts_with(folder)))
}

/// Prints what functions log, and goes on when the platform was away.
async fn follow(client: Client) {
    let query = logs::Query { follow: true, ..logs::Query::default() };
    loop {
        if let Ok(mut lines) = Lines::open(&client, &query).await {
            while let Ok(Some(line)) = lines.next().await {
                if let Ok(line) = serde_json::from_slice(&line) {
                    tell(logs::written(&line));
                }
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Every file people write in a folder, with what tells that it changed.
type Snapshot = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

/// Watches a folder, folder by folder: watching it whole would include `target`, which a build floods.
struct Watch {
    root: PathBuf,
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
    hint: Arc<Notify>,
    /// The components that builds make.
    components: BTreeSet<PathBuf>,
    /// How many builds in a row have written a file that is no component.
    written: BTreeMap<PathBuf, u8>,
}

impl Watch {
    fn new(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("`{}` can't be watched", path.display());
        let path = path.canonicalize().with_context(failed)?;
        let root = if path.is_dir() { path.clone() } else { path.parent().unwrap_or(&path).to_owned() };
        let hint = Arc::new(Notify::new());
        let sender = hint.clone();
        let watcher = notify::recommended_watcher(move |_| sender.notify_one()).with_context(failed)?;
        let mut watch = Self {
            root,
            watcher,
            watched: BTreeSet::new(),
            hint,
            components: BTreeSet::new(),
            written: BTreeMap::new(),
        };
        let root = watch.root.clone();
        watch.watch_folder(&root).map_err(|error| {
            let help = "on Linux each watched folder takes one of `fs.inotify.max_user_watches`";
            Failure::new(failed()).help(help).because(error)
        })?;
        Ok(watch)
    }

    fn watch_folder(&mut self, folder: &Path) -> notify::Result<()> {
        if self.watched.insert(folder.to_owned()) {
            self.watcher.watch(folder, RecursiveMode::NonRecursive)?;
        }
        Ok(())
    }

    /// What is there now. New folders are watched from here on.
    fn scan(&mut self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        let mut folders = vec![self.root.clone()];
        let mut seen = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            // Watched before it is read: what comes in between is a hint then. Folders vanish while this runs, and one that
            // can't be read has nothing to build.
            let _ = self.watch_folder(&folder);
            seen.insert(folder.clone());
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                if is_skipped(&name) || name.as_encoded_bytes().ends_with(b"~") {
                    continue;
                }
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    Ok(_) => {
                        if let Ok(metadata) = path.metadata() {
                            snapshot.insert(path, (metadata.modified().ok(), metadata.len()));
                        }
                    }
                    Err(_) => {}
                }
            }
        }
        // A folder that is made again has to be watched again.
        self.watched.retain(|folder| seen.contains(folder));
        snapshot
    }

    /// Called after a build, with the snapshot from before it: waits until there is a reason for the next one. Answers with the
    /// new snapshot, and with what changed.
    ///
    /// What was written during a build was written by somebody, or by the build itself, and that only is no reason for another
    /// one. Nothing tells them apart but time: a build writes its files each time, and never between two of them.
    async fn changed(&mut self, before: Snapshot) -> (Snapshot, BTreeSet<PathBuf>) {
        let built = self.scan();
        let touched = self.touched(&before, &built);
        self.written.retain(|path, builds| *builds >= SURE || touched.contains(path));
        for path in &touched {
            let builds = self.written.entry(path.clone()).or_default();
            *builds = SURE.min(*builds + 1);
        }
        let mut new: BTreeSet<_> = touched.into_iter().filter(|path| self.written[path] < SURE).collect();
        loop {
            let doubtful = new.iter().any(|path| self.written[path] == SURE - 1);
            if new.is_empty() {
                // Not every file system tells of every change.
                let _ = timeout(LOOK, self.hint.notified()).await;
            }
            self.quiet(if doubtful { LOOK } else { QUIET }).await;
            let now = self.scan();
            let between = self.touched(&built, &now);
            self.written.retain(|path, _| !between.contains(path));
            new.extend(between);
            if !new.is_empty() {
                return (now, new);
            }
        }
    }

    /// Waits until nothing was written for a time.
    async fn quiet(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && timeout(time, self.hint.notified()).await.is_ok() {}
    }

    /// The files that were made, changed or removed, without components.
    fn touched(&self, before: &Snapshot, after: &Snapshot) -> BTreeSet<PathBuf> {
        difference(before, after).difference(&self.components).cloned().collect()
    }
}

/// The files that were made, changed or removed.
fn difference(before: &Snapshot, after: &Snapshot) -> BTreeSet<PathBuf> {
    let one = before.iter().filter(|(path, stamp)| after.get(*path) != Some(stamp));
    let other = after.iter().filter(|(path, _)| !before.contains_key(*path));
    one.chain(other).map(|(path, _)| path.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_seen_also_in_new_folders_and_components_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().canonicalize().unwrap().join(path);
        std::fs::create_dir(at("target")).unwrap();
        std::fs::write(at("a.rs"), "1").unwrap();
        let mut watch = Watch::new(folder.path()).unwrap();
        watch.components.insert(at("out.wasm"));
        let before = watch.scan();

        std::fs::write(at("target/x"), "1").unwrap();
        std::fs::write(at("out.wasm"), "1").unwrap();
        std::fs::create_dir(at("new")).unwrap();
        std::fs::write(at("new/b.rs"), "1").unwrap();
        let (before, changed) = watch.changed(before).await;
        assert_eq!(changed, [at("new/b.rs")].into());

        std::fs::write(at("new/b.rs"), "22").unwrap();
        std::fs::remove_file(at("a.rs")).unwrap();
        let (_, changed) = watch.changed(before).await;
        assert_eq!(changed, [at("a.rs"), at("new/b.rs")].into());
    }

    /// A folder that is watched, and a file that is not there yet.
    fn watched(name: &str) -> (tempfile::TempDir, PathBuf, Watch, Snapshot) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join(name);
        let mut watch = Watch::new(folder.path()).unwrap();
        let before = watch.scan();
        (folder, file, watch, before)
    }

    /// What the watch answers when somebody writes a file while it waits.
    async fn edited(watch: &mut Watch, before: Snapshot, file: &Path, text: &str) -> (Snapshot, BTreeSet<PathBuf>) {
        let edit = async {
            tokio::time::sleep(QUIET / 2).await;
            std::fs::write(file, text).unwrap();
        };
        tokio::join!(watch.changed(before), edit).0
    }

    /// A file that is saved during each build, and between two of them, is no output: what was saved last is built.
    #[tokio::test]
    async fn what_is_saved_while_it_builds_is_built() {
        let (_folder, source, mut watch, mut before) = watched("main.go");
        for text in 0..6 {
            std::fs::write(&source, "x".repeat(10 + text)).unwrap();
            let (after, changed) = edited(&mut watch, before, &source, &"x".repeat(20 + text)).await;
            assert_eq!(changed, [source.clone()].into());
            assert_eq!(after[&source].1, 20 + text as u64, "read only when it was whole");
            before = after;
        }
    }

    #[tokio::test]
    async fn what_each_build_writes_is_no_reason_for_another() {
        let (_folder, generated, mut watch, mut before) = watched("version.go");
        for build in 1..SURE {
            std::fs::write(&generated, "x".repeat(build.into())).unwrap();
            let (after, changed) = watch.changed(before).await;
            assert_eq!(changed, [generated.clone()].into());
            before = after;
        }
        // The third build wrote it, too. Then somebody does.
        std::fs::write(&generated, "by the build").unwrap();
        assert!(timeout(2 * LOOK, watch.changed(before)).await.is_err());
        let before = watch.scan();
        let (_, changed) = edited(&mut watch, before, &generated, "by a person").await;
        assert_eq!(changed, [generated].into());
    }

    #[test]
    fn a_change_concerns_its_function_and_a_shared_one_all() {
        let folders = ["/f/a", "/f/b"].map(PathBuf::from);
        let affected = |path: &str| [0, 1].map(|index| is_affected(index, &folders, &[PathBuf::from(path)].into()));
        assert_eq!(affected("/f/a/src/lib.rs"), [true, false]);
        assert_eq!(affected("/f/shared/lib.rs"), [true, true]);
    }
}
