//! A connection to a PostgreSQL server: opening it, asking in SQL, and the copy in both directions that replication is.
//!
//! The one design choice: only the simple query protocol, where every value is text. It is all that a connection for
//! replication understands, so one code serves queries, the rows of a snapshot and the stream, and a value looks the same
//! wherever it comes from. The messages are those of <https://www.postgresql.org/docs/15/protocol-message-formats.html>.

use super::{lsn::Lsn, tls};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use dunlin_events::{manifest::DatabaseUrl, secrets::SecretValue, source::SourceError};
use futures_util::FutureExt as _;
use postgres_protocol::authentication::{
    md5_hash,
    sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
};
use std::{
    io,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long opening a connection may take, the answer of the server included.
const OPENING: Duration = Duration::from_secs(10);
/// How long an answer may take that needs no more than a look into the catalog.
const ANSWERING: Duration = Duration::from_secs(30);
/// The longest message there can be: a field has at most 1 GB.
const LONGEST_MESSAGE: usize = (1 << 30) + (1 << 20);
/// Times of the protocol count from 2000-01-01, in microseconds.
const EPOCH: Duration = Duration::from_secs(946_684_800);

/// What values look like, whatever the server's own settings; and that nothing of ours is ended for being slow.
const SETTINGS: &str = "-c DateStyle=ISO -c IntervalStyle=iso_8601 -c TimeZone=UTC -c extra_float_digits=3 \
    -c bytea_output=hex -c statement_timeout=0 -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 -c search_path=";

/// A row: each value as text, or null.
pub(super) type Row = Vec<Option<Bytes>>;

/// A column of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// The object id of its type.
    pub(super) kind: u32,
}

/// Why the server did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} ({code})")]
pub(super) struct ServerError {
    /// <https://www.postgresql.org/docs/15/errcodes-appendix.html>
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
}

/// Why something failed on a connection. It can't be used any more, except after [`ConnectionError::Server`] to a query.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("`{0}` can't be reached: {1}")]
    Unreachable(String, io::Error),
    #[error("`{0}` did not answer in 10 seconds")]
    TimedOut(String),
    #[error("{0}")]
    Tls(#[from] tls::TlsError),
    #[error("the server asks for a password")]
    NoPassword,
    #[error("the server asks for `{0}`, which is not spoken here")]
    Authentication(String),
    #[error("{0}")]
    Server(#[from] ServerError),
    #[error("the connection to the database broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the server said what can't be understood: {0}")]
    Protocol(&'static str),
}

impl ConnectionError {
    /// The code of an error that the server itself told.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.code),
            _ => None,
        }
    }
}

/// What both kinds of stream can do.
trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A connection that is ready for a query.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    version: String,
}

/// A message of the server.
struct Message {
    tag: u8,
    body: Bytes,
}

/// What comes while replication copies in both directions.
#[derive(Debug)]
pub(super) enum Copied {
    /// A piece of the log as the output plugin writes it.
    Data(Bytes),
    /// The server has sent everything up to here. It may want an answer at once.
    Keepalive { sent: Lsn, reply: bool },
    /// The server ends the copy.
    End,
}

impl Connection {
    /// Opens a connection, for queries or for replication and queries.
    pub(super) async fn open(
        url: &DatabaseUrl,
        password: Option<&SecretValue>,
        replication: bool,
    ) -> Result<Self, ConnectionError> {
        let opening = Self::opened(url, password, replication);
        // Boxed: the states of a TLS handshake are large.
        let opened = tokio::time::timeout(OPENING, Box::pin(opening)).await;
        opened.map_err(|_| ConnectionError::TimedOut(url.place()))?
    }

    async fn opened(
        url: &DatabaseUrl,
        password: Option<&SecretValue>,
        replication: bool,
    ) -> Result<Self, ConnectionError> {
        let unreachable = |error| ConnectionError::Unreachable(url.place(), error);
        let stream = TcpStream::connect((&*url.host, url.port)).await.map_err(unreachable)?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match tls::connector(url)? {
            None => Box::new(stream),
            Some(connector) => Box::new(tls::handshake(connector, stream, url).await?),
        };
        let mut connection = Self { stream, input: BytesMut::new(), version: String::new() };
        let mut parameters = vec![
            ("user", url.user.as_str()),
            ("database", &url.database),
            ("application_name", "dunlin"),
            ("client_encoding", "UTF8"),
            ("options", SETTINGS),
        ];
        if replication {
            parameters.push(("replication", "database"));
        }
        let mut body = BytesMut::new();
        body.put_i32(3 << 16);
        for (name, value) in parameters {
            put_text(&mut body, name);
            put_text(&mut body, value);
        }
        body.put_u8(0);
        let mut startup = BytesMut::new();
        startup.put_i32(i32::try_from(body.len() + 4).map_err(|_| ConnectionError::Protocol("a name is too long"))?);
        startup.extend_from_slice(&body);
        connection.stream.write_all(&startup).await?;
        connection.authenticate(&url.user, password).await?;
        Ok(connection)
    }

    async fn authenticate(&mut self, user: &str, password: Option<&SecretValue>) -> Result<(), ConnectionError> {
        let password = || password.map(|password| password.expose().as_bytes()).ok_or(ConnectionError::NoPassword);
        let mut scram: Option<ScramSha256> = None;
        loop {
            let mut message = self.message().await?;
            match message.tag {
                b'R' => match take_u32(&mut message.body)? {
                    0 => {}
                    3 => {
                        let mut body = password()?.to_vec();
                        body.push(0);
                        self.send(b'p', &body).await?;
                    }
                    5 => {
                        let salt = take(&mut message.body, 4)?;
                        let salt = salt.as_ref().try_into().map_err(|_| ConnectionError::Protocol("a salt"))?;
                        let mut body = md5_hash(user.as_bytes(), password()?, salt).into_bytes();
                        body.push(0);
                        self.send(b'p', &body).await?;
                    }
                    10 => {
                        let mut known = false;
                        while let Ok(name) = take_text(&mut message.body) {
                            known |= name == SCRAM_SHA_256;
                        }
                        if !known {
                            return Err(ConnectionError::Authentication("SASL without SCRAM-SHA-256".into()));
                        }
                        let begun = ScramSha256::new(password()?, ChannelBinding::unsupported());
                        let mut body = BytesMut::new();
                        put_text(&mut body, SCRAM_SHA_256);
                        body.put_u32(u32::try_from(begun.message().len()).unwrap_or_default());
                        body.extend_from_slice(begun.message());
                        self.send(b'p', &body).await?;
                        scram = Some(begun);
                    }
                    11 => {
                        let scram = scram.as_mut().ok_or(ConnectionError::Protocol("SCRAM goes on before it began"))?;
                        scram.update(&message.body)?;
                        let body = scram.message().to_vec();
                        self.send(b'p', &body).await?;
                    }
                    12 => {
                        // The server, too, has to know the password.
                        let scram = scram.as_mut().ok_or(ConnectionError::Protocol("SCRAM ends before it began"))?;
                        scram.finish(&message.body)?;
                    }
                    7 | 8 => return Err(ConnectionError::Authentication("GSSAPI".into())),
                    9 => return Err(ConnectionError::Authentication("SSPI".into())),
                    other => return Err(ConnectionError::Authentication(format!("method {other}"))),
                },
                b'S' => {
                    if take_text(&mut message.body)? == "server_version" {
                        self.version = take_text(&mut message.body)?;
                    }
                }
                b'Z' => return Ok(()),
                // The key for cancelling, and the server's offer to speak an older protocol.
                b'K' | b'v' => {}
                _ => return Err(ConnectionError::Protocol("an answer to a startup")),
            }
        }
    }

    /// The version of the server, as it calls itself: `15.18 (Debian ...)`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Asks, and reads the whole answer.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, ConnectionError> {
        self.ask(sql).await?;
        let mut rows = Vec::new();
        while let Some(row) = self.next_row(&mut None).await? {
            rows.push(row);
        }
        Ok(rows)
    }

    /// Asks what is answered at once, unless the server is gone.
    pub(super) async fn query_soon(&mut self, sql: &str) -> Result<Vec<Row>, ConnectionError> {
        let answered = tokio::time::timeout(ANSWERING, self.query(sql)).await;
        answered.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the server does not answer"))?
    }

    /// Asks. The answer is read by [`Self::next_row`], to its end.
    pub(super) async fn ask(&mut self, sql: &str) -> Result<(), ConnectionError> {
        let mut body = BytesMut::with_capacity(sql.len() + 1);
        put_text(&mut body, sql);
        self.send(b'Q', &body).await
    }

    /// The next row of an answer; `None` after the last. The columns are put in when they come, before the first row.
    pub(super) async fn next_row(&mut self, columns: &mut Option<Vec<Column>>) -> Result<Option<Row>, ConnectionError> {
        let mut failed = None;
        loop {
            let mut message = match self.message().await {
                // The server is ready again after it has told an error, and says so.
                Err(ConnectionError::Server(error)) => {
                    failed = failed.or(Some(error));
                    continue;
                }
                // It may also close the connection after it has told why.
                Err(broken) => return Err(failed.map_or(broken, ConnectionError::from)),
                Ok(message) => message,
            };
            match message.tag {
                b'D' => return Ok(Some(row(&mut message.body)?)),
                b'T' => {
                    let count = take_u16(&mut message.body)?;
                    let mut described = Vec::with_capacity(count.into());
                    for _ in 0..count {
                        let name = take_text(&mut message.body)?;
                        take(&mut message.body, 6)?;
                        let kind = take_u32(&mut message.body)?;
                        take(&mut message.body, 8)?;
                        described.push(Column { name, kind });
                    }
                    *columns = Some(described);
                }
                b'Z' => return failed.map_or(Ok(None), |error| Err(error.into())),
                b'C' | b'I' | b'S' => {}
                _ => return Err(ConnectionError::Protocol("an answer to a query")),
            }
        }
    }

    /// Begins to copy in both directions.
    pub(super) async fn replicate(&mut self, command: &str) -> Result<(), ConnectionError> {
        self.ask(command).await?;
        loop {
            match self.message().await {
                Ok(Message { tag: b'W', .. }) => return Ok(()),
                Ok(Message { tag: b'S', .. }) => {}
                Ok(_) => return Err(ConnectionError::Protocol("an answer to START_REPLICATION")),
                Err(ConnectionError::Server(error)) => {
                    while self.message().await?.tag != b'Z' {}
                    return Err(error.into());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// What comes next of the copy. Cancel safe.
    pub(super) async fn copied(&mut self) -> Result<Copied, ConnectionError> {
        loop {
            let message = self.message().await?;
            if let Some(copied) = copied(message)? {
                return Ok(copied);
            }
        }
    }

    /// What has come of the copy already, without waiting.
    pub(super) fn copied_already(&mut self) -> Result<Option<Copied>, ConnectionError> {
        self.copied().now_or_never().transpose()
    }

    /// Tells how far what was copied is on disk here.
    pub(super) async fn confirm(&mut self, flushed: Lsn, reply: bool) -> Result<(), ConnectionError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + EPOCH).unwrap_or_default();
        let mut body = BytesMut::with_capacity(34);
        body.put_u8(b'r');
        for _ in ["written", "flushed", "applied"] {
            body.put_u64(flushed.0);
        }
        body.put_i64(i64::try_from(now.as_micros()).unwrap_or_default());
        body.put_u8(reply.into());
        self.send(b'd', &body).await
    }

    async fn send(&mut self, tag: u8, body: &[u8]) -> Result<(), ConnectionError> {
        let length = u32::try_from(body.len() + 4).map_err(|_| ConnectionError::Protocol("a query is too long"))?;
        let mut message = BytesMut::with_capacity(body.len() + 5);
        message.put_u8(tag);
        message.put_u32(length);
        message.extend_from_slice(body);
        self.stream.write_all(&message).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// The next message but notices; an error the server tells is an error. Cancel safe: what has come in part stays.
    async fn message(&mut self) -> Result<Message, ConnectionError> {
        loop {
            if let Some(mut message) = self.buffered()? {
                match message.tag {
                    b'N' | b'A' => continue,
                    b'E' => return Err(server_error(&mut message.body)?.into()),
                    _ => return Ok(message),
                }
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it").into());
            }
        }
    }

    /// A message that is there whole.
    fn buffered(&mut self) -> Result<Option<Message>, ConnectionError> {
        let Some(head) = self.input.get(..5) else {
            self.input.reserve(64 * 1024);
            return Ok(None);
        };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if !(4..LONGEST_MESSAGE).contains(&length) {
            return Err(ConnectionError::Protocol("a message of no possible length"));
        }
        if self.input.len() < length + 1 {
            self.input.reserve((length + 1 - self.input.len()).max(64 * 1024));
            return Ok(None);
        }
        let mut message = self.input.split_to(length + 1).freeze();
        let tag = message.get_u8();
        message.advance(4);
        Ok(Some(Message { tag, body: message }))
    }
}

fn copied(message: Message) -> Result<Option<Copied>, ConnectionError> {
    let Message { tag, mut body } = message;
    match tag {
        b'd' => match take(&mut body, 1)?[0] {
            b'w' => {
                take(&mut body, 24)?;
                Ok(Some(Copied::Data(body)))
            }
            b'k' => {
                let sent = Lsn(take_u64(&mut body)?);
                take(&mut body, 8)?;
                let reply = take(&mut body, 1)?[0] != 0;
                Ok(Some(Copied::Keepalive { sent, reply }))
            }
            _ => Err(ConnectionError::Protocol("a message of replication")),
        },
        b'c' | b'C' | b'Z' => Ok(Some(Copied::End)),
        b'S' => Ok(None),
        _ => Err(ConnectionError::Protocol("a message in a copy")),
    }
}

fn row(body: &mut Bytes) -> Result<Row, ConnectionError> {
    let count = take_u16(body)?;
    let mut row = Vec::with_capacity(count.into());
    for _ in 0..count {
        let length = take_u32(body)?;
        row.push(if length == u32::MAX { None } else { Some(take(body, length as usize)?) });
    }
    Ok(row)
}

fn server_error(body: &mut Bytes) -> Result<ServerError, ConnectionError> {
    let mut error = ServerError { code: String::new(), message: String::new(), detail: None, hint: None };
    loop {
        let field = take(body, 1)?[0];
        if field == 0 {
            return Ok(error);
        }
        let text = take_text(body)?;
        match field {
            b'C' => error.code = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            _ => {}
        }
    }
}

fn put_text(body: &mut BytesMut, text: &str) {
    body.extend_from_slice(text.as_bytes());
    body.put_u8(0);
}

pub(super) fn take(body: &mut Bytes, length: usize) -> Result<Bytes, ConnectionError> {
    if body.len() < length {
        return Err(ConnectionError::Protocol("a message ends too early"));
    }
    Ok(body.split_to(length))
}

pub(super) fn take_u16(body: &mut Bytes) -> Result<u16, ConnectionError> {
    Ok(take(body, 2)?.get_u16())
}

pub(super) fn take_u32(body: &mut Bytes) -> Result<u32, ConnectionError> {
    Ok(take(body, 4)?.get_u32())
}

pub(super) fn take_u64(body: &mut Bytes) -> Result<u64, ConnectionError> {
    Ok(take(body, 8)?.get_u64())
}

/// A text that ends with a zero.
pub(super) fn take_text(body: &mut Bytes) -> Result<String, ConnectionError> {
    let end = body.iter().position(|byte| *byte == 0).ok_or(ConnectionError::Protocol("a text without end"))?;
    let text = body.split_to(end);
    body.advance(1);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// A time of the protocol, in microseconds since 2000.
pub(super) fn time(micros: i64) -> SystemTime {
    let since = Duration::from_micros(micros.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH + EPOCH;
    if micros < 0 { epoch - since } else { epoch + since }
}

/// An identifier as SQL has it, whatever its characters.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL has it, whatever its characters.
pub(super) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// What an operator can do about an error, where it is a known one.
pub(super) fn explained(error: &ConnectionError, url: &DatabaseUrl, secret: Option<&str>) -> SourceError {
    let (user, place) = (&url.user, url.place());
    let secret = secret.unwrap_or("password");
    let ConnectionError::Server(server) = error else {
        let told = SourceError::new(error.to_string());
        return match error {
            ConnectionError::Unreachable(..) | ConnectionError::TimedOut(_) => {
                told.help("is the server running, and is this its host and port?")
            }
            ConnectionError::NoPassword => {
                told.help(format!("name the secret that has the password of `{user}`: `password: DB_PASSWORD`"))
            }
            ConnectionError::Authentication(_) => told.help("let `pg_hba.conf` ask this user for `scram-sha-256`"),
            ConnectionError::Tls(tls) => match tls.help() {
                Some(help) => told.help(help),
                None => told,
            },
            _ => told,
        };
    };
    let told = |message: String| SourceError::new(message);
    match (&*server.code, &*server.message) {
        ("28P01", _) => told(format!("`{place}` refuses the password of `{user}`"))
            .help(format!("set the secret `{secret}` to the password this user has there")),
        ("28000", message) if message.contains("replication") => {
            told(format!("`{place}` lets `{user}` not replicate: {message}"))
                .help("let `pg_hba.conf` admit this user and host to the database; `replication` lines are for physical replicas")
        }
        ("28000", message) => told(format!("`{place}` does not let `{user}` in: {message}"))
            .help("make the user, or let `pg_hba.conf` admit it from this host"),
        ("3D000", _) => told(format!("the database `{}` does not exist at `{place}`", url.database))
            .help("correct the `url`, or make the database"),
        ("42501", message) if message.contains("replication") => {
            told(format!("`{user}` may not replicate: {message}")).help(format!("ALTER ROLE {} REPLICATION", identifier(user)))
        }
        ("42501", message) => told(format!("`{user}` may not: {message}")).help(format!(
            "grant it: `GRANT SELECT ON` the tables `TO {}`, or make it their owner",
            identifier(user)
        )),
        ("53400", message) => told(format!("the database has no room for another replication: {message}"))
            .help("raise `max_replication_slots` (a snapshot takes one more) or drop a slot nobody reads: `SELECT * FROM pg_replication_slots`"),
        ("53300", message) => told(format!("the database takes no more connections: {message}"))
            .help("raise `max_wal_senders` or `max_connections`; a trigger has two connections, and one more for a snapshot"),
        ("57P03" | "57P01" | "57P02", message) => told(format!("`{place}` is not up: {message}")),
        _ => {
            let mut message = server.message.clone();
            if let Some(detail) = &server.detail {
                message.push_str("; ");
                message.push_str(detail);
            }
            let error = told(format!("the database says: {message} ({})", server.code));
            match &server.hint {
                Some(hint) => error.help(hint),
                None => error,
            }
        }
    }
}
