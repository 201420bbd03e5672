//! `dunlin invoke`: one call of a function through the admin API, so that also functions without a route can be called.

use crate::{
    client::{CallError, Client, RequestBody, ServerArgs, empty, full},
    output::{BOLD, PLAIN, tell},
    report::{Exit, Failure},
};
use anyhow::Context as _;
use clap::Args;
use dunlin_events::FunctionName;
use futures_util::TryStreamExt as _;
use http::{HeaderName, HeaderValue, Method, Response, header, response::Parts};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use std::{
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    str::FromStr,
};
use tokio::io::AsyncRead;
use tokio_util::io::ReaderStream;

/// Call a function and print what it answers.
///
/// The exit code is 0 for a status below 400 and 5 for any other.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunlin invoke hello
  dunlin invoke billing '/invoices/7?full=1' -H 'accept: application/json' -i
  dunlin invoke upper -d 'some text'
  dunlin invoke upper -d @book.txt > BOOK.txt
  zcat log.gz | dunlin invoke word-count -d -")]
pub(crate) struct InvokeArgs {
    /// The function.
    name: FunctionName,
    /// The path it is called with, and the query.
    #[arg(default_value = "/")]
    path: RequestPath,
    /// The method; GET, or POST when there is data.
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<Method>,
    /// A header, as `name: value`. Can be given more than once.
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<Header>,
    /// The request's body: a text, @FILE for a file's content, or - for stdin.
    #[arg(short, long, value_name = "DATA")]
    data: Option<String>,
    /// Print the response's status and headers, too.
    #[arg(short, long)]
    include: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// A path with its query, as a URL has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct RequestPath(String);

impl FromStr for RequestPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err("it must begin with `/`".into());
        }
        match text.parse::<http::uri::PathAndQuery>() {
            // The parser drops a fragment in silence; nobody who wrote one wants that.
            Ok(path) if path.as_str() == text => Ok(Self(text.to_owned())),
            _ => Err("write it as in a URL: no spaces, no `#`, anything special percent-encoded".into()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Header(HeaderName, HeaderValue);

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("write it as `name: value`")?;
        let name = name.trim().parse().map_err(|_| format!("`{name}` is not a header's name"))?;
        let value = HeaderValue::from_str(value.trim()).map_err(|_| "the value holds control characters".to_owned())?;
        Ok(Self(name, value))
    }
}

pub(crate) async fn run(args: InvokeArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let body = body(args.data.as_deref()).await?;
    let method = args.method.unwrap_or(if args.data.is_some() { Method::POST } else { Method::GET });
    let mut request = client
        .request(method, &format!("/api/functions/{}/invoke{}", args.name, args.path.0))
        .body(body)
        .context("the request can't be built")?;
    for Header(name, value) in args.headers {
        // The token goes to the platform, so a function can't be given an `authorization` of its own.
        if name == header::AUTHORIZATION {
            let failure = Failure::refused("`authorization` carries the platform's token when a function is invoked");
            return Err(failure.help("call the function at its route to test its own authorization").into());
        }
        if name == header::USER_AGENT {
            request.headers_mut().insert(name, value);
        } else {
            request.headers_mut().append(name, value);
        }
    }
    let response = client.send(request).await?;
    // Every answer of a function names its invocation; without one it is the platform that speaks.
    let Some(invocation) = response.headers().get("dunlin-invocation").cloned() else {
        return Err(platform_problem(&client, response).await);
    };
    let (head, body) = response.into_parts();
    print(&head, body, args.include, &client).await?;
    if head.status.as_u16() < 400 {
        return Ok(ExitCode::SUCCESS);
    }
    let invocation = invocation.to_str().unwrap_or("?");
    tell(format_args!(
        "{BOLD}`{}` answered {}{PLAIN}, see `dunlin logs {} --invocation {invocation}`",
        args.name, head.status, args.name
    ));
    Ok(Exit::ErrorStatus.into())
}

/// The body that `--data` stands for. Files and stdin are streamed.
async fn body(data: Option<&str>) -> anyhow::Result<RequestBody> {
    match data {
        None => Ok(empty()),
        Some("-" | "@-") => Ok(stream(tokio::io::stdin())),
        Some(text) => match text.strip_prefix('@') {
            None => Ok(full(text.to_owned().into())),
            Some(path) => {
                let path = Path::new(path);
                let failed = || format!("the data in `{}` can't be read", path.display());
                let file = tokio::fs::File::open(path).await.with_context(failed)?;
                anyhow::ensure!(
                    !file.metadata().await.with_context(failed)?.is_dir(),
                    "`{}` is a folder",
                    path.display()
                );
                Ok(stream(file))
            }
        },
    }
}

fn stream(reader: impl AsyncRead + Send + 'static) -> RequestBody {
    StreamBody::new(ReaderStream::with_capacity(reader, 64 << 10).map_ok(Frame::data)).boxed_unsync()
}

/// Prints a response as it comes.
async fn print(head: &Parts, mut body: Incoming, include: bool, client: &Client) -> anyhow::Result<()> {
    let mut stdout = io::stdout();
    if include {
        stdout.write_all(&written(head))?;
        stdout.flush()?;
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            client
                .broken_off()
                .because(error)
                .help("the function failed after its answer had begun: look at `dunlin logs`")
        })?;
        if let Some(data) = frame.data_ref() {
            stdout.write_all(data)?;
            stdout.flush()?;
        }
    }
    Ok(())
}

/// The head of a response as HTTP/1.1 writes it.
fn written(head: &Parts) -> Vec<u8> {
    let mut text = format!("{:?} {}\n", head.version, head.status).into_bytes();
    for (name, value) in &head.headers {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
    }
    text.push(b'\n');
    text
}

async fn platform_problem(client: &Client, response: Response<Incoming>) -> anyhow::Error {
    let status = response.status();
    match response.into_body().collect().await {
        Ok(body) => match client.problem(status, &body.to_bytes()) {
            CallError::Failed(error) => error,
            problem => problem.into(),
        },
        Err(error) => client.broken_off().because(error).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_headers_are_read_as_they_are_sent() {
        for good in ["/", "/invoices/7?full=1", "/a%20b/", "//x"] {
            assert_eq!(good.parse(), Ok(RequestPath(good.into())));
        }
        for bad in ["", "x", "/a b", "/a#b", "http://a/b"] {
            assert!(bad.parse::<RequestPath>().is_err(), "{bad}");
        }
        let header: Header = "X-Names:  a: b ".parse().unwrap();
        assert_eq!(header, Header("x-names".parse().unwrap(), HeaderValue::from_static("a: b")));
        for bad in ["no colon", ": x", "a b: c", "a: b\nc: d"] {
            assert!(bad.parse::<Header>().is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn data_is_a_text_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        std::fs::write(&path, "from a file").unwrap();
        let read = async |data: &str| body(Some(data)).await.unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(read("a text").await, "a text");
        assert_eq!(read(&format!("@{}", path.display())).await, "from a file");
        assert!(body(Some("@/nonexistent")).await.unwrap_err().to_string().contains("`/nonexistent` can't be read"));
        assert!(body(Some(&format!("@{}", folder.path().display()))).await.is_err());
    }
}
