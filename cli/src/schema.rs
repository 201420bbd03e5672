//! `dunlin schema`: the manifest's JSON Schema, made from the types that read it.

use crate::output::print_json;
use dunlin_events::Manifest;
use schemars::{
    Schema,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform as _},
};
use serde_json::{Value, json};

/// What a value with a variable in it looks like to an editor, which doesn't know the variable.
const VARIABLE: &str = r"\$\{";

pub(crate) fn run() -> anyhow::Result<()> {
    print_json(&schema())
}

/// JSON Schema, draft 2020-12.
fn schema() -> Schema {
    let mut schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Manifest>();
    RecursiveTransform(allow_variables).transform(&mut schema);
    schema
}

/// Lets `${VAR}` stand where a text of some form or a whole number is wanted.
fn allow_variables(schema: &mut Schema) {
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
        let pattern = format!("{pattern}|{VARIABLE}");
        schema.insert("pattern".into(), pattern.into());
    }
    // What is put in place of it has no type, so it isn't replaced again.
    if schema.get("type").is_some()
        && let Some(values) = schema.remove("enum")
    {
        schema.remove("type");
        schema.insert("anyOf".into(), json!([{ "enum": values }, { "type": "string", "pattern": VARIABLE }]));
    }
    if schema.get("type").and_then(Value::as_str) == Some("integer") {
        schema.insert("type".into(), json!(["integer", "string"]));
        schema.insert("pattern".into(), VARIABLE.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// What the schema says against a manifest.
    fn complaint(yaml: &str) -> Option<String> {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("manifest.json", schema().to_value()).unwrap();
        let index = compiler.compile("manifest.json", &mut schemas).unwrap();
        schemas.validate(&json(yaml), index).err().map(|error| format!("{error:#}"))
    }

    fn json(yaml: &str) -> Value {
        serde_yaml::from_str(yaml).unwrap()
    }

    #[test]
    fn the_examples_are_valid() {
        let functions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../functions");
        let mut seen = 0;
        for folder in std::fs::read_dir(functions).unwrap() {
            let path = folder.unwrap().path().join("function.yaml");
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            assert_eq!(complaint(&text), None, "{}", path.display());
            seen += 1;
        }
        assert!(seen > 0, "there are examples");
    }

    #[test]
    fn everything_a_manifest_can_say_is_valid_and_nothing_else() {
        let good = "
name: billing
component: billing.wasm
build: cargo build
triggers:
  - http: { path: '/invoices/{id}', methods: [GET, '${METHOD}'], host: api.example.com }
allow: { http: ['https://a.b'], networks: [10.0.0.0/8], env: { A: b }, secrets: [KEY] }
limits: { memory: 64MiB, time: 1m 30s, cpu: '${CPU}', concurrency: '${PLACES}', queue: 0, request_body: 1MB, response_body: 1GiB, log: 1KiB, http_requests: 5 }
reuse: { count: 10, concurrency: 2, idle: 5s }
";
        assert_eq!(complaint(good), None);
        for bad in [
            "{ name: a }",
            "{ component: a.wasm }",
            "{ name: A, component: a.wasm }",
            "{ name: a, component: a.wasm, alow: {} }",
            "{ name: a, component: 5 }",
            "{ name: a, component: a.wasm, triggers: { http: { path: / } } }",
            "{ name: a, component: a.wasm, triggers: [{ htpp: { path: / } }] }",
            "{ name: a, component: a.wasm, triggers: [{ http: { methods: [GET] } }] }",
            "{ name: a, component: a.wasm, triggers: [{ http: { path: hello } }] }",
            "{ name: a, component: a.wasm, triggers: [{ http: { path: /, methods: [get] } }] }",
            "{ name: a, component: a.wasm, limits: { memory: 64 } }",
            "{ name: a, component: a.wasm, limits: { memory: 64Mib5 } }",
            "{ name: a, component: a.wasm, limits: { time: soon } }",
            "{ name: a, component: a.wasm, limits: { concurrency: 0 } }",
            "{ name: a, component: a.wasm, limits: { concurrency: '5' } }",
            "{ name: a, component: a.wasm, allow: { secrets: [key] } }",
            "{ name: a, component: a.wasm, allow: { env: { A: 5 } } }",
            "{ name: a, component: a.wasm, reuse: { concurrency: 5 } }",
        ] {
            assert!(complaint(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn it_says_what_it_is() {
        let schema = schema();
        assert_eq!(schema.get("$schema").unwrap(), "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema.get("title").unwrap(), "Dunlin function manifest");
        assert!(schema.get("$id").is_none());
    }
}
