//! The admin API as a list of operations, and the OpenAPI 3.1 document made from it.
//!
//! The router is made from the same list (`operations::all`), and the schemas from the types that are sent, so nothing can
//! be served that isn't documented. That is why no OpenAPI crate is here: each of them wants every type described again
//! by a derive of its own, which the contracts in `dunlin-events` don't have.

use super::App;
use crate::api::ProblemDocument;
use axum::{
    handler::Handler,
    routing::{self, MethodRouter},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Describes a type, and what it is made of.
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Something the admin API does.
pub(super) struct Operation {
    /// As OpenAPI writes them: lowercase.
    methods: &'static [&'static str],
    /// As axum writes it: `/api/functions/{name}/invoke/{*path}`.
    pub(super) path: &'static str,
    id: &'static str,
    summary: &'static str,
    /// What may stand behind the `?`.
    query: Option<SchemaOf>,
    takes: Option<Content>,
    answers: Answers,
    /// The statuses it refuses with, beside those of every operation.
    refuses: &'static [u16],
    pub(super) handler: MethodRouter<Arc<App>>,
}

/// What an operation answers with when it does what it was asked.
enum Answers {
    Content(Content),
    /// 202: it is on disk, and what becomes of it comes later.
    Accepted(Content),
    Nothing,
    /// Whatever the function answers.
    Function,
}

impl Operation {
    fn new(
        methods: &'static [&'static str],
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: MethodRouter<Arc<App>>,
    ) -> Self {
        Self { methods, path, id, summary, query: None, takes: None, answers: Answers::Nothing, refuses: &[], handler }
    }

    pub(super) fn get<T: 'static>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: impl Handler<T, Arc<App>>,
    ) -> Self {
        Self::new(&["get"], path, id, summary, routing::get(handler))
    }

    pub(super) fn put<T: 'static>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: impl Handler<T, Arc<App>>,
    ) -> Self {
        Self::new(&["put"], path, id, summary, routing::put(handler))
    }

    pub(super) fn post<T: 'static>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: impl Handler<T, Arc<App>>,
    ) -> Self {
        Self::new(&["post"], path, id, summary, routing::post(handler))
    }

    pub(super) fn delete<T: 'static>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: impl Handler<T, Arc<App>>,
    ) -> Self {
        Self::new(&["delete"], path, id, summary, routing::delete(handler))
    }

    /// Runs a function, with any method.
    pub(super) fn function<T: 'static>(
        path: &'static str,
        id: &'static str,
        summary: &'static str,
        handler: impl Handler<T, Arc<App>>,
    ) -> Self {
        let methods = &["get", "put", "post", "delete", "options", "head", "patch"];
        Self { answers: Answers::Function, ..Self::new(methods, path, id, summary, routing::any(handler)) }
    }

    pub(super) fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(T::json_schema), ..self }
    }

    pub(super) fn takes(self, content: Content) -> Self {
        Self { takes: Some(content), ..self }
    }

    pub(super) fn answers(self, content: Content) -> Self {
        Self { answers: Answers::Content(content), ..self }
    }

    pub(super) fn accepts(self, content: Content) -> Self {
        Self { answers: Answers::Accepted(content), ..self }
    }

    pub(super) fn refuses(self, refuses: &'static [u16]) -> Self {
        Self { refuses, ..self }
    }
}

/// JSON objects, one a line.
pub(super) const LINES: &str = "application/x-ndjson";

/// What a body may be: one of some media types.
pub(super) struct Content {
    required: bool,
    types: Vec<(&'static str, SchemaOf)>,
}

impl Content {
    fn of<T: JsonSchema>(media_type: &'static str) -> Self {
        Self { required: true, types: vec![(media_type, SchemaGenerator::subschema_for::<T>)] }
    }

    pub(super) fn json<T: JsonSchema>() -> Self {
        Self::of::<T>("application/json")
    }

    pub(super) fn lines<T: JsonSchema>() -> Self {
        Self::of::<T>(LINES)
    }

    /// Bytes or text without a schema.
    pub(super) fn raw(media_type: &'static str) -> Self {
        Self { required: true, types: vec![(media_type, |_| true.into())] }
    }

    pub(super) fn or<T: JsonSchema>(mut self, media_type: &'static str) -> Self {
        self.types.push((media_type, SchemaGenerator::subschema_for::<T>));
        self
    }

    pub(super) fn or_raw(mut self, media_type: &'static str) -> Self {
        self.types.push((media_type, |_| true.into()));
        self
    }

    pub(super) fn optional(self) -> Self {
        Self { required: false, ..self }
    }

    fn document(&self, generator: &mut SchemaGenerator) -> Value {
        let types = self.types.iter();
        types.map(|(media_type, schema)| ((*media_type).to_owned(), json!({ "schema": schema(generator) }))).collect()
    }
}

/// The document.
pub(super) fn document(operations: &[Operation]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let generator = &mut settings.into_generator();
    let mut paths = Map::new();
    for operation in operations {
        // OpenAPI has no sign for a parameter of several segments.
        let path = paths.entry(operation.path.replace("{*", "{")).or_insert_with(|| json!({}));
        for method in operation.methods {
            path[method] = describe(operation, method, generator);
        }
    }
    let problem = Content::of::<ProblemDocument>("application/problem+json").document(generator);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Dunlin admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Deploys functions and watches them, publishes and reads events, keeps state. Fields may be added to answers at any time; those there stay.",
        },
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "responses": { "Problem": { "description": "What went wrong (RFC 9457).", "content": problem } },
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "Needed where the platform was started with a token." },
            },
        },
        "security": [{ "token": [] }, {}],
    })
}

fn describe(operation: &Operation, method: &str, generator: &mut SchemaGenerator) -> Value {
    let id = match operation.methods {
        [_] => operation.id.to_owned(),
        _ => format!("{}-{method}", operation.id),
    };
    let mut responses = Map::new();
    match &operation.answers {
        Answers::Content(content) => {
            responses.insert("200".into(), json!({ "description": "Done.", "content": content.document(generator) }))
        }
        Answers::Accepted(content) => {
            responses.insert("202".into(), json!({ "description": "On disk.", "content": content.document(generator) }))
        }
        Answers::Nothing => responses.insert("204".into(), json!({ "description": "Done." })),
        Answers::Function => {
            let description = "What the function answers, or the problem document of its failure.";
            responses.insert("default".into(), json!({ "description": description }))
        }
    };
    for status in [401, 403].iter().chain(operation.refuses) {
        responses.insert(status.to_string(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    let mut parameters: Vec<_> = operation.path.split('/').filter_map(path_parameter).collect();
    if let Some(query) = operation.query {
        parameters.extend(query_parameters(&query(generator)));
    }
    let mut described = json!({
        "operationId": id, "summary": operation.summary, "parameters": parameters, "responses": responses,
    });
    if let Some(content) = &operation.takes {
        described["requestBody"] = json!({ "required": content.required, "content": content.document(generator) });
    }
    if operation.path == "/health" {
        described["security"] = json!([]);
    }
    described
}

fn path_parameter(segment: &str) -> Option<Value> {
    let name = segment.strip_prefix('{')?.strip_suffix('}')?.trim_start_matches('*');
    let description = match name {
        "digest" => "A component's SHA-256: `sha256:` and 64 hexadecimal digits.",
        "name" | "function" => "A function's name.",
        "topic" => "A topic's name.",
        "offset" => "An event's place in its topic, counted from 0.",
        "number" => "A dead letter's number.",
        "bucket" => "A bucket of state: `function:NAME` for a function's own, or `shared:NAME`.",
        "key" => "A key. It may hold slashes.",
        _ => "The path the function is called with. It may hold slashes.",
    };
    Some(json!({
        "name": name, "in": "path", "required": true, "description": description, "schema": { "type": "string" },
    }))
}

fn query_parameters(schema: &Schema) -> Vec<Value> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties
        .map(|(name, schema)| {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema })
        })
        .collect()
}
