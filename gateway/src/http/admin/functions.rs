//! Functions: uploading their components, deploying them, looking at them, going back, and running one.

use super::{
    App,
    openapi::{Content, Operation},
    refusal::Refusal,
    request::{Answer, Asked, Named, Shared, bad, json, parse, read, read_json_or_nothing},
};
use crate::{
    active::ActiveFunction,
    api::{
        Activity, DeployRequest, DeployResponse, DeployedFunction, FunctionDetail, FunctionList, FunctionProblem,
        FunctionSummary, NewFunction, RemoveQuery, RollbackRequest, VersionList,
    },
    deploy::DeployError,
    http::{
        call::{CallContext, call},
        data::is_plain,
        routes::{Found, Parameters, Routes},
    },
};
use axum::{body::Body, extract::State, response::Response};
use dunlin_events::{Component, Digest, Failure, FunctionName, Manifest, manifest::Problem, registry::RegistryError};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header, uri::Authority};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use std::sync::Arc;

/// A manifest has some 500 bytes: room for ten thousand large ones in one deploy.
const DEPLOY_LIMIT: u64 = 64 << 20;
/// In an invocation through the admin plane: what the function shall see as `Authorization`.
const INVOKE_AUTHORIZATION: HeaderName = HeaderName::from_static("dunlin-authorization");

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::get(
            "/api/components/{digest}",
            "component",
            "What is known of a component that was uploaded or deployed. 404 means that it must be uploaded.",
            component,
        )
        .answers(Content::json::<Component>())
        .refuses(&[400, 404, 503]),
        Operation::put(
            "/api/components/{digest}",
            "upload",
            "Uploads a component and compiles it. It waits an hour for a deploy that uses it.",
            upload,
        )
        .takes(Content::raw("application/wasm"))
        .answers(Content::json::<Component>())
        .refuses(&[400, 408, 413, 422, 503, 507]),
        Operation::post(
            "/api/deployments",
            "deploy",
            "Deploys functions: all of them, or nothing changes and `errors` says everything that is wrong.",
            deploy,
        )
        .takes(Content::json::<DeployRequest>())
        .answers(Content::json::<DeployResponse>())
        .refuses(&[400, 408, 413, 422, 503, 507]),
        Operation::get("/api/functions", "functions", "Every function with its active version.", functions)
            .answers(Content::json::<FunctionList>()),
        Operation::get("/api/functions/{name}", "function", "One function in full.", function)
            .answers(Content::json::<FunctionDetail>())
            .refuses(&[400, 404]),
        Operation::delete("/api/functions/{name}", "remove", "Forgets a function with all its versions.", remove)
            .query::<RemoveQuery>()
            .refuses(&[400, 404, 502, 503]),
        Operation::get("/api/functions/{name}/versions", "versions", "A function's versions, newest first.", versions)
            .answers(Content::json::<VersionList>())
            .refuses(&[400, 404, 503]),
        Operation::post(
            "/api/functions/{name}/rollback",
            "rollback",
            "Makes an earlier version the active one. 409 when there is none, or when it doesn't fit what is deployed now.",
            rollback,
        )
        .takes(Content::json::<RollbackRequest>().optional())
        .answers(Content::json::<FunctionSummary>())
        .refuses(&[400, 404, 408, 409, 413, 422, 503]),
        Operation::function(
            "/api/functions/{name}/invoke",
            "invoke",
            "Runs the function for this request, with the path `/`, whatever its triggers.",
            invoke,
        )
        .takes(Content::raw("*/*").optional())
        .refuses(&[400, 404]),
        Operation::function(
            "/api/functions/{name}/invoke/{*path}",
            "invoke-path",
            "Runs the function for this request, with this path, whatever its triggers.",
            invoke,
        )
        .takes(Content::raw("*/*").optional())
        .refuses(&[400, 404]),
    ]
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

async fn remove(
    State(app): Shared,
    Named(name): Named<FunctionName>,
    Asked(query): Asked<RemoveQuery>,
) -> Result<StatusCode, Refusal> {
    app.deployments.remove(name, query.dispose).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn versions(State(app): Shared, Named(name): Named<FunctionName>) -> Answer {
    let versions = app.deployments.versions(&name).await?;
    Ok(json(&VersionList { active: versions.active, versions: versions.versions }))
}

async fn rollback(State(app): Shared, Named(name): Named<FunctionName>, body: Body) -> Answer {
    let RollbackRequest { to } = read_json_or_nothing(body).await?;
    Ok(json(&summary(&*app.deployments.rollback(name, to).await?)))
}

/// Runs a function for the request, less the path's beginning.
pub(super) async fn invoke(
    State(app): Shared,
    Named(name): Named<FunctionName>,
    request: axum::extract::Request,
) -> Answer {
    let function = active(&app, &name)?;
    let (mut head, body) = request.into_parts();
    head.extensions.clear();
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
    head.uri = uri.build().map_err(|error| bad(error.to_string()))?;

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
