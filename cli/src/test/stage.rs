//! The platform cases are run on: a real one, in this process, with its data in the project's `.dunlin/test`.
//!
//! The compiled code of components is kept there from one time to the next; all else is made anew. A function is there alone:
//! what another would do with its events is not part of the case.

use super::case::{Case, Failed, Outcome, Response, State};
use crate::{
    build,
    client::{CallError, Client, SOON, ServerArgs, empty, full, segment},
    deploy,
    logs::{Lines, Query},
    manifest::ManifestFile,
    output::printable,
    report::Failure,
    up::{Platform, UpArgs, log_if_asked},
};
use anyhow::Context as _;
use dunlin_events::{
    Digest, Event, FunctionName,
    manifest::{From, Order, TopicTrigger, Trigger},
    state::Bucket,
    topics::{Offset, Topic, TopicName},
    units::epoch_millis,
};
use dunlin_gateway::api::{
    Cleared, ConsumerDetail, DeadLetterList, EventPage, KeyList, LogLine, PublishResponse, Published,
};
use dunlin_runtime::Compiler;
use http::{HeaderName, HeaderValue, Method, header};
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

/// How much longer than its own limit a run may take until it is settled.
const PATIENCE: Duration = Duration::from_secs(30);

/// The topic of an event whose case names none, and whose function reads none.
const TOPIC: &str = "test";

pub(super) struct Stage {
    platform: Platform,
    client: Client,
    /// The same for the functions' own addresses.
    functions: Client,
    secrets: PathBuf,
}

impl Stage {
    pub(super) async fn open(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("`{}` can't be read", path.display());
        let folder = path.canonicalize().with_context(failed)?;
        // Functions of one project may be tested side by side.
        let place = Digest::of(folder.as_os_str().as_encoded_bytes()).hex()[..16].to_owned();
        let data = build::own(if folder.is_dir() { &folder } else { folder.parent().unwrap_or(&folder) })?
            .join("test")
            .join(place);
        clear(&data)?;
        let secrets = data.join("secrets");
        fs::create_dir_all(&secrets).with_context(|| format!("`{}` can't be made", secrets.display()))?;
        let mut options = UpArgs::defaults()?;
        let free = "127.0.0.1:0".parse().context("it is an address")?;
        (options.listen, options.admin, options.token) = (free, free, None);
        (options.data, options.secrets) = (data, Some(secrets.clone()));
        (options.tls_cert, options.tls_key) = (None, None);
        options.compiler = Some(Compiler::Baseline);
        log_if_asked(&options)?;
        let platform = Platform::start(options).await?;
        let client = |server: String| Client::new(&ServerArgs { server: Some(server), token: None });
        let (client, functions) = (client(platform.admin_url())?, client(platform.functions_url())?);
        Ok(Self { platform, client, functions, secrets })
    }

    pub(super) async fn close(self) {
        self.platform.stop().await;
    }

    /// Deploys a function so that the cases can be made happen: it reads their topics, and nothing else starts it.
    pub(super) async fn deploy(&self, mut file: ManifestFile, cases: &[Case]) -> anyhow::Result<Function<'_>> {
        for secret in &file.manifest.allow.secrets {
            // A real one is taken, where there is one.
            let value = std::env::var(format!("DUNLIN_SECRET_{secret}")).unwrap_or_else(|_| "test".into());
            fs::write(self.secrets.join(secret.as_str()), value).context("a secret can't be written")?;
        }
        let manifest = &mut file.manifest;
        let usual = manifest.triggers.iter().find_map(|trigger| match trigger {
            Trigger::Topic(topic) => topic.name.as_str().parse::<TopicName>().ok(),
            _ => None,
        });
        let usual = usual.unwrap_or_else(|| TOPIC.parse().expect("it is a topic's name"));
        let of_case = |case: &Case| case.script.topic.clone().unwrap_or_else(|| usual.clone());
        let topics: BTreeSet<_> = cases.iter().filter(|case| case.script.event.is_some()).map(of_case).collect();
        manifest.triggers.retain(|trigger| matches!(trigger, Trigger::Http(_)));
        for topic in topics {
            let name = topic.as_str().parse().map_err(|error| anyhow::anyhow!("{error}"))?;
            manifest.triggers.push(Trigger::Topic(Box::new(TopicTrigger {
                name,
                filter: None,
                from: From::Beginning,
                order: Order::Key,
                concurrency: NonZeroU32::MIN,
                batch: None,
            })));
        }
        // What fails once has failed.
        manifest.retry.attempts = NonZeroU32::MIN;
        manifest.retry.dead_letter = None;
        deploy::deploy(&self.client, std::slice::from_ref(&file), false).await?;
        Ok(Function { stage: self, file, usual })
    }
}

/// Takes away what an earlier time left, but for the compiled code.
fn clear(data: &Path) -> anyhow::Result<()> {
    if let Err(error @ dunlin_store::OpenError::InUse { .. }) = dunlin_store::Store::examine(data) {
        let failure = Failure::refused("another `dunlin test` runs these functions").because(error);
        return Err(failure.help("wait for its end").into());
    }
    let Ok(entries) = fs::read_dir(data) else { return Ok(()) };
    for entry in entries.flatten() {
        let path = entry.path();
        let removed = match entry.file_name().to_str() {
            Some("cache") => continue,
            _ if path.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.with_context(|| format!("`{}` can't be removed", path.display()))?;
    }
    Ok(())
}

/// A function that is deployed.
pub(super) struct Function<'a> {
    stage: &'a Stage,
    file: ManifestFile,
    /// The topic of cases that name none.
    usual: TopicName,
}

impl Function<'_> {
    fn name(&self) -> &FunctionName {
        &self.file.manifest.name
    }

    /// Makes a case happen, and looks at what came of it.
    pub(super) async fn play(&self, case: &Case) -> anyhow::Result<Outcome> {
        let shared: BTreeSet<String> =
            case.script.given.iter().flat_map(|given| given.shared.keys().cloned()).collect();
        let shared: Vec<String> = shared.union(&self.shared_buckets()).cloned().collect();
        self.give(case, &shared).await?;
        let topics: BTreeSet<TopicName> = case
            .script
            .topics()
            .chain(&self.file.manifest.publish)
            .chain(&self.file.manifest.allow.publish)
            .cloned()
            .collect();
        let mut before = BTreeMap::new();
        for topic in &topics {
            before.insert(topic.clone(), self.end(topic).await?);
        }
        let mut outcome = Outcome { begun: epoch_millis(SystemTime::now()), ..Outcome::default() };
        if case.script.event.is_some() {
            outcome.failure = self.publish(case).await?;
        } else {
            outcome.response = Some(self.request(case).await?);
        }
        for (topic, from) in before {
            let events = self.events(&topic, from).await?;
            if self.file.manifest.publish.as_ref() == Some(&topic) {
                outcome.returned = events;
            } else if !events.is_empty() {
                outcome.published.insert(topic, events);
            }
        }
        // What a case says of the topic that gets what is returned is about the same events.
        if let Some(topic) = &self.file.manifest.publish
            && case.script.topics().any(|named| named == topic)
        {
            outcome.published.insert(topic.clone(), outcome.returned.clone());
        }
        outcome.state = self.state(&Bucket::Function(self.name().clone())).await?;
        for bucket in shared {
            let state = self.state(&self::shared(&bucket)?).await?;
            outcome.shared.insert(bucket, state);
        }
        Ok(outcome)
    }

    /// What was logged since a case began, a line each.
    pub(super) async fn logged(&self, outcome: &Outcome) -> anyhow::Result<Vec<String>> {
        let query = Query { function: Some(self.name().clone()), tail: 100, ..Query::default() };
        let (mut lines, mut logged) = (Lines::open(&self.stage.client, &query).await?, Vec::new());
        while let Some(line) = lines.next().await? {
            if let Ok(LogLine::Record(record)) = serde_json::from_slice(&line)
                && record.time >= outcome.begun
            {
                logged.extend(record.message.lines().map(|line| printable(line).into_owned()));
            }
        }
        Ok(logged)
    }

    pub(super) async fn remove(self) -> anyhow::Result<()> {
        Ok(self.stage.client.delete(&format!("/api/functions/{}", self.name())).await?)
    }

    fn shared_buckets(&self) -> BTreeSet<String> {
        match &self.file.manifest.allow.state {
            dunlin_events::manifest::AllowState::Own(_) => BTreeSet::new(),
            dunlin_events::manifest::AllowState::Shared(names) => names.iter().map(ToString::to_string).collect(),
        }
    }

    /// Makes the state what the case says it is.
    async fn give(&self, case: &Case, shared: &[String]) -> anyhow::Result<()> {
        let given = case.script.given.clone().unwrap_or_default();
        let mut buckets = vec![(Bucket::Function(self.name().clone()), given.state)];
        for name in shared {
            buckets.push((self::shared(name)?, given.shared.get(name).cloned().unwrap_or_default()));
        }
        let client = &self.stage.client;
        for (bucket, state) in buckets {
            let request = client.request(Method::DELETE, &format!("/api/state/{bucket}"));
            client.call::<Cleared>(request, empty(), SOON).await?;
            for (key, value) in state {
                let request = client.request(Method::PUT, &format!("/api/state/{bucket}/{}", segment(&key)));
                client.bytes(request, full(serde_json::to_vec(&value)?.into()), SOON).await?;
            }
        }
        Ok(())
    }

    /// Publishes the case's event, waits until it is settled, and answers with why it was not taken.
    async fn publish(&self, case: &Case) -> anyhow::Result<Option<Failed>> {
        let topic = case.script.topic.as_ref().unwrap_or(&self.usual);
        // A topic takes an id once, and each case is an event of its own.
        let event = case.script.incoming(&format!("{}-{}", case.name(), uuid::Uuid::now_v7()))?;
        let client = &self.stage.client;
        let request = client
            .request(Method::POST, &format!("/api/topics/{topic}/events"))
            .header(header::CONTENT_TYPE, "application/cloudevents+json");
        let answer: PublishResponse = client.call(request, full(event.to_json().into()), SOON).await?;
        let offset = match answer.events.first() {
            Some(Published::Taken { offset, duplicate: false, .. }) => *offset,
            Some(Published::Taken { offset, .. }) => {
                anyhow::bail!("its event has the `id` and `source` of event {offset}: give it another, or none")
            }
            Some(Published::Refused { error }) => {
                anyhow::bail!("its event was refused: `{}` {}", error.attribute, error.reason)
            }
            None => anyhow::bail!("the platform did not say what became of its event"),
        };
        let limit = self.file.manifest.limits.time + PATIENCE;
        let begun = Instant::now();
        let path = format!("/api/consumers/{}/{topic}", self.name());
        loop {
            // It is there once the function has begun to read.
            match client.get::<ConsumerDetail>(&path).await {
                Ok(detail) if detail.consumer.position > offset && detail.consumer.parked == 0 => break,
                Ok(_) => {}
                Err(CallError::Problem(problem)) if problem.status == 404 => {}
                Err(error) => return Err(error.into()),
            }
            anyhow::ensure!(begun.elapsed() < limit, "it was not settled within {} seconds", limit.as_secs());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let path = format!("/api/dead-letters?function={}&topic={topic}&limit=1", self.name());
        let letters: DeadLetterList = client.get(&path).await?;
        let letter = letters.dead_letters.into_iter().find(|letter| letter.offset == offset);
        Ok(letter.map(|letter| Failed { rejected: letter.reason == "rejected", error: letter.error }))
    }

    /// Sends the case's request to the function's own address.
    async fn request(&self, case: &Case) -> anyhow::Result<Response> {
        let request = case.script.request.as_ref().context("it has a request")?;
        let (body, json) = match &request.body {
            None => (Vec::new(), false),
            Some(Value::String(text)) => (text.clone().into_bytes(), false),
            Some(value) => (serde_json::to_vec(value)?, true),
        };
        let method = match &request.method {
            Some(method) => method.parse().with_context(|| format!("`{method}` is no method"))?,
            None if request.body.is_some() => Method::POST,
            None => Method::GET,
        };
        // A function without a route is called by its name.
        let routed = self.file.manifest.triggers.iter().any(|trigger| matches!(trigger, Trigger::Http(_)));
        let mut head = if routed {
            self.stage.functions.request(method, &request.path)
        } else {
            self.stage.client.request(method, &format!("/api/functions/{}/invoke{}", self.name(), request.path))
        };
        if json && !request.headers.keys().any(|name| name.eq_ignore_ascii_case("content-type")) {
            head = head.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in &request.headers {
            let name: HeaderName = name.parse().with_context(|| format!("`{name}` is no header's name"))?;
            head = head
                .header(name, HeaderValue::from_str(value).with_context(|| format!("{value:?} is no header's value"))?);
        }
        let request = head.body(full(body.into())).context("the request can't be built: is its path a path?")?;
        let response = self.stage.functions.send(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.context("the response broke off")?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        let is_json = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
            kind.split(';').next().is_some_and(|kind| kind == "application/json" || kind.ends_with("+json"))
        });
        let body = match serde_json::from_str(&text) {
            Ok(value) if is_json => value,
            _ => Value::String(text),
        };
        let unlike = [header::DATE.as_str(), header::CONTENT_LENGTH.as_str(), "dunlin-invocation"];
        let headers = head.headers.iter().filter(|(name, _)| !unlike.contains(&name.as_str()));
        let headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        Ok(Response { status: Some(head.status.as_u16()), headers: headers.collect(), body: Some(body) })
    }

    /// The offset the topic's next event will have.
    async fn end(&self, topic: &TopicName) -> anyhow::Result<Offset> {
        match self.stage.client.get::<Topic>(&format!("/api/topics/{topic}")).await {
            Ok(topic) => Ok(topic.end),
            Err(CallError::Problem(problem)) if problem.status == 404 => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    async fn events(&self, topic: &TopicName, from: Offset) -> anyhow::Result<Vec<Event>> {
        match self.stage.client.get::<EventPage>(&format!("/api/topics/{topic}/events?from={from}&limit=10000")).await {
            Ok(page) => Ok(page.events.into_iter().map(|record| record.event).collect()),
            Err(CallError::Problem(problem)) if problem.status == 404 => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// All there is in a bucket. What isn't JSON is a text.
    async fn state(&self, bucket: &Bucket) -> anyhow::Result<State> {
        let client = &self.stage.client;
        let keys = match client.get::<KeyList>(&format!("/api/state/{bucket}?limit=10000")).await {
            Ok(list) => list.keys,
            Err(CallError::Problem(problem)) if problem.status == 404 => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let mut state = State::new();
        for key in keys {
            let request = client.request(Method::GET, &format!("/api/state/{bucket}/{}", segment(&key)));
            let bytes = client.bytes(request, empty(), SOON).await?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            state.insert(key, serde_json::from_str(&text).unwrap_or(Value::String(text)));
        }
        Ok(state)
    }
}

fn shared(name: &str) -> anyhow::Result<Bucket> {
    format!("shared:{name}").parse().map_err(|error| anyhow::anyhow!("`{name}` is no bucket's name: {error}"))
}
