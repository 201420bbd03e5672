//! Loops of topics and functions, found before they run.
//!
//! A function leads from the topics it reads to those it may publish to. A circle of these is refused at deploy, unless
//! some trigger in it has a filter, which may well end it. For those there is a second line: every event carries how many
//! functions it has come through, and one with too many goes to the dead letters.

use dunlin_events::{
    Manifest,
    manifest::Problem,
    topics::{TopicName, TopicPattern},
};

/// What a function does between topics.
struct Step<'a> {
    manifest: &'a Manifest,
    /// The trigger that reads without a filter, and what it reads.
    trigger: usize,
    from: TopicPattern,
    to: Vec<&'a TopicName>,
}

/// The problems of those manifests in `changed` (by their place) that are part of a circle of `all`.
pub(crate) fn problems(all: &[&Manifest], changed: &[usize]) -> Vec<(usize, Problem)> {
    let steps: Vec<Step<'_>> = all
        .iter()
        .flat_map(|manifest| {
            let to: Vec<_> = manifest.publish.iter().chain(&manifest.allow.publish).collect();
            let unfiltered = manifest.subscriptions().into_iter().filter(|(_, topic)| topic.filter.is_none());
            unfiltered.map(move |(trigger, topic)| Step { manifest, trigger, from: topic.name.clone(), to: to.clone() })
        })
        .collect();
    let mut problems = Vec::new();
    for place in changed {
        let manifest = all[*place];
        for (index, step) in steps.iter().enumerate().filter(|(_, step)| step.manifest.name == manifest.name) {
            if let Some(path) = circle(&steps, index) {
                let path: Vec<_> = path.iter().map(ToString::to_string).collect();
                let problem = Problem::new(
                    pointer(manifest, step.trigger),
                    format!("its events would go round for ever: {}", path.join(" → ")),
                );
                problems
                    .push((*place, problem.help("publish to another topic, or add a `filter` that ends the circle")));
                break;
            }
        }
    }
    problems
}

/// Where a trigger says which topic it reads.
fn pointer(manifest: &Manifest, trigger: usize) -> String {
    match manifest.triggers[trigger].kind() {
        "topic" => format!("/triggers/{trigger}/topic/name"),
        kind => format!("/triggers/{trigger}/{kind}"),
    }
}

/// The way from a step back to it, as topics and functions in turn.
fn circle<'a>(steps: &[Step<'a>], start: usize) -> Option<Vec<&'a dyn std::fmt::Display>> {
    // Breadth first, so that the shortest is told. `None` for those not reached.
    let mut from: Vec<Option<(usize, &'a TopicName)>> = vec![None; steps.len()];
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(step) = queue.pop_front() {
        for topic in &steps[step].to {
            for (next, other) in steps.iter().enumerate() {
                if !other.from.matches(topic) || (next != start && from[next].is_some()) {
                    continue;
                }
                from[next] = Some((step, topic));
                if next == start {
                    return Some(way(steps, &from, start));
                }
                queue.push_back(next);
            }
        }
    }
    None
}

fn way<'a>(
    steps: &[Step<'a>],
    from: &[Option<(usize, &'a TopicName)>],
    start: usize,
) -> Vec<&'a dyn std::fmt::Display> {
    let mut way: Vec<&'a dyn std::fmt::Display> = Vec::new();
    let mut at = start;
    while let Some((before, topic)) = from[at] {
        way.push(topic);
        way.push(&steps[before].manifest.name);
        at = before;
        if at == start {
            break;
        }
    }
    way.reverse();
    way.push(&steps[start].manifest.name);
    way
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manifest(name: &str, reads: &str, filter: Option<&str>, publishes: &str) -> Manifest {
        let mut topic = json!({ "name": reads });
        if let Some(filter) = filter {
            topic["filter"] = filter.into();
        }
        let manifest =
            json!({ "name": name, "component": "a.wasm", "triggers": [{ "topic": topic }], "publish": publishes });
        serde_json::from_value(manifest).unwrap()
    }

    #[test]
    fn circles_are_found_and_told() {
        let billing = manifest("billing", "orders", None, "payments");
        let shipment = manifest("shipment", "payments", None, "shipments");
        let back = manifest("back", "shipments", None, "orders");
        assert!(problems(&[&billing, &shipment], &[0, 1]).is_empty());
        let found = problems(&[&billing, &shipment, &back], &[2]);
        let [(2, problem)] = &found[..] else { panic!("{found:?}") };
        assert_eq!(problem.pointer, "/triggers/0/topic/name");
        assert_eq!(
            problem.message,
            "its events would go round for ever: back → orders → billing → payments → shipment → shipments → back"
        );

        let itself = manifest("itself", "a.**", None, "a.b");
        assert_eq!(problems(&[&itself], &[0]).len(), 1);
        let filtered = manifest("itself", "a.**", Some("event.type == \"x\""), "a.b");
        assert!(problems(&[&filtered], &[0]).is_empty());
    }
}
