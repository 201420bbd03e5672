//! `${VAR}` in a manifest's values: the environment of whoever deploys.
//!
//! `${NAME}` must be set, `${NAME:-text}` has a default, `$${` writes `${`. A `$` before anything else stands for itself.
//! `build` is left alone: it is a command, and the shell that runs it sees the same environment.

use super::{
    diagnostic::Diagnostic,
    tree::{Node, Value},
};

/// Asks for the value of an environment variable.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables of a whole file. What has a complaint is marked bad.
pub(super) fn expand(root: &mut Node, source: &str, environment: Environment<'_>) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    if let Value::Map(entries) = &mut root.value {
        for entry in entries.iter_mut().filter(|entry| entry.key != "build") {
            walk(&mut entry.node, source, environment, &mut found);
        }
    }
    found
}

fn walk(node: &mut Node, source: &str, environment: Environment<'_>, found: &mut Vec<Diagnostic>) {
    match &mut node.value {
        Value::Text(text) => match replace(text, environment) {
            Ok(None) => {}
            Ok(Some(replaced)) => {
                *text = replaced;
                node.expanded = true;
            }
            Err(Wrong { variable, message, help }) => {
                // Quotes and escapes move the text about, so the variable is looked for where it is written.
                let offset = source[node.span.clone()].find(&variable);
                let span = offset.map_or(node.span.clone(), |at| {
                    let start = node.span.start + at;
                    start..start + variable.len()
                });
                found.push(Diagnostic::new(span, message).help(help));
                node.bad = true;
            }
        },
        Value::List(nodes) => nodes.iter_mut().for_each(|node| walk(node, source, environment, found)),
        Value::Map(entries) => entries.iter_mut().for_each(|entry| walk(&mut entry.node, source, environment, found)),
        _ => {}
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    /// As the file has it.
    variable: String,
    message: String,
    help: String,
}

/// The text with its variables replaced, or `None` when it has none.
fn replace(text: &str, environment: Environment<'_>) -> Result<Option<String>, Wrong> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut replaced = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            replaced.push_str(&rest[..at - 1]);
            replaced.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        replaced.push_str(&rest[..at]);
        let inside = &rest[at + 2..];
        let Some(end) = inside.find('}') else {
            return Err(Wrong {
                variable: rest[at..].to_owned(),
                message: "this variable has no end".into(),
                help: "close it with `}`, or write `$${` for a plain `${`".into(),
            });
        };
        let variable = &rest[at..at + end + 3];
        let (name, default) =
            inside[..end].split_once(":-").map_or((&inside[..end], None), |(name, text)| (name, Some(text)));
        let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !valid {
            return Err(Wrong {
                variable: variable.to_owned(),
                message: format!("`{variable}` names no variable"),
                help: "write `${NAME}` or `${NAME:-default}`, or `$${` for a plain `${`".into(),
            });
        }
        match (environment(name), default) {
            (Some(value), _) => replaced.push_str(&value),
            (None, Some(default)) => replaced.push_str(default),
            (None, None) => {
                return Err(Wrong {
                    variable: variable.to_owned(),
                    message: format!("the environment variable `{name}` is not set"),
                    help: format!(
                        "set it (`export {name}=...`), give it a default (`${{{name}:-...}}`), or write `$${{` for a plain `${{`"
                    ),
                });
            }
        }
        rest = &inside[end + 1..];
    }
    replaced.push_str(rest);
    Ok(Some(replaced))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_defaults_and_escapes() {
        let environment = |name: &str| (name == "REGION").then(|| "eu-${X}".to_owned());
        let replaced = |text| replace(text, &environment).unwrap();
        assert_eq!(replaced("plain $REGION costs 5$"), None);
        assert_eq!(replaced("a ${REGION} b").unwrap(), "a eu-${X} b", "a value is not looked into again");
        assert_eq!(replaced("${NONE:-x:-y}${NONE:-}${REGION:-z}").unwrap(), "x:-yeu-${X}");
        assert_eq!(replaced("$${REGION} and $$${REGION}").unwrap(), "${REGION} and $${REGION}");
        assert_eq!(replaced("ä${REGION}ö").unwrap(), "äeu-${X}ö");
        for bad in ["${NONE}", "${}", "${a b}", "${REGION", "${${REGION}}"] {
            assert!(replace(bad, &environment).is_err(), "{bad}");
        }
    }
}
