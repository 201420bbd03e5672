//! Connections to a server: how it is trusted, and what its errors mean for whoever wrote the manifest.

use super::binlog::Position;
use dunlin_events::{
    manifest::{DatabaseKind, DatabaseTrigger, DatabaseUrl, SslMode},
    secrets::{SecretError, Secrets},
    source::SourceError,
};
use mysql_async::{Conn, DriverError, Error, IoError, OptsBuilder, Row, SslOpts, prelude::Queryable as _};
use std::time::Duration;

/// How long a server may take to let somebody in.
const CONNECT: Duration = Duration::from_secs(10);
/// The largest packet the protocol's row events can come in: whatever the server wrote into its log must be readable.
const LARGEST_PACKET: usize = 1 << 30;

/// A connection on which queries can be made.
pub(super) struct Session {
    pub(super) connection: Conn,
    pub(super) mariadb: bool,
}

/// Why a server does not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("does not answer within {} seconds", .0.as_secs())]
    Late(Duration),
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Server(#[from] Error),
}

impl SessionError {
    /// What is wrong and what to do about it, for operators. Which key of the trigger it is about, too.
    pub(super) fn told(self, trigger: &DatabaseTrigger) -> (&'static str, SourceError) {
        let url = &trigger.url;
        let server = format!("{}:{}", url.host, url.port);
        let said = |error: &Error| match error {
            Error::Server(error) => error.message.clone(),
            Error::Io(IoError::Io(error)) => error.to_string(),
            Error::Io(IoError::Tls(error)) => error.to_string(),
            other => other.to_string(),
        };
        match &self {
            Self::Secret(error) => ("/password", SourceError::new(error.to_string())),
            Self::Late(_) => ("/url", SourceError::new(format!("`{server}` {self}")).help("see whether it can be reached")),
            Self::Refused(reason) => ("/url", SourceError::new(format!("`{server}`: {reason}"))),
            Self::Server(error) => match error {
                Error::Server(inner) => match inner.code {
                    1045 => (
                        "/password",
                        SourceError::new(format!("`{server}` refuses `{}`: {}", url.user, said(error))).help(
                            match &trigger.password {
                                Some(secret) => format!("see that the secret `{secret}` holds this user's password"),
                                None => "name the secret that holds its password: `password: DB_PASSWORD`".to_owned(),
                            },
                        ),
                    ),
                    1044 | 1049 => (
                        "/url",
                        SourceError::new(format!("the database `{}` can't be used: {}", url.database, said(error)))
                            .help(format!("see its name, and that `{}` may read it", url.user)),
                    ),
                    1130 | 1129 => (
                        "/url",
                        SourceError::new(format!("`{server}` lets nobody in from here: {}", said(error)))
                            .help(format!("see for which hosts the account `{}` is", url.user)),
                    ),
                    1412 => (
                        "/url",
                        SourceError::new("a table was altered while its rows were about to be taken".to_owned())
                            .help("they are taken as it is now by the next attempt"),
                    ),
                    1227 | 1142 | 1143 => (
                        "/url",
                        SourceError::new(format!("`{}` may not do that: {}", url.user, said(error))).help(rights(url)),
                    ),
                    _ => ("/url", SourceError::new(format!("`{server}`: {}", said(error)))),
                },
                Error::Driver(DriverError::NoClientSslFlagFromServer) => (
                    "/url",
                    SourceError::new(format!("`{server}` offers no TLS"))
                        .help("set it up there, or add `?sslmode=disable` to the url if the network between is trusted"),
                ),
                Error::Driver(DriverError::UnknownAuthPlugin { name }) => (
                    "/url",
                    SourceError::new(format!("the account `{}` signs in with `{name}`, which is not known here", url.user))
                        .help("give it `mysql_native_password`, `caching_sha2_password` or `ed25519`"),
                ),
                whole @ Error::Io(error) if untrusted(error) => (
                    "/url",
                    SourceError::new(format!("`{server}` is not trusted: {}", said(whole))).help(
                        "name the certificate of the authority that signed its own: `?sslrootcert=/path/ca.pem` in the url",
                    ),
                ),
                Error::Io(_) => (
                    "/url",
                    SourceError::new(format!("`{server}` can't be reached: {}", said(error)))
                        .help("see that the server runs, and that host and port are right"),
                ),
                _ => ("/url", SourceError::new(format!("`{server}`: {}", said(error)))),
            },
        }
    }
}

/// Whether it is the server's certificate that is wrong.
fn untrusted(error: &IoError) -> bool {
    match error {
        IoError::Tls(_) => true,
        IoError::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
    }
}

/// What an account needs.
pub(super) fn rights(url: &DatabaseUrl) -> String {
    let monitor = match url.kind {
        DatabaseKind::Mariadb => "BINLOG MONITOR",
        _ => "REPLICATION CLIENT",
    };
    format!(
        "`GRANT REPLICATION SLAVE, {monitor} ON *.* TO {0}` and `GRANT SELECT ON {1}.* TO {0}`",
        url.user, url.database
    )
}

impl Session {
    pub(super) async fn open(trigger: &DatabaseTrigger, secrets: &dyn Secrets) -> Result<Self, SessionError> {
        let url = &trigger.url;
        let password = match &trigger.password {
            Some(name) => Some(secrets.get(name)?.expose().to_owned()),
            None => None,
        };
        let options = OptsBuilder::default()
            .ip_or_hostname(&url.host)
            .tcp_port(url.port)
            .user(Some(&url.user))
            .pass(password)
            .db_name(Some(&url.database))
            // The socket of a server on this machine would be another account, and another server where a tunnel ends here.
            .prefer_socket(false)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .max_allowed_packet(Some(LARGEST_PACKET))
            .wait_timeout(Some(28_800))
            .ssl_opts(trust(url).await?)
            // Times are told in UTC. What a query answers must not depend on the modes of this server.
            .init(vec!["SET time_zone = '+00:00', NAMES utf8mb4, sql_mode = ''"]);
        let connection =
            tokio::time::timeout(CONNECT, Conn::new(options)).await.map_err(|_| SessionError::Late(CONNECT))??;
        let mut session = Self { connection, mariadb: false };
        let version: Option<String> = session.connection.query_first("SELECT VERSION()").await?;
        session.mariadb = version.is_some_and(|version| version.contains("MariaDB"));
        Ok(session)
    }

    /// Another connection to the same server.
    pub(super) async fn again(&self) -> Result<Self, SessionError> {
        let connection = Conn::new(self.connection.opts().clone()).await?;
        Ok(Self { connection, mariadb: self.mariadb })
    }

    /// Where the log ends now.
    pub(super) async fn position(&mut self) -> Result<Position, SessionError> {
        let mut found: Option<Row> = None;
        // MySQL 8.4 has another name for it, and not the old one any more.
        for query in ["SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"] {
            match self.connection.query_first(query).await {
                Ok(row) => {
                    found = row;
                    break;
                }
                Err(Error::Server(error)) if error.code == 1064 => {}
                Err(error) => return Err(error.into()),
            }
        }
        let place = found.and_then(|mut row| Some(Position { file: row.take(0)?, at: row.take(1)? }));
        place.ok_or_else(|| SessionError::Refused("it does not tell where its log ends".into()))
    }

    /// A variable of the server, where it has one of that name.
    pub(super) async fn variable(&mut self, name: &str) -> Result<Option<String>, SessionError> {
        let found: Option<(String, String)> =
            self.connection.exec_first("SHOW GLOBAL VARIABLES WHERE Variable_name = ?", (name,)).await?;
        Ok(found.map(|(_, value)| value))
    }
}

/// Which certificates are good enough. `None` is no TLS.
async fn trust(url: &DatabaseUrl) -> Result<Option<SslOpts>, SessionError> {
    let options = match url.sslmode {
        SslMode::Disable => return Ok(None),
        SslMode::Require => {
            return Ok(Some(
                SslOpts::default().with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true),
            ));
        }
        // The library knows the error only by the name it had in older versions of rustls.
        SslMode::VerifyCa => {
            return Err(SessionError::Refused(
                "`sslmode=verify-ca` is not there for this database: write `verify-full`, or `require`".into(),
            ));
        }
        SslMode::VerifyFull => SslOpts::default(),
    };
    let roots = match &url.sslrootcert {
        Some(path) => {
            let certificates = tokio::fs::read(path).await.map_err(|error| {
                SessionError::Refused(format!("the certificates in `{path}` can't be read: {error}"))
            })?;
            return Ok(Some(options.with_disable_built_in_roots(true).with_root_certs(vec![certificates.into()])));
        }
        // Reading the system's takes milliseconds of file work.
        None => tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await,
    };
    let roots = roots.map(|found| found.certs).unwrap_or_default();
    let roots = roots.into_iter().map(|root| root.as_ref().to_vec().into()).collect();
    Ok(Some(options.with_root_certs(roots)))
}
