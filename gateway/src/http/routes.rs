//! Which function answers a request: the table of hosts, paths and methods.
//!
//! Precedence never depends on the order of deploys. An exact host goes before a wildcard host and that before any host;
//! the first of them that has a matching path decides. Within it the most specific path wins, compared segment by
//! segment: literal, then `{parameter}`, then `{*rest}`. The method comes last, and it does not lead back to a less
//! specific path: a path that matches without the method is a 405. `docs/http.md` says the same to users.
//!
//! Paths are a tree of segments of our own. matchit, the obvious crate, refuses `/{a}` beside `/{*rest}`, and two routes
//! that differ in nothing but their methods need one node anyway.

use crate::{
    active::ActiveFunction,
    http::webhook::{self, Webhook},
};
use dunlin_events::{
    FunctionName,
    manifest::{HostPattern, RoutePath, Trigger},
};
use http::{HeaderName, HeaderValue, Method};
use std::{borrow::Cow, collections::HashMap, sync::Arc};

/// The routes of all active functions. Never changed once built: a deploy builds new ones.
#[derive(Default)]
pub struct Routes {
    exact: HashMap<Box<str>, Node>,
    /// `*.example.com` under `example.com`.
    wildcard: HashMap<Box<str>, Node>,
    any: Node,
}

/// What became of the search for a request's function.
pub enum Found {
    Function {
        function: Arc<ActiveFunction>,
        parameters: Parameters,
        /// What a call must pass first.
        webhook: Option<Arc<Webhook>>,
    },
    /// The path is there, but not with this method.
    MethodNotAllowed {
        /// The methods it is there with, as the `Allow` header writes them.
        allow: HeaderValue,
    },
    NotFound,
}

/// Path parameters in the form in which they reach the function: `dunlin-param-<name>`, percent-encoded as in the URL.
pub type Parameters = Vec<(HeaderName, HeaderValue)>;

/// Two routes that no request could tell apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{what}` is taken by trigger {other_trigger} of `{other}`")]
pub struct Conflict {
    /// The one that came later in the order given.
    pub function: FunctionName,
    /// Its place in `triggers`, and what it is there: `http`, `webhook`.
    pub trigger: usize,
    pub kind: &'static str,
    /// The one that came earlier: another function, or the same one with another trigger.
    pub other: FunctionName,
    pub other_trigger: usize,
    pub other_kind: &'static str,
    /// The route, such as `GET api.example.com/invoices/{id}`.
    pub what: String,
}

/// A place in a path.
#[derive(Default)]
struct Node {
    literals: HashMap<Box<str>, Node>,
    parameter: Option<Box<Node>>,
    /// Routes whose path ends here.
    here: Vec<Route>,
    /// Routes whose path goes on with `{*rest}` from here, or ends with the `/` before it.
    rest: Vec<Route>,
}

/// A function under one method of one path.
struct Route {
    /// `None` stands for any.
    method: Option<Method>,
    function: Arc<ActiveFunction>,
    trigger: usize,
    webhook: Option<Arc<Webhook>>,
    /// The headers its parameters are given in. They belong to the route, not to the path: another method of the same
    /// path may name its parameters otherwise.
    parameters: Arc<[HeaderName]>,
}

/// A route as a manifest has it.
struct Entry<'a> {
    trigger: usize,
    host: Option<&'a HostPattern>,
    path: &'a RoutePath,
    /// None for any.
    methods: Vec<Method>,
    webhook: Option<Arc<Webhook>>,
}

impl Routes {
    /// Builds the table, or says everything that conflicts in it.
    ///
    /// Two routes conflict when their host, the shape of their path (parameters count, not their names) and a method, or
    /// the absence of methods, are the same.
    pub fn build(functions: impl IntoIterator<Item = Arc<ActiveFunction>>) -> Result<Self, Vec<Conflict>> {
        let mut routes = Self::default();
        let mut conflicts = Vec::new();
        for function in functions {
            let manifest = &function.version.manifest;
            for (index, trigger) in manifest.triggers.iter().enumerate() {
                let entry = match trigger {
                    Trigger::Http(http) => {
                        let methods = http.methods.iter().map(|method| standard(*method)).collect();
                        Entry { trigger: index, host: http.host.as_ref(), path: &http.path, methods, webhook: None }
                    }
                    Trigger::Webhook(webhook) => Entry {
                        trigger: index,
                        host: webhook.host.as_ref(),
                        path: &webhook.path,
                        methods: webhook::methods(webhook.provider).to_vec(),
                        webhook: Some(Arc::new(Webhook::new(manifest, index, webhook))),
                    },
                    Trigger::Schedule(_) | Trigger::Files(_) | Trigger::Database(_) | Trigger::Topic(_) => continue,
                };
                routes.insert(&function, entry, &mut conflicts);
            }
        }
        if conflicts.is_empty() { Ok(routes) } else { Err(conflicts) }
    }

    /// The function for a request. The host is a URI's host without the port, the path begins with `/`.
    pub fn find(&self, host: Option<&str>, method: &Method, path: &str) -> Found {
        let Some(rest) = path.strip_prefix('/') else {
            return Found::NotFound;
        };
        let mut captured = Vec::new();
        self.hosts(host)
            .find_map(|node| node.find(rest, &mut captured))
            .map_or(Found::NotFound, |routes| choose(routes, method, &captured))
    }

    /// The path trees to search, most specific host first.
    fn hosts(&self, host: Option<&str>) -> impl Iterator<Item = &Node> {
        let (mut exact, mut wildcard) = (None, None);
        if let Some(host) = host.filter(|_| !self.exact.is_empty() || !self.wildcard.is_empty()) {
            let host = host.strip_suffix('.').unwrap_or(host);
            let host = if host.bytes().any(|b| b.is_ascii_uppercase()) {
                Cow::Owned(host.to_ascii_lowercase())
            } else {
                Cow::Borrowed(host)
            };
            exact = self.exact.get(&*host);
            wildcard = host
                .split_once('.')
                .filter(|(label, _)| !label.is_empty())
                .and_then(|(_, domain)| self.wildcard.get(domain));
        }
        exact.into_iter().chain(wildcard).chain([&self.any])
    }

    fn insert(&mut self, function: &Arc<ActiveFunction>, entry: Entry<'_>, conflicts: &mut Vec<Conflict>) {
        let Entry { trigger, host, path, methods, webhook } = entry;
        let mut node = match host.map(HostPattern::as_str) {
            None => &mut self.any,
            Some(host) => match host.strip_prefix("*.") {
                Some(domain) => self.wildcard.entry(domain.into()).or_default(),
                None => self.exact.entry(host.into()).or_default(),
            },
        };
        let mut rest = false;
        for segment in path.as_str()[1..].split('/') {
            if segment.starts_with("{*") {
                rest = true; // always the last one
            } else if segment.starts_with('{') {
                node = node.parameter.get_or_insert_default();
            } else {
                node = node.literals.entry(segment.into()).or_default();
            }
        }
        let routes = if rest { &mut node.rest } else { &mut node.here };
        let parameters: Arc<[HeaderName]> = path
            .parameters()
            .iter()
            .map(|name| {
                let name = format!("dunlin-param-{}", name.to_ascii_lowercase());
                HeaderName::from_bytes(name.as_bytes()).expect("letters, digits and `_` make a header name")
            })
            .collect();
        let mut methods: Vec<_> = methods.into_iter().map(Some).collect();
        if methods.is_empty() {
            methods.push(None);
        }
        for method in methods {
            if let Some(known) = routes.iter().find(|known| known.method == method) {
                if Arc::ptr_eq(&known.function, function) && known.trigger == trigger {
                    continue; // the method is written twice
                }
                let host = host.map_or("", HostPattern::as_str);
                let method = method.as_ref().map_or("any method", Method::as_str);
                conflicts.push(Conflict {
                    function: function.name().clone(),
                    trigger,
                    kind: function.version.manifest.triggers[trigger].kind(),
                    other: known.function.name().clone(),
                    other_trigger: known.trigger,
                    other_kind: known.function.version.manifest.triggers[known.trigger].kind(),
                    what: format!("{method} {host}{path}"),
                });
            } else {
                routes.push(Route {
                    method,
                    function: Arc::clone(function),
                    trigger,
                    webhook: webhook.clone(),
                    parameters: Arc::clone(&parameters),
                });
            }
        }
    }
}

impl Node {
    /// The routes of the most specific path that matches, with what its parameters captured. `path` is what follows the
    /// `/` after this node.
    ///
    /// It goes back where a more specific beginning leads nowhere: with `/a/b` and `/{x}/c`, `/a/c` is the second.
    fn find<'path>(&self, path: &'path str, captured: &mut Vec<&'path str>) -> Option<&[Route]> {
        let (segment, tail) = match path.split_once('/') {
            Some((segment, tail)) => (segment, Some(tail)),
            None => (path, None),
        };
        if let Some(routes) = self.literals.get(segment).and_then(|node| node.below(tail, captured)) {
            return Some(routes);
        }
        if let Some(node) = self.parameter.as_ref().filter(|_| !segment.is_empty()) {
            captured.push(segment);
            if let Some(routes) = node.below(tail, captured) {
                return Some(routes);
            }
            captured.pop();
        }
        if self.rest.is_empty() {
            return None;
        }
        captured.push(path);
        Some(&self.rest)
    }

    fn below<'path>(&self, tail: Option<&'path str>, captured: &mut Vec<&'path str>) -> Option<&[Route]> {
        match tail {
            Some(tail) => self.find(tail, captured),
            None => Some(self.here.as_slice()).filter(|routes| !routes.is_empty()),
        }
    }
}

/// The route of a path for a method: one that names it, for `HEAD` one that names `GET`, then one for any method.
fn choose(routes: &[Route], method: &Method, captured: &[&str]) -> Found {
    let named = |method: &Method| routes.iter().find(|route| route.method.as_ref() == Some(method));
    let route = named(method)
        .or_else(|| if method == Method::HEAD { named(&Method::GET) } else { None })
        .or_else(|| routes.iter().find(|route| route.method.is_none()));
    match route {
        Some(route) => Found::Function {
            function: Arc::clone(&route.function),
            webhook: route.webhook.clone(),
            parameters: route
                .parameters
                .iter()
                .zip(captured)
                // Only a path with control characters is no header value, and the data plane refuses those before.
                .filter_map(|(name, value)| Some((name.clone(), HeaderValue::from_str(value).ok()?)))
                .collect(),
        },
        None => Found::MethodNotAllowed { allow: allow(routes) },
    }
}

fn allow(routes: &[Route]) -> HeaderValue {
    let mut methods: Vec<&str> = routes.iter().filter_map(|route| route.method.as_ref()).map(Method::as_str).collect();
    if methods.contains(&"GET") && !methods.contains(&"HEAD") {
        methods.push("HEAD");
    }
    methods.sort_unstable();
    HeaderValue::from_str(&methods.join(", ")).expect("method names are visible ASCII")
}

fn standard(method: dunlin_events::manifest::Method) -> Method {
    use dunlin_events::manifest::Method as Named;
    match method {
        Named::Get => Method::GET,
        Named::Head => Method::HEAD,
        Named::Post => Method::POST,
        Named::Put => Method::PUT,
        Named::Patch => Method::PATCH,
        Named::Delete => Method::DELETE,
        Named::Options => Method::OPTIONS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_events::{Body, BoxFuture, Failure, Function, Invocation, Version, effects::NoEffects, runtime::Load};
    use http::{Request, Response};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Routes only hold functions; none is called here.
    struct Uncalled;

    impl Function for Uncalled {
        fn invoke<'a>(&'a self, _: Request<Body>, _: Invocation) -> BoxFuture<'a, Result<Response<Body>, Failure>> {
            Box::pin(std::future::ready(Err(Failure::NoAnswer)))
        }

        fn load(&self) -> Load {
            Load { running: 0, waiting: 0 }
        }
    }

    /// A function with a trigger for each `[METHOD,METHOD ][host]/path`.
    fn function(name: &str, routes: &[&str]) -> Arc<ActiveFunction> {
        let triggers: Vec<_> = routes
            .iter()
            .map(|route| {
                let (methods, rest) = route.split_once(' ').unwrap_or(("", route));
                let (host, path) = rest.split_once('/').unwrap();
                let mut http = serde_json::json!({ "path": format!("/{path}") });
                if !methods.is_empty() {
                    http["methods"] = methods.split(',').collect();
                }
                if !host.is_empty() {
                    http["host"] = host.into();
                }
                serde_json::json!({ "http": http })
            })
            .collect();
        let version: Version = serde_json::from_value(serde_json::json!({
            "number": 1, "deployed_at": 0,
            "manifest": { "name": name, "component": "x.wasm", "triggers": triggers },
            "component": {
                "digest": format!("sha256:{}", "0".repeat(64)), "size": 1, "shape": "http02", "imports": [], "initial_memory": 0,
            },
        }))
        .unwrap();
        let (handle, effects) = (Arc::new(Uncalled), Arc::new(NoEffects));
        let statuses = ActiveFunction::statuses_for(None, &version);
        Arc::new(ActiveFunction { version, handle, counters: Arc::default(), effects, statuses })
    }

    fn table(functions: &[(&str, &[&str])]) -> Result<Routes, Vec<Conflict>> {
        Routes::build(functions.iter().map(|(name, routes)| function(name, routes)))
    }

    /// What is found, as a text: the function and its parameters, the allowed methods, or nothing.
    fn find(routes: &Routes, request: &str) -> String {
        let (method, rest) = request.split_once(' ').unwrap();
        let (host, path) = rest.split_once('/').unwrap();
        let host = Some(host).filter(|host| !host.is_empty());
        match routes.find(host, &method.parse().unwrap(), &format!("/{path}")) {
            Found::NotFound => "nothing".into(),
            Found::MethodNotAllowed { allow } => format!("only {}", allow.to_str().unwrap()),
            Found::Function { function, parameters, .. } => {
                let mut text = function.name().to_string();
                for (name, value) in parameters {
                    let name = name.as_str().strip_prefix("dunlin-param-").unwrap();
                    text += &format!(" {name}={}", value.to_str().unwrap());
                }
                text
            }
        }
    }

    #[test]
    fn the_most_specific_host_then_path_then_method_wins() {
        let routes = table(&[
            ("any", &["/", "/a/{x}", "/a/{*rest}", "/files/{*path}", "/slash/"]),
            ("literal", &["/a/b", "GET /a/b/c", "/both/"]),
            ("back", &["/{x}/b/d", "GET /{x}/only"]),
            ("read", &["GET /m/{id}"]),
            ("write", &["PUT,POST /m/{key}"]),
            ("head", &["HEAD /h"]),
            ("get", &["GET /h"]),
            ("rest", &["/h", "/both/{*all}"]),
            ("exact", &["api.example.com/a/b"]),
            ("wild", &["*.example.com/a/{x}", "GET *.example.com/w"]),
        ])
        .unwrap_or_else(|conflicts| panic!("{conflicts:?}"));
        for (request, found) in [
            ("GET /", "any"),
            ("GET /a/b", "literal"),
            ("GET /a/x", "any x=x"),
            ("GET /a/b/c", "literal"),
            ("POST /a/b/c", "only GET, HEAD"), // the path decides before the method does
            ("GET /a/b/d", "any rest=b/d"),    // literal `a` goes before `{x}`, however far that would lead
            ("GET /c/b/d", "back x=c"),
            ("GET /a/only", "any x=only"),
            ("GET /files/x/y%2Fz//", "any path=x/y%2Fz//"),
            ("GET /files/", "any path="),
            ("GET /files", "nothing"),
            ("GET /slash", "nothing"),
            ("GET /slash/", "any"),
            ("GET /both/", "literal"), // an explicit path goes before the rest that is empty
            ("GET /both/x", "rest all=x"),
            ("GET /c/", "nothing"), // an empty segment is no `{x}`
            ("GET /a/", "any rest="),
            ("GET /m/1", "read id=1"),
            ("HEAD /m/1", "read id=1"),
            ("POST /m/1", "write key=1"),
            ("DELETE /m/1", "only GET, HEAD, POST, PUT"),
            ("HEAD /h", "head"),
            ("GET /h", "get"),
            ("PROPFIND /h", "rest"),
            ("GET API.example.com./a/b", "exact"),
            ("GET api.example.com/a/x", "wild x=x"), // an exact host without the path leads on
            ("GET www.example.com/a/b", "wild x=b"),
            ("GET www.example.com/", "any"),
            ("POST www.example.com/w", "only GET, HEAD"),
            ("GET a.www.example.com/a/b", "literal"),
            ("GET .example.com/a/b", "literal"),
            ("GET example.com/a/b", "literal"),
        ] {
            assert_eq!(find(&routes, request), found, "{request}");
        }
    }

    #[test]
    fn conflicts_name_both_functions_and_both_triggers() {
        let conflicts = table(&[
            ("one", &["/x", "GET,POST api.example.com/a/{id}"]),
            ("two", &["/a/{id}", "DELETE api.example.com/a/{id}", "POST,PUT API.example.com/a/{name}"]),
            ("three", &["/x", "GET /x", "/a/{*rest}", "/y/{*a}", "/y/{*b}"]),
        ])
        .err()
        .unwrap();
        let texts: Vec<_> = conflicts.iter().map(|c| format!("{} {}: {c}", c.function, c.trigger)).collect();
        assert_eq!(
            texts,
            [
                "two 2: `POST api.example.com/a/{name}` is taken by trigger 1 of `one`",
                "three 0: `any method /x` is taken by trigger 0 of `one`",
                "three 4: `any method /y/{*b}` is taken by trigger 3 of `three`",
            ]
        );
    }

    /// The rule, written down again without a tree: of all routes that match, the smallest by host, then by the kinds of
    /// the segments.
    fn model(routes: &[(usize, String)], host: &str, path: &str) -> Option<usize> {
        let kinds = |pattern: &str| -> Option<Vec<u8>> {
            let (mut kinds, mut rest) = (Vec::new(), Some(path));
            for segment in pattern.split('/') {
                let here = rest?;
                let (text, tail) = here.split_once('/').map_or((here, None), |(text, tail)| (text, Some(tail)));
                if segment.starts_with("{*") {
                    kinds.push(2);
                    return Some(kinds);
                }
                kinds.push(u8::from(segment.starts_with('{')));
                if segment != text && (!segment.starts_with('{') || text.is_empty()) {
                    return None;
                }
                rest = tail;
            }
            rest.is_none().then_some(kinds)
        };
        routes
            .iter()
            .filter_map(|(index, route)| {
                let (pattern, path) = route.split_once('/')?;
                let level = match pattern {
                    "" => 2,
                    _ if pattern == host => 0,
                    _ => (pattern.strip_prefix("*.")? == host.split_once('.')?.1).then_some(1)?,
                };
                Some((level, kinds(path)?, *index))
            })
            .min()
            .map(|(_, _, index)| index)
    }

    proptest! {
        #[test]
        fn find_agrees_with_the_rule(
            patterns in proptest::collection::vec(
                ("(|a\\.b|\\*\\.b|\\*\\.a\\.b)", proptest::collection::vec("(a|b|\\{p\\})", 0..4), "(|/|/\\{\\*r\\})"), 1..25),
            requests in proptest::collection::vec(("(b|a\\.b|c\\.b|a\\.a\\.b)", "(/[ab]?){1,5}"), 1..25),
        ) {
            let mut shapes = BTreeSet::new();
            let mut routes = Vec::new();
            for (host, segments, end) in patterns {
                // Names within a path differ; the shape is what they don't change.
                let shape = format!("{host}/{}{end}", segments.join("/"));
                let shape = if segments.is_empty() { format!("{host}{}", if end.is_empty() { "/" } else { &end }) } else { shape };
                if shapes.insert(shape.clone()) {
                    let mut named = String::new();
                    for (index, part) in shape.split("{p}").enumerate() {
                        if index > 0 {
                            named += &format!("{{p{index}}}");
                        }
                        named += part;
                    }
                    routes.push((routes.len(), named));
                }
            }
            let names: Vec<_> = routes.iter().map(|(index, _)| format!("f{index}")).collect();
            let build = |order: &mut dyn Iterator<Item = &(usize, String)>| {
                Routes::build(order.map(|(index, route)| function(&names[*index], &[route]))).unwrap_or_else(|c| panic!("{c:?}"))
            };
            let table = build(&mut routes.iter());
            let reversed = build(&mut routes.iter().rev());
            for (host, path) in requests {
                let expected = model(&routes, &host, &path[1..]).map(|index| names[index].clone());
                let request = format!("GET {host}{path}");
                for table in [&table, &reversed] {
                    let found = find(table, &request);
                    let found = found.split(' ').next().filter(|name| *name != "nothing").map(str::to_owned);
                    prop_assert_eq!(&found, &expected, "{} in {:?}", request, routes);
                }
            }
        }
    }
}
