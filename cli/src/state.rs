//! `dunlin state`: what functions remember, to be looked at and mended by hand.

use crate::{
    client::{Client, SOON, ServerArgs, empty, full, segment},
    output::{confirm, count, print, print_json, printable, size, table, tell},
    publish::data,
};
use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use dunlin_events::state::{Bucket, MAX_VALUE};
use dunlin_gateway::api::{BucketList, Cleared, KeyList};
use http::{Method, header};
use http_body_util::BodyExt as _;
use serde::Serialize;
use std::io::{self, Write as _};

/// Look at the state of functions, and change it.
///
/// State is in buckets: `function:NAME` is a function's own, `shared:NAME` one that functions share. A function that runs on
/// a key that is changed here runs again.
#[derive(Debug, Args)]
pub(crate) struct StateArgs {
    #[command(subcommand)]
    command: StateCommand,
}

#[derive(Debug, Subcommand)]
enum StateCommand {
    List(ListArgs),
    Get(GetArgs),
    Set(SetArgs),
    Delete(DeleteArgs),
    Clear(ClearArgs),
}

/// List the buckets, or the keys of one.
#[derive(Debug, Args)]
struct ListArgs {
    /// The bucket.
    bucket: Option<Bucket>,
    /// Only keys that begin with this.
    #[arg(long, requires = "bucket")]
    prefix: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Print what a key holds, as it is.
#[derive(Debug, Args)]
struct GetArgs {
    /// The bucket.
    bucket: Bucket,
    /// The key.
    key: String,
    /// Print JSON: the value (in base64 where it isn't text) and its revision.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Write a value.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunlin state set function:counter visits 0
  dunlin state set shared:carts customer/12 @cart.json")]
struct SetArgs {
    /// The bucket.
    bucket: Bucket,
    /// The key.
    key: String,
    /// The value: a text, @FILE for a file's content, or - for stdin.
    value: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Delete a key.
#[derive(Debug, Args)]
struct DeleteArgs {
    /// The bucket.
    bucket: Bucket,
    /// The key.
    key: String,
    #[command(flatten)]
    server: ServerArgs,
}

/// Delete all keys of a bucket.
#[derive(Debug, Args)]
struct ClearArgs {
    /// The bucket.
    bucket: Bucket,
    /// Don't ask.
    #[arg(long, short)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) async fn run(args: StateArgs) -> anyhow::Result<()> {
    match args.command {
        StateCommand::List(ListArgs { bucket: None, json, server, .. }) => buckets(json, &server).await,
        StateCommand::List(ListArgs { bucket: Some(bucket), prefix, json, server }) => {
            keys(&bucket, prefix.as_deref().unwrap_or_default(), json, &server).await
        }
        StateCommand::Get(args) => get(args).await,
        StateCommand::Set(args) => set(args).await,
        StateCommand::Delete(args) => delete(args).await,
        StateCommand::Clear(args) => clear(args).await,
    }
}

fn path(bucket: &Bucket, key: &str) -> String {
    format!("/api/state/{bucket}/{}", segment(key))
}

async fn buckets(json: bool, server: &ServerArgs) -> anyhow::Result<()> {
    let list: BucketList = Client::new(server)?.get("/api/state").await?;
    if json {
        return print_json(&list);
    }
    if list.buckets.is_empty() {
        tell("no function remembers anything yet");
        return Ok(());
    }
    let rows = list.buckets.iter().map(|info| [info.bucket.to_string(), info.keys.to_string(), size(info.bytes)]);
    Ok(print(table(["BUCKET", "KEYS", "SIZE"], rows))?)
}

async fn keys(bucket: &Bucket, prefix: &str, json: bool, server: &ServerArgs) -> anyhow::Result<()> {
    let client = Client::new(server)?;
    let mut list = KeyList { keys: Vec::new(), next: None };
    loop {
        let after = list.next.map(|key| format!("&after={}", segment(&key))).unwrap_or_default();
        let path = format!("/api/state/{bucket}?limit=10000&prefix={}{after}", segment(prefix));
        let more: KeyList = client.get(&path).await?;
        list.next = more.next;
        if json {
            list.keys.extend(more.keys);
        } else {
            for key in &more.keys {
                print(printable(key))?;
            }
        }
        if list.next.is_none() {
            return if json { print_json(&list) } else { Ok(()) };
        }
    }
}

/// A value for programs.
#[derive(Serialize)]
struct Value<'a> {
    bucket: &'a Bucket,
    key: &'a str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

async fn get(args: GetArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let request = client.request(Method::GET, &path(&args.bucket, &args.key)).body(empty());
    let response = client.send(request.context("the request can't be built")?).await?;
    let (head, body) = response.into_parts();
    let value = body.collect().await.map_err(|error| client.broken_off().because(error))?.to_bytes();
    if !head.status.is_success() {
        return Err(client.problem(head.status, &value).into());
    }
    if !args.json {
        let mut stdout = io::stdout().lock();
        stdout.write_all(&value)?;
        return Ok(stdout.flush()?);
    }
    let revision = head.headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()?.trim_matches('"').parse().ok());
    let text = std::str::from_utf8(&value).ok();
    print_json(&Value {
        bucket: &args.bucket,
        key: &args.key,
        revision: revision.context("the platform's answer names no revision")?,
        value: text,
        value_base64: text.is_none().then(|| STANDARD.encode(&value)),
    })
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let value = data(&args.value, MAX_VALUE as u64, "a value").await?;
    let client = Client::new(&args.server)?;
    let request = client.request(Method::PUT, &path(&args.bucket, &args.key));
    let request = request.header(header::CONTENT_TYPE, "application/octet-stream");
    let bytes = size(value.len() as u64);
    client.bytes(request, full(value), SOON).await?;
    Ok(print(format!("`{}` in `{}` holds {bytes} now", printable(&args.key), args.bucket))?)
}

async fn delete(args: DeleteArgs) -> anyhow::Result<()> {
    Client::new(&args.server)?.delete(&path(&args.bucket, &args.key)).await?;
    Ok(print(format!("`{}` in `{}` is deleted", printable(&args.key), args.bucket))?)
}

async fn clear(args: ClearArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    if !args.yes {
        let question = format!("Delete all keys of `{}` from {}?", args.bucket, client.server());
        confirm(&question, "nothing was deleted").await?;
    }
    let request = client.request(Method::DELETE, &format!("/api/state/{}", args.bucket));
    let answer: Cleared = client.call(request, empty(), SOON).await?;
    if args.json {
        return print_json(&answer);
    }
    Ok(print(format!("{} of `{}` deleted", count(answer.cleared, "key"), args.bucket))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_of_the_path() {
        let bucket = "shared:carts".parse().unwrap();
        assert_eq!(path(&bucket, "customer/12 ä"), "/api/state/shared:carts/customer%2F12%20%C3%A4");
    }
}
