//! The admin API as a list of operations, and the OpenAPI 3.1 document made from it.
//!
//! The router is made from the same list (`operations::all`), and the schemas from the types that are sent, so nothing can
//! be served that isn't documented. That is why no OpenAPI crate is here: each of them wants every type described again
//! by a derive of its own, which the contracts in `dunlin-events` don't have.

use super::App;
use crate::api::{LogQuery, ProblemDocument};
use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Something the admin API does.
pub(super) struct Operation {
    /// As OpenAPI writes them: lowercase.
    pub(super) methods: &'static [&'static str],
    /// As axum writes it: `/api/functions/{name}/invoke/{*path}`.
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) takes: Option<Content>,
    pub(super) answers: Answers,
    /// The statuses it refuses with, beside those of every operation.
    pub(super) refuses: &'static [u16],
    pub(super) handler: MethodRouter<Arc<App>>,
}

/// What an operation answers with when it does what it was asked.
pub(super) enum Answers {
    Content(Content),
    Nothing,
    /// Whatever the function answers.
    Function,
}

pub(super) struct Content {
    media_type: &'static str,
    required: bool,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Content {
    pub(super) fn json<T: JsonSchema>() -> Self {
        Self { media_type: "application/json", required: true, schema: SchemaGenerator::subschema_for::<T> }
    }

    pub(super) fn lines<T: JsonSchema>() -> Self {
        Self { media_type: "application/x-ndjson", ..Self::json::<T>() }
    }

    /// Bytes or text without a schema.
    pub(super) fn raw(media_type: &'static str) -> Self {
        Self { media_type, required: true, schema: |_| true.into() }
    }

    pub(super) fn optional(self) -> Self {
        Self { required: false, ..self }
    }

    fn document(&self, generator: &mut SchemaGenerator) -> Value {
        json!({ self.media_type: { "schema": (self.schema)(generator) } })
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
    let problem = Content { media_type: "application/problem+json", ..Content::json::<ProblemDocument>() };
    let problem = problem.document(generator);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Dunlin admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Deploys functions and watches them. Fields may be added to answers at any time; those there stay.",
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
    if operation.path == "/api/logs" {
        parameters.extend(query_parameters(&LogQuery::json_schema(generator)));
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
        "name" => "A function's name.",
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
