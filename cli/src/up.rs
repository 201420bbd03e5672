//! `dunlin up`: the platform itself.

use crate::{output, secrets::PlatformSecrets};
use anyhow::Context as _;
use clap::{Args, FromArgMatches as _, ValueEnum, builder::NonEmptyStringValueParser};
use dunlin_events::{secrets::SecretValue, units::ByteSize};
use dunlin_gateway::{
    backend::Backend,
    deploy::Deployments,
    dispatch::Dispatcher,
    http::{
        TlsConfig,
        admin::{AdminConfig, AdminPlane},
        data::{Config, DataPlane, Timeouts},
    },
    logs::LogBuffer,
    sources::Supervisor,
};
use dunlin_runtime::{Compiler, RuntimeConfig, Wasm};
use dunlin_store::Store;
use dunlin_triggers::{AllowedFolders, Upstreams};
use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing_subscriber::EnvFilter;

/// Run the platform.
///
/// It keeps everything in one folder and listens twice: for the functions' callers (--listen), and for whoever deploys
/// (--admin). SIGTERM or Ctrl-C lets running requests finish, a second one ends at once.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// The folder that holds deployed functions and compiled code.
    #[arg(long, value_name = "DIR", env = "DUNLIN_DATA", default_value = ".dunlin")]
    pub(crate) data: PathBuf,
    /// Where functions answer. Port 0 takes a free one, which is printed.
    #[arg(long, value_name = "ADDR", env = "DUNLIN_LISTEN", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where the admin API answers. Any but a loopback address needs a token.
    #[arg(long, value_name = "ADDR", env = "DUNLIN_ADMIN", default_value = "127.0.0.1:8081")]
    pub(crate) admin: SocketAddr,
    /// What clients of the admin API must present. Prefer the variable: others on this machine see the command line.
    #[arg(long, value_name = "TOKEN", env = "DUNLIN_TOKEN", hide_env_values = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) token: Option<String>,
    /// A folder with a file per secret, named like the secret. It wins over DUNLIN_SECRET_<NAME> variables.
    #[arg(long, value_name = "DIR", env = "DUNLIN_SECRETS")]
    pub(crate) secrets: Option<PathBuf>,
    /// A folder that `files` triggers may have, with all below it; it may be given several times. Any when not given, except
    /// those with the platform's data and secrets.
    #[arg(long, value_name = "DIR", env = "DUNLIN_FILES", value_delimiter = ':')]
    pub(crate) files: Vec<PathBuf>,

    /// A certificate chain in PEM: --listen speaks HTTPS then, and --admin on any but a loopback address.
    #[arg(long, value_name = "FILE", env = "DUNLIN_TLS_CERT", requires = "tls_key", help_heading = "HTTPS")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM.
    #[arg(long, value_name = "FILE", env = "DUNLIN_TLS_KEY", requires = "tls_cert", help_heading = "HTTPS")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Worker threads; a processor core each when not given.
    #[arg(long, value_name = "N", env = "DUNLIN_WORKERS", help_heading = "Limits")]
    pub(crate) workers: Option<NonZeroUsize>,
    /// Connections of --listen at once; more wait to be accepted.
    #[arg(long, value_name = "N", env = "DUNLIN_MAX_CONNECTIONS", default_value = "10000", help_heading = "Limits")]
    pub(crate) max_connections: NonZeroUsize,
    /// Sandboxes at once, of all functions together; more invocations wait.
    #[arg(long, value_name = "N", env = "DUNLIN_SANDBOXES", default_value = "1000", help_heading = "Limits")]
    pub(crate) sandboxes: NonZeroU32,
    /// How long the code of a function stays in memory after its last invocation.
    #[arg(long, value_name = "TIME", env = "DUNLIN_CODE_IDLE", default_value = "60s", value_parser = humantime::parse_duration, help_heading = "Limits")]
    pub(crate) code_idle: Duration,
    /// Memory for the functions' recent log lines.
    #[arg(long, value_name = "SIZE", env = "DUNLIN_LOG_BUFFER", default_value = "16MiB", help_heading = "Limits")]
    pub(crate) log_buffer: ByteSize,
    /// Size of one uploaded component.
    #[arg(long, value_name = "SIZE", env = "DUNLIN_MAX_COMPONENT", default_value = "100MiB", help_heading = "Limits")]
    pub(crate) max_component: ByteSize,
    /// How long running requests may take to finish when the platform stops.
    #[arg(long, value_name = "TIME", env = "DUNLIN_GRACE", default_value = "30s", value_parser = humantime::parse_duration, help_heading = "Limits")]
    pub(crate) grace: Duration,
    /// How long a connection may be idle. Make it longer than a proxy in front keeps its connections.
    #[arg(long, value_name = "TIME", env = "DUNLIN_IDLE", default_value = "60s", value_parser = humantime::parse_duration, help_heading = "Limits")]
    pub(crate) idle: Duration,

    /// How components are compiled: `dunlin dev` and `dunlin test` are in a hurry.
    #[arg(skip)]
    pub(crate) compiler: Option<Compiler>,

    /// How the platform's own log is written, to stderr.
    #[arg(long, value_name = "FORMAT", env = "DUNLIN_LOG_FORMAT", default_value = "text", help_heading = "Log")]
    pub(crate) log_format: LogFormat,
    /// What is logged: error, warn, info, debug or trace, or per part, such as info,dunlin_runtime=debug.
    #[arg(long, value_name = "LEVEL", env = "DUNLIN_LOG", default_value = "info", help_heading = "Log")]
    pub(crate) log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

impl UpArgs {
    /// What `dunlin up` without arguments has: the variables, and the defaults for the others.
    pub(crate) fn defaults() -> Result<Self, clap::Error> {
        let command = Self::augment_args(clap::Command::new("up"));
        Self::from_arg_matches(&command.try_get_matches_from(["up"])?)
    }
}

/// Runs the platform until it is told to stop.
pub(crate) fn run(args: UpArgs) -> anyhow::Result<()> {
    log_to_stderr(&args)?;
    use_small_pages();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no threads can be had")?;
    let ended = runtime.block_on(async {
        // Before anything is started, so that no signal finds nobody listening.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let platform = Platform::start(args).await?;
        // Whoever started it may have stopped reading; that is no reason to stop.
        let _ = output::print(format!("functions  {}\nadmin      {}", platform.functions_url(), platform.admin_url()));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("stopping: requests under way may end; a second signal stops at once");
        tokio::select! {
            () = platform.stop() => {}
            _ = interrupt.recv() => tracing::warn!("stopped at once"),
            _ = terminate.recv() => tracing::warn!("stopped at once"),
        }
        Ok(())
    });
    // What still runs after the grace period, or the second signal, is not waited for.
    runtime.shutdown_background();
    ended
}

/// The log of a platform within another command, which says by itself what matters: only where somebody asks for it.
pub(crate) fn log_if_asked(args: &UpArgs) -> anyhow::Result<()> {
    if std::env::var_os("DUNLIN_LOG").is_some() { log_to_stderr(args) } else { Ok(()) }
}

fn log_to_stderr(args: &UpArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log).with_context(|| format!("`--log {}` is no log filter", args.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => {
            let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
            log.with_ansi(colour).with_target(false).init();
        }
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

/// A running platform: the rooms, wired.
pub(crate) struct Platform {
    /// Where it listens, with the real ports.
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    tls: bool,
    admin_tls: bool,
    shutdown: CancellationToken,
    /// The two listeners.
    planes: TaskTracker,
    /// The dispatcher, which ends after them: what they accept may be for it.
    events: TaskTracker,
    stop_events: CancellationToken,
    /// What functions need to run, and so ends last.
    rooms: CancellationToken,
}

impl Platform {
    /// Starts a platform and answers once it accepts connections. Signals are the caller's.
    pub(crate) async fn start(args: UpArgs) -> anyhow::Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        raise_file_limit();
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let workers = args.workers.unwrap_or(cores);
        let logs = LogBuffer::new(args.log_buffer);
        let own = [Some(args.data.clone()), args.secrets.clone()].into_iter().flatten().collect();
        let secrets = Arc::new(PlatformSecrets::open(args.secrets)?);

        let store = Arc::new(Store::open(&args.data)?);
        // Who invokes functions: the data plane's workers, the admin plane, and as many workers for events as for requests.
        let event_workers = workers.get() + 1;
        let runtime_workers = u32::try_from(event_workers + workers.get()).unwrap_or(u32::MAX);
        let mut config = RuntimeConfig::new(
            dunlin_runtime::cache_dir(&args.data),
            NonZeroU32::new(runtime_workers).unwrap_or(NonZeroU32::MIN),
        );
        config.sandboxes = args.sandboxes;
        config.idle = args.code_idle;
        config.compiler = args.compiler.unwrap_or(config.compiler);
        let runtime = Arc::new(Wasm::start(&config, Arc::clone(&secrets) as _, Arc::clone(&logs) as _)?);
        let uploads = args.data.join("uploads");
        let backend = Backend::of(store);
        let sources = Arc::new(Upstreams::new(Arc::clone(&secrets) as _, AllowedFolders::new(args.files, own)));
        let deployments =
            Deployments::open(backend, Arc::clone(&runtime) as _, sources, secrets, Arc::clone(&logs), uploads).await?;
        let dispatcher = Dispatcher::start(Arc::clone(&deployments), event_workers, workers)?;

        let tls = match (args.tls_cert, args.tls_key) {
            (Some(certificate), Some(key)) => Some(TlsConfig { certificate, key }),
            _ => None,
        };
        // On a loopback address nobody listens in, and certificates are rarely made out to it.
        let admin_tls = if args.admin.ip().is_loopback() { None } else { tls.clone() };
        let (has_tls, has_admin_tls) = (tls.is_some(), admin_tls.is_some());
        let data = Config {
            listen: args.listen,
            tls,
            workers,
            connections: args.max_connections.get(),
            timeouts: Timeouts { idle: args.idle, grace: args.grace, ..Timeouts::default() },
        };
        let admin = AdminConfig {
            listen: args.admin,
            token: args.token.map(SecretValue::new),
            tls: admin_tls,
            component_limit: args.max_component,
            worker: workers.get(),
            grace: args.grace,
        };
        let data = DataPlane::bind(data, Arc::clone(&deployments) as _, logs).await?;
        let admin = AdminPlane::bind(admin, Arc::clone(&deployments)).await?;

        let (shutdown, rooms, planes) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let platform = Self {
            listen: data.address(),
            admin: admin.address(),
            tls: has_tls,
            admin_tls: has_admin_tls,
            shutdown: shutdown.clone(),
            planes: planes.clone(),
            events: TaskTracker::new(),
            stop_events: CancellationToken::new(),
            rooms: rooms.clone(),
        };
        planes.spawn(data.run(shutdown.clone()));
        planes.spawn(Supervisor::new(deployments).run(shutdown.clone()));
        planes.spawn(admin.run(shutdown));
        platform.events.spawn(dispatcher.run(platform.stop_events.clone(), args.grace));
        tokio::spawn(async move { runtime.run(rooms).await });
        Ok(platform)
    }

    pub(crate) fn functions_url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.listen)
    }

    pub(crate) fn admin_url(&self) -> String {
        format!("{}://{}", if self.admin_tls { "https" } else { "http" }, self.admin)
    }

    /// Lets running requests finish, and ends.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.planes.close();
        self.planes.wait().await;
        self.stop_events.cancel();
        self.events.close();
        self.events.wait().await;
        self.rooms.cancel();
    }
}

/// With huge pages whoever touches a byte first waits until 2 MiB are zeroed, and they stay: the platform had a third
/// more memory, and a first call that started a thread took up to five times as long.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "the system goes on with huge pages");
    }
}

/// A connection needs a file descriptor, and many systems give a process 1,024 of them when it doesn't ask for more.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_err() {
        tracing::warn!(limit = ?limit.current, "the limit of open files can't be raised");
    }
}
