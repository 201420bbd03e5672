//! Filters: which events of a topic a function wants, as a CEL expression over `event`.
//!
//! `event` holds the attributes by their CloudEvents names and `data`: parsed where it is JSON, otherwise text, or bytes.
//! An expression that asks for what an event doesn't have, or compares what can't be compared, doesn't match it. CEL always
//! ends, but not always soon: what could take long is refused when it is compiled.

use cel::{
    Context, Env, Program, Value,
    common::ast::{EntryExpr, Expr},
    objects::Key,
};
use dunlin_events::{
    Event,
    event::{Data, Value as Attribute},
};
use std::{collections::HashMap, sync::Arc, thread};

/// The longest expression, in bytes.
const MAX_LENGTH: usize = 4096;
/// How many parts an expression may have within one another: evaluating and dropping it goes as deep.
const MAX_DEPTH: usize = 100;
/// The parser goes as deep as there are brackets in one another, some ten kilobytes for each, and ends at 96 of them: more
/// than the stack of an ordinary thread.
const STACK: usize = 64 << 20;

pub(crate) struct Filter {
    program: Program,
    /// CEL's own functions. Registering them costs many times what evaluating does.
    functions: Arc<Env>,
    /// Parsing the data costs more than all else, so it is done for expressions that look at it.
    data: bool,
}

/// Why a text is no filter: what, and where in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("the filter has {0} bytes, and the most is {MAX_LENGTH}: decide in the function")]
    Length(usize),
    #[error("the filter is no CEL expression: line {line}, column {column}: {reason}")]
    Syntax { line: usize, column: usize, reason: String },
    #[error("the filter names `{0}`, and all there is is `event`: write `event.{0}`")]
    Unknown(String),
    #[error("the filter goes through a list within a list, which can take for ever: decide in the function")]
    Nested,
    #[error("the filter has more than {MAX_DEPTH} parts within one another: decide in the function")]
    Deep,
    #[error("the filter can't be compiled now: {0}")]
    Unavailable(String),
}

impl Filter {
    pub(crate) fn compile(source: &str) -> Result<Self, FilterError> {
        if source.len() > MAX_LENGTH {
            return Err(FilterError::Length(source.len()));
        }
        let source = source.to_owned();
        let compiler = thread::Builder::new().name("filter".into()).stack_size(STACK);
        let compiling = compiler.spawn(move || Self::parse(&source));
        let compiling = compiling.map_err(|error| FilterError::Unavailable(error.to_string()))?;
        compiling.join().unwrap_or_else(|_| Err(FilterError::Unavailable("the parser broke off".into())))
    }

    /// Goes as deep as the expression does.
    fn parse(source: &str) -> Result<Self, FilterError> {
        let functions = Arc::new(Env::stdlib());
        let program = functions.compile(source).map_err(|errors| {
            let first = errors.errors.first();
            let place = |place: isize| usize::try_from(place).unwrap_or(0);
            FilterError::Syntax {
                line: first.map_or(1, |error| place(error.pos.0)),
                column: first.map_or(1, |error| place(error.pos.1)),
                reason: first.map_or_else(|| errors.to_string(), |error| error.msg.trim().to_owned()),
            }
        })?;
        if depth(&program.expression().expr) > MAX_DEPTH {
            return Err(FilterError::Deep);
        }
        if nesting(&program.expression().expr) > 1 {
            return Err(FilterError::Nested);
        }
        let mut known = Vec::new();
        bound(&program.expression().expr, &mut known);
        let references = program.references();
        let mut unknown: Vec<_> =
            references.variables().into_iter().filter(|name| *name != "event" && !known.contains(name)).collect();
        unknown.sort_unstable();
        if let Some(name) = unknown.first() {
            return Err(FilterError::Unknown((*name).to_owned()));
        }
        drop(references);
        Ok(Self { program, functions, data: source.contains("data") })
    }

    pub(crate) fn matches(&self, event: &Event) -> bool {
        let mut context = Context::with_env(Arc::clone(&self.functions));
        context.add_variable_from_value("event", value(event, self.data));
        matches!(self.program.execute(&context), Ok(Value::Bool(true)))
    }
}

/// Variables that comprehensions bind.
fn bound<'a>(expr: &'a Expr, names: &mut Vec<&'a str>) {
    if let Expr::Comprehension(comprehension) = expr {
        names.extend([comprehension.iter_var.as_str(), comprehension.accu_var.as_str()]);
        names.extend(comprehension.iter_var2.as_deref());
    }
    children(expr).into_iter().for_each(|child| bound(child, names));
}

/// How many parts are within one another.
fn depth(expr: &Expr) -> usize {
    1 + children(expr).into_iter().map(depth).max().unwrap_or(0)
}

/// How many comprehensions are within one another.
fn nesting(expr: &Expr) -> usize {
    let own = usize::from(matches!(expr, Expr::Comprehension(_)));
    own + children(expr).into_iter().map(nesting).max().unwrap_or(0)
}

fn children(expr: &Expr) -> Vec<&Expr> {
    match expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => {
            call.target.iter().map(|target| &target.expr).chain(call.args.iter().map(|arg| &arg.expr)).collect()
        }
        Expr::Comprehension(c) => {
            [&c.iter_range, &c.accu_init, &c.loop_cond, &c.loop_step, &c.result].map(|part| &part.expr).into()
        }
        Expr::List(list) => list.elements.iter().map(|element| &element.expr).collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entries(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand.expr],
        Expr::Struct(structure) => structure.entries.iter().flat_map(|entry| entries(&entry.expr)).collect(),
    }
}

fn entries(entry: &EntryExpr) -> Vec<&Expr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value.expr],
        EntryExpr::MapEntry(entry) => vec![&entry.key.expr, &entry.value.expr],
    }
}

/// An event as an expression sees it.
fn value(event: &Event, data: bool) -> Value {
    let mut fields: HashMap<Key, Value> = HashMap::new();
    for (name, text) in event.attributes() {
        fields.insert(name.into(), Value::String(Arc::new(text.into_owned())));
    }
    for (name, attribute) in event.extensions() {
        let value = match attribute {
            Attribute::Boolean(value) => Value::Bool(*value),
            Attribute::Integer(value) => Value::Int(i64::from(*value)),
            Attribute::String(value) => Value::String(Arc::new(value.clone())),
        };
        fields.insert(name.into(), value);
    }
    if data && let Some(data) = event.data() {
        let value = match data {
            Data::Json(bytes) => serde_json::from_slice(bytes).map_or(Value::Null, json),
            Data::Text(bytes) => Value::String(Arc::new(String::from_utf8_lossy(bytes).into_owned())),
            Data::Binary(bytes) => Value::Bytes(Arc::new(bytes.to_vec())),
        };
        fields.insert("data".into(), value);
    }
    fields.into()
}

/// JSON as CEL has it. Whole numbers are signed where they fit, as the literals they are compared with.
fn json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(values) => Value::List(Arc::new(values.into_iter().map(json).collect())),
        serde_json::Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (Key::from(name), json(value))).collect::<HashMap<_, _>>().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event::from_json(
            br#"{"specversion":"1.0","id":"1","source":"/shop","type":"order.created","subject":"o1","partitionkey":"k",
                "count":3,"data":{"total":120,"rate":0.5,"items":[{"sku":"a"},{"sku":"b"}],"big":18446744073709551615}}"#,
        )
        .unwrap()
    }

    #[test]
    fn expressions_see_attributes_and_data() {
        for (expression, matches) in [
            (r#"event.type == "order.created""#, true),
            (r#"event.type.startsWith("order.") && event.source == "/shop""#, true),
            (r#"event.type in ["order.paid", "order.shipped"]"#, false),
            ("event.data.total > 100", true),
            ("event.data.total == 120.0", true),
            ("event.data.rate < 1.0", true),
            ("event.count == 3", true),
            (r#"event.data.items.exists(item, item.sku == "b")"#, true),
            ("has(event.data.total) && !has(event.data.discount)", true),
            // What isn't there doesn't match, and neither does what is no truth.
            ("event.data.discount > 1", false),
            (r#"event.data.total == "120""#, false),
            ("event.data.total", false),
            ("event.nothing == 1", false),
        ] {
            assert_eq!(Filter::compile(expression).unwrap().matches(&event()), matches, "{expression}");
        }
    }

    #[test]
    fn what_is_no_filter_is_told_with_its_place() {
        let error = |source: &str| Filter::compile(source).err().map(|error| error.to_string()).unwrap_or_default();
        let syntax = error("event.type ==");
        assert!(syntax.starts_with("the filter is no CEL expression: line 1, column "), "{syntax}");
        assert!(error("type == \"a\"").contains("write `event.type`"), "{}", error("type == \"a\""));
        assert!(error(&format!("event.id == \"{}\"", "x".repeat(1 << 20))).contains("and the most is 4096"));
        let nested = "event.data.all(a, event.data.all(b, event.data.all(c, a == b || b == c)))";
        assert!(error(nested).contains("list within a list"), "{}", error(nested));
        assert!(error(&"(".repeat(4000)).contains("no CEL expression"));
        for deep in [format!("{}true{}", "(".repeat(2000), ")".repeat(2000)), format!("{}true", "!".repeat(4000))] {
            // Brackets and double negations leave nothing behind.
            let _ = error(&deep);
        }
        let deep = format!("{}event.id{}", "[".repeat(1000), "]".repeat(1000));
        assert!(error(&deep).contains("no CEL expression"), "{}", error(&deep));
        let sum = format!("event.count == {}", vec!["1"; 1500].join("+"));
        assert!(error(&sum).contains("within one another"), "{}", error(&sum));
        let any = vec!["event.type == \"order.created\""; 60].join(" || ");
        assert!(Filter::compile(&any).unwrap().matches(&event()));
    }
}
