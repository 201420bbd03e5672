//! What can be asked of the admin plane: the list, and what is done for each.

use super::{
    App,
    openapi::{Answers, Content, Operation},
    refusal::Refusal,
};
use crate::{
    active::ActiveFunction,
    api::{
        Activity, DeployRequest, DeployResponse, DeployedFunction, FunctionDetail, FunctionList, FunctionProblem,
        FunctionSummary, Health, LogLine, LogQuery, NewFunction, RollbackRequest, VersionList,
    },
    deploy::DeployError,
    http::{
        call::{CallContext, call},
        data::is_plain,
        routes::{Found, Parameters, Routes},
    },
    logs::{Filter, Reader},
    metrics,
};
use axum::{
    Router,
    body::{Body, HttpBody},
    extract::{FromRequestParts, Query, RawPathParams, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::{any, delete, get, post, put},
};
use bytes::{Bytes, BytesMut};
use dunlin_events::{
    Component, Digest, Failure, FunctionName, Manifest, manifest::Problem, registry::RegistryError, units::ByteSize,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts, uri::Authority};
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use std::{convert::Infallible, fmt::Display, str::FromStr, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// A manifest has some 500 bytes: room for ten thousand large ones in one deploy.
const DEPLOY_LIMIT: u64 = 64 << 20;
/// What a small JSON request may hold.
const SMALL_LIMIT: u64 = 64 << 10;
/// In an invocation through the admin plane: what the function shall see as `Authorization`.
const INVOKE_AUTHORIZATION: HeaderName = HeaderName::from_static("dunlin-authorization");
/// How long an upload may stand still.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Every operation; the router and the OpenAPI document are made of this.
pub(super) fn all() -> Vec<Operation> {
    let answers = |content| Answers::Content(content);
    vec![
        Operation {
            methods: &["get"],
            path: "/health",
            id: "health",
            summary: "Whether the platform is there. Needs no token.",
            takes: None,
            answers: answers(Content::json::<Health>()),
            refuses: &[],
            handler: get(health),
        },
        Operation {
            methods: &["get"],
            path: "/metrics",
            id: "metrics",
            summary: "The counters, for Prometheus.",
            takes: None,
            answers: answers(Content::raw(METRICS)),
            refuses: &[],
            handler: get(async |State(app): Shared| {
                ([(header::CONTENT_TYPE, METRICS)], metrics::text(&app.deployments))
            }),
        },
        Operation {
            methods: &["get"],
            path: "/api/openapi.json",
            id: "openapi",
            summary: "This document.",
            takes: None,
            answers: answers(Content::raw(JSON)),
            refuses: &[],
            handler: get(async |State(app): Shared| ([(header::CONTENT_TYPE, JSON)], app.openapi.clone())),
        },
        Operation {
            methods: &["get"],
            path: "/api/components/{digest}",
            id: "component",
            summary: "What is known of a component that was uploaded or deployed. 404 means that it must be uploaded.",
            takes: None,
            answers: answers(Content::json::<Component>()),
            refuses: &[400, 404, 503],
            handler: get(component),
        },
        Operation {
            methods: &["put"],
            path: "/api/components/{digest}",
            id: "upload",
            summary: "Uploads a component and compiles it. It waits an hour for a deploy that uses it.",
            takes: Some(Content::raw("application/wasm")),
            answers: answers(Content::json::<Component>()),
            refuses: &[400, 408, 413, 422, 503, 507],
            handler: put(upload),
        },
        Operation {
            methods: &["post"],
            path: "/api/deployments",
            id: "deploy",
            summary: "Deploys functions: all of them, or nothing changes and `errors` says everything that is wrong.",
            takes: Some(Content::json::<DeployRequest>()),
            answers: answers(Content::json::<DeployResponse>()),
            refuses: &[400, 408, 413, 422, 503, 507],
            handler: post(deploy),
        },
        Operation {
            methods: &["get"],
            path: "/api/functions",
            id: "functions",
            summary: "Every function with its active version.",
            takes: None,
            answers: answers(Content::json::<FunctionList>()),
            refuses: &[],
            handler: get(functions),
        },
        Operation {
            methods: &["get"],
            path: "/api/functions/{name}",
            id: "function",
            summary: "One function in full.",
            takes: None,
            answers: answers(Content::json::<FunctionDetail>()),
            refuses: &[400, 404],
            handler: get(function),
        },
        Operation {
            methods: &["delete"],
            path: "/api/functions/{name}",
            id: "remove",
            summary: "Forgets a function with all its versions.",
            takes: None,
            answers: Answers::Nothing,
            refuses: &[400, 404, 503],
            handler: delete(remove),
        },
        Operation {
            methods: &["get"],
            path: "/api/functions/{name}/versions",
            id: "versions",
            summary: "A function's versions, newest first.",
            takes: None,
            answers: answers(Content::json::<VersionList>()),
            refuses: &[400, 404, 503],
            handler: get(versions),
        },
        Operation {
            methods: &["post"],
            path: "/api/functions/{name}/rollback",
            id: "rollback",
            summary: "Makes an earlier version the active one. 409 when there is none, or when it doesn't fit what is deployed now.",
            takes: Some(Content::json::<RollbackRequest>().optional()),
            answers: answers(Content::json::<FunctionSummary>()),
            refuses: &[400, 404, 408, 409, 413, 422, 503],
            handler: post(rollback),
        },
        Operation {
            methods: INVOKE_METHODS,
            path: "/api/functions/{name}/invoke",
            id: "invoke",
            summary: "Runs the function for this request, with the path `/`, whatever its triggers.",
            takes: Some(Content::raw("*/*").optional()),
            answers: Answers::Function,
            refuses: &[400, 404],
            handler: any(invoke),
        },
        Operation {
            methods: INVOKE_METHODS,
            path: "/api/functions/{name}/invoke/{*path}",
            id: "invoke-path",
            summary: "Runs the function for this request, with this path, whatever its triggers.",
            takes: Some(Content::raw("*/*").optional()),
            answers: Answers::Function,
            refuses: &[400, 404],
            handler: any(invoke),
        },
        Operation {
            methods: &["get"],
            path: "/api/logs",
            id: "logs",
            summary: "What functions printed and the platform wrote of them, a JSON object a line.",
            takes: None,
            answers: answers(Content::lines::<LogLine>()),
            refuses: &[400],
            handler: get(logs),
        },
    ]
}

/// The router of all operations.
pub(super) fn router() -> Router<Arc<App>> {
    all()
        .into_iter()
        .fold(Router::new(), |router, operation| router.route(operation.path, operation.handler))
        .route("/api/functions/{name}/invoke/", any(invoke)) // `{*path}` doesn't match no path at all
        .fallback(super::not_found)
        .method_not_allowed_fallback(super::method_not_allowed)
}

const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const LINES: &str = "application/x-ndjson";

const INVOKE_METHODS: &[&str] = &["get", "put", "post", "delete", "options", "head", "patch"];

type Shared = State<Arc<App>>;
type Answer = Result<Response, Refusal>;

async fn health(State(app): Shared) -> Response {
    let version = env!("CARGO_PKG_VERSION").into();
    json(&Health { status: "ok".into(), version, max_component: app.component_limit })
}

async fn component(State(app): Shared, Named(digest): Named<Digest>) -> Answer {
    let component = app.deployments.component(digest).await?;
    component.as_ref().map(json).ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, format!("the component {digest} was neither uploaded nor deployed"))
    })
}

async fn upload(State(app): Shared, Named(digest): Named<Digest>, body: Body) -> Answer {
    let bytes = read(body, app.component_limit, "component").await?;
    Ok(json(&app.deployments.stage(digest, bytes).await?))
}

async fn deploy(State(app): Shared, body: Body) -> Answer {
    let request: Request = parse(&read(body, DEPLOY_LIMIT, "deploy").await?)?;
    let (places, functions, mut problems) = read_functions(request.functions);
    let deployments = &app.deployments;
    let result = if request.dry_run || !problems.is_empty() {
        deployments.check(functions).await.map(|planned| {
            let planned = planned.into_iter().map(|function| DeployedFunction {
                name: function.manifest.name,
                version: function.unchanged,
                unchanged: function.unchanged.is_some(),
                triggers: function.manifest.triggers,
            });
            planned.collect()
        })
    } else {
        deployments.deploy(functions).await.map(|deployed| {
            let deployed = deployed.into_iter().map(|function| DeployedFunction {
                name: function.version.manifest.name,
                version: Some(function.version.number),
                unchanged: function.unchanged,
                triggers: function.version.manifest.triggers,
            });
            deployed.collect()
        })
    };
    match result {
        Ok(functions) if problems.is_empty() => Ok(json(&DeployResponse { functions, dry_run: request.dry_run })),
        Ok(_) => Err(DeployError::Problems(problems).into()),
        Err(DeployError::Problems(found)) => {
            problems
                .extend(found.into_iter().map(|problem| FunctionProblem { index: places[problem.index], ..problem }));
            problems.sort_by_key(|problem| problem.index);
            Err(DeployError::Problems(problems).into())
        }
        Err(error) => Err(error.into()),
    }
}

/// A [`DeployRequest`] whose functions are not read yet: each is read by itself, so that all their errors are found.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    functions: Vec<Box<RawValue>>,
    #[serde(default)]
    dry_run: bool,
}

/// Reads the functions of a deploy: those that can be read with their places in the request, and what is wrong with the
/// others.
fn read_functions(functions: Vec<Box<RawValue>>) -> (Vec<usize>, Vec<(Manifest, Digest)>, Vec<FunctionProblem>) {
    let (mut places, mut good, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for (index, json) in functions.into_iter().enumerate() {
        match serde_json::from_str::<NewFunction>(json.get()) {
            Ok(function) => {
                places.push(index);
                good.push((function.manifest, function.component));
            }
            Err(error) => problems.push(unreadable(index, json.get(), &error)),
        }
    }
    (places, good, problems)
}

/// Why a function of a deploy can't be read, and where.
fn unreadable(index: usize, json: &str, error: &serde_json::Error) -> FunctionProblem {
    // Read a second time as a tree: its errors have a place in the manifest in place of one in the request's text.
    let tree = serde_json::from_str::<Value>(json).unwrap_or_default();
    let name = tree.pointer("/manifest/name").and_then(Value::as_str).and_then(|name| name.parse().ok());
    let problem = match serde_path_to_error::deserialize::<_, NewFunction>(tree) {
        Err(error) => Problem::new(pointer(error.path()), error.inner().to_string()),
        // A tree has no key twice any more.
        Ok(_) => Problem::new("", error.to_string()),
    };
    FunctionProblem { function: name, index, problem }
}

/// The place in the manifest, as a JSON Pointer (RFC 6901). What is beside the manifest, the component's digest, has the
/// place of the manifest's `component`.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut segments = path.iter().peekable();
    segments.next_if(|segment| matches!(segment, Segment::Map { key } if key == "manifest"));
    let mut pointer = String::new();
    for segment in segments {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

async fn functions(State(app): Shared) -> Response {
    let table = app.deployments.table();
    json(&FunctionList { functions: table.functions.values().map(|function| summary(function)).collect() })
}

async fn function(State(app): Shared, Named(name): Named<FunctionName>) -> Answer {
    let function = active(&app, &name)?;
    Ok(json(&FunctionDetail { name, active: function.version.clone(), activity: activity(&function) }))
}

async fn remove(State(app): Shared, Named(name): Named<FunctionName>) -> Result<StatusCode, Refusal> {
    app.deployments.remove(name).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn versions(State(app): Shared, Named(name): Named<FunctionName>) -> Answer {
    let versions = app.deployments.versions(&name).await?;
    Ok(json(&VersionList { active: versions.active, versions: versions.versions }))
}

async fn rollback(State(app): Shared, Named(name): Named<FunctionName>, body: Body) -> Answer {
    let bytes = read(body, SMALL_LIMIT, "request").await?;
    let RollbackRequest { to } = if bytes.is_empty() { RollbackRequest::default() } else { parse(&bytes)? };
    Ok(json(&summary(&*app.deployments.rollback(name, to).await?)))
}

/// Runs a function for the request, less the path's beginning.
async fn invoke(State(app): Shared, Named(name): Named<FunctionName>, request: axum::extract::Request) -> Answer {
    let function = active(&app, &name)?;
    let (mut head, body) = request.into_parts();
    head.extensions.clear();
    let bad = |detail: &str| Refusal::new(StatusCode::BAD_REQUEST, detail);
    let host = head.headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let authority = head.uri.authority().cloned().or(host).ok_or_else(|| bad("the request has no `Host`"))?;
    // As it was sent: what is decoded once too often means something else.
    let path = head.uri.path().splitn(6, '/').nth(5).unwrap_or_default();
    let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("/{path}{query}");
    if !is_plain(path.split('?').next().unwrap_or_default()) {
        return Err(bad("the path has a `.` or `..` segment, or characters a URL must encode"));
    }
    let uri = Uri::builder().scheme(app.scheme.clone()).authority(authority).path_and_query(path);
    head.uri = uri.build().map_err(|error| bad(&error.to_string()))?;

    // The token is the platform's secret, not the function's. Who has something for the function says it otherwise.
    let authorization = head.headers.remove(INVOKE_AUTHORIZATION);
    if app.token || authorization.is_some() {
        head.headers.remove(header::AUTHORIZATION);
        head.headers.extend(authorization.map(|value| (header::AUTHORIZATION, value)));
    }

    let mut context = CallContext::new(app.worker, Arc::clone(app.deployments.logs()) as _);
    context.parameters = parameters(&function, &head.method, head.uri.path());
    let body = body.map_err(|error| Failure::RequestBody(error.to_string())).boxed_unsync();
    let response = call(&function, http::Request::from_parts(head, body), context).await;
    let mut response = response.map(Body::new);
    // A page of the function's must not run its scripts where the admin API would take them for its own.
    response.headers_mut().append(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    Ok(response)
}

/// What the path means to the function, when one of its triggers has such a path.
fn parameters(function: &Arc<ActiveFunction>, method: &Method, path: &str) -> Parameters {
    let Ok(routes) = Routes::build([Arc::clone(function)]) else { return Parameters::new() };
    let manifest = &function.version.manifest;
    let hosts =
        manifest.http_triggers().filter_map(|(_, http)| Some(http.host.as_ref()?.as_str().replacen('*', "any", 1)));
    let found = hosts.map(Some).chain([None]).find_map(|host| match routes.find(host.as_deref(), method, path) {
        Found::Function { parameters, .. } => Some(parameters),
        Found::MethodNotAllowed { .. } | Found::NotFound => None,
    });
    found.unwrap_or_default()
}

async fn logs(State(app): Shared, query: Result<Query<LogQuery>, QueryRejection>) -> Answer {
    let Query(query) = query.map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let filter = Filter { function: query.function, invocation: query.invocation };
    let reader = app.deployments.logs().read(filter, query.tail);
    let lines = if query.follow {
        Body::from_stream(futures_util::stream::unfold((reader.follow(), app.stopping.clone()), following))
    } else {
        // A part at a time, so that a slow reader holds no copy of the whole log.
        Body::from_stream(futures_util::stream::iter(reader.map(|lines| Lines::Ok(text(&lines)))))
    };
    Ok(([(header::CONTENT_TYPE, LINES)], lines).into_response())
}

type Lines = Result<Bytes, Infallible>;

/// The next lines, as soon as there are some. Ends with the plane.
async fn following(
    (mut reader, stopping): (Reader, CancellationToken),
) -> Option<(Lines, (Reader, CancellationToken))> {
    loop {
        match reader.next() {
            Some(lines) if lines.is_empty() => tokio::task::yield_now().await, // none of many matched
            Some(lines) => return Some((Ok(text(&lines)), (reader, stopping))),
            None => stopping.run_until_cancelled(reader.ready()).await?,
        }
    }
}

fn text(lines: &[LogLine]) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line).expect("a log line has text for keys");
        text.push(b'\n');
    }
    text.into()
}

fn active(app: &App, name: &FunctionName) -> Result<Arc<ActiveFunction>, RegistryError> {
    let table = app.deployments.table();
    table.functions.get(name).cloned().ok_or_else(|| RegistryError::NoFunction(name.clone()))
}

fn summary(function: &ActiveFunction) -> FunctionSummary {
    let version = &function.version;
    FunctionSummary {
        name: version.name().clone(),
        version: version.number,
        shape: version.component.shape,
        triggers: version.manifest.triggers.clone(),
        component: version.component.digest,
        size: version.component.size,
        deployed_at: version.deployed_at,
        activity: activity(function),
    }
}

fn activity(function: &ActiveFunction) -> Activity {
    let (load, counts) = (function.handle.load(), function.counters.read());
    Activity {
        running: load.running,
        waiting: load.waiting,
        invocations: counts.invocations(),
        succeeded: counts.succeeded,
        failed: counts.failed().map(|(reason, count)| (reason.to_owned(), count)).collect(),
        seconds: counts.seconds,
    }
}

/// The path's first parameter, read as what it names.
struct Named<T>(T);

impl<S: Send + Sync, T: FromStr<Err: Display>> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let bad = |reason: String| Refusal::new(StatusCode::BAD_REQUEST, reason);
        let parameters =
            RawPathParams::from_request_parts(parts, state).await.map_err(|error| bad(error.body_text()))?;
        let (_, text) = parameters.iter().next().expect("its routes have a parameter");
        text.parse().map(Self).map_err(|error: T::Err| bad(error.to_string()))
    }
}

/// Reads a body that may hold so many bytes. What is larger is refused as soon as that is known: before the first byte,
/// when its length was declared.
async fn read(mut body: Body, limit: u64, what: &str) -> Result<Bytes, Refusal> {
    let too_large = || {
        let limit = ByteSize(limit);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the {what} is larger than the platform takes ({limit})"))
    };
    let declared = body.size_hint().lower();
    if declared > limit {
        return Err(too_large());
    }
    let mut bytes = BytesMut::with_capacity(usize::try_from(declared).map_err(|_| too_large())?);
    loop {
        let frame = tokio::time::timeout(BODY_TIMEOUT, body.frame()).await.map_err(|_| {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, format!("the {what} did not come on for {BODY_TIMEOUT:?}"))
        })?;
        match frame {
            None => return Ok(bytes.freeze()),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if (bytes.len() + data.len()) as u64 > limit {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&data);
            }
            Some(Err(error)) => {
                return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("the {what} broke off: {error}")));
            }
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        Refusal::new(StatusCode::BAD_REQUEST, format!("the request is not what it should be: {error}"))
    })
}

fn json<T: Serialize>(value: &T) -> Response {
    let body = serde_json::to_vec(value).expect("the API's types have text for keys");
    ([(header::CONTENT_TYPE, JSON)], body).into_response()
}
