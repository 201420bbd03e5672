//! `dunlin up`: the platform itself.

use anyhow::bail;
use clap::{Args, FromArgMatches as _, ValueEnum, builder::NonEmptyStringValueParser};
use dunlin_events::units::ByteSize;
use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

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

    /// The certificate chain of --listen in PEM; then it speaks HTTPS.
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
    /// Size of one uploaded component.
    #[arg(long, value_name = "SIZE", env = "DUNLIN_MAX_COMPONENT", default_value = "100MiB", help_heading = "Limits")]
    pub(crate) max_component: ByteSize,
    /// How long running requests may take to finish when the platform stops.
    #[arg(long, value_name = "TIME", env = "DUNLIN_GRACE", default_value = "30s", value_parser = humantime::parse_duration, help_heading = "Limits")]
    pub(crate) grace: Duration,

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
    bail!("`dunlin up` is not wired yet: {}", args.data.display())
}

/// A platform in this process, for `dunlin dev`.
pub(crate) struct DevPlatform {
    /// Where it listens, with the real ports.
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl DevPlatform {
    /// Lets running requests finish, and ends.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        bail!("`dunlin up` is not wired yet")
    }
}

/// Starts a platform and answers once it accepts connections. It leaves signals to the caller.
pub(crate) async fn spawn_for_dev(args: UpArgs) -> anyhow::Result<DevPlatform> {
    bail!("`dunlin up` is not wired yet: {}", args.data.display())
}
