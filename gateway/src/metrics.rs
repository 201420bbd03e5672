//! The counters as Prometheus reads them: text exposition format 0.0.4.
//!
//! Written by hand from the table of active functions: a metrics library would keep a second copy of every counter by
//! label, for ten thousand functions of which few are ever called. A function that was never called has no lines but
//! counts in `dunlin_functions`.

use crate::{
    active::{ActiveFunction, BUCKETS, Counts},
    deploy::Deployments,
};
use std::fmt::Write;

/// All metrics now.
pub fn text(deployments: &Deployments) -> String {
    let table = deployments.table();
    let called: Vec<_> = table
        .functions
        .values()
        .map(|function| (&**function, function.counters.read()))
        .filter(|(function, counts)| counts.invocations() > 0 || function.handle.load().running > 0)
        .collect();

    let mut text = String::new();
    let version = env!("CARGO_PKG_VERSION");
    family(&mut text, "dunlin_build_info", "gauge", "The platform's version.");
    line(&mut text, "dunlin_build_info", &[("version", version)], 1);
    family(&mut text, "dunlin_functions", "gauge", "Deployed functions.");
    line(&mut text, "dunlin_functions", &[], table.functions.len());
    family(&mut text, "dunlin_log_records_total", "counter", "Lines functions printed and the platform wrote of them.");
    line(&mut text, "dunlin_log_records_total", &[], deployments.logs().records());

    family(&mut text, "dunlin_invocations_running", "gauge", "Invocations that run now.");
    each(&mut text, &called, |text, name, function, _| {
        line(text, "dunlin_invocations_running", &[("function", name)], function.handle.load().running);
    });
    family(&mut text, "dunlin_invocations_waiting", "gauge", "Invocations that wait for a place to run.");
    each(&mut text, &called, |text, name, function, _| {
        line(text, "dunlin_invocations_waiting", &[("function", name)], function.handle.load().waiting);
    });
    family(&mut text, "dunlin_invocations_total", "counter", "Invocations that ended, by what they came to.");
    each(&mut text, &called, |text, name, _, counts| {
        for (outcome, count) in [("succeeded", counts.succeeded)].into_iter().chain(counts.failed()) {
            line(text, "dunlin_invocations_total", &[("function", name), ("outcome", outcome)], count);
        }
    });
    let duration = "dunlin_invocation_duration_seconds";
    family(&mut text, duration, "histogram", "From the first byte of an invocation to the last of its answer.");
    each(&mut text, &called, |text, name, _, counts| {
        let mut total = 0;
        for (index, count) in counts.buckets.iter().enumerate() {
            total += count;
            let bound = BUCKETS.get(index).map_or("+Inf".into(), f64::to_string);
            line(text, &format!("{duration}_bucket"), &[("function", name), ("le", &bound)], total);
        }
        line(text, &format!("{duration}_sum"), &[("function", name)], counts.seconds);
        // The buckets' own sum, not the outcomes': both were counted meanwhile, and these two must agree.
        line(text, &format!("{duration}_count"), &[("function", name)], total);
    });
    text
}

fn each(
    text: &mut String,
    called: &[(&ActiveFunction, Counts)],
    write: impl Fn(&mut String, &str, &ActiveFunction, &Counts),
) {
    for (function, counts) in called {
        write(text, function.name().as_str(), function, counts);
    }
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a string takes all that is written");
}

/// One sample. No label value here needs escaping: they are function names, words and numbers.
fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    text.push_str(name);
    for (index, (label, value)) in labels.iter().enumerate() {
        let before = if index == 0 { '{' } else { ',' };
        write!(text, "{before}{label}=\"{value}\"").expect("a string takes all that is written");
    }
    let end = if labels.is_empty() { "" } else { "}" };
    writeln!(text, "{end} {value}").expect("a string takes all that is written");
}
