use super::*;
use dunlin_events::manifest::Build;

fn environment(name: &str) -> Option<String> {
    match name {
        "REGION" => Some("eu".into()),
        "PLACES" => Some("7".into()),
        "SECONDS" => Some("soon".into()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<ManifestFile, FileProblems> {
    ManifestFile::parse("function.yaml".into(), text.as_bytes().to_vec(), &environment)
}

/// What is shown, a line for each complaint: `line:column what | fix`.
fn shown(problems: FileProblems) -> Vec<String> {
    let text = Refused(vec![problems]).to_string();
    let mut found = Vec::<String>::new();
    for complaint in text.split("error: ").skip(1) {
        let (what, rest) = complaint.split_once('\n').unwrap();
        let place = rest.lines().next().unwrap().trim().strip_prefix("--> function.yaml:").unwrap();
        let fix = rest.split_once("= help: ").map(|(_, fix)| format!(" | {}", fix.trim_end())).unwrap_or_default();
        found.push(format!("{place} {what}{fix}"));
    }
    found
}

fn complaints(text: &str) -> Vec<String> {
    shown(parse(text).map(|file| file.manifest).expect_err("the manifest is bad"))
}

/// A manifest that is right but for its end.
fn complaints_of(end: &str) -> Vec<String> {
    complaints(&format!("name: a\ncomponent: a.wasm\n{end}"))
}

const LOOK: &str = "look at the lines before, too: often a quote or a bracket is open, a colon lacks its space, or the indentation is off";

#[test]
fn a_complaint_looks_like_a_compiler_s() {
    let text = "name: a\ncomponent: a.wasm\nlimits:\n  memroy: 64MiB\nname: b\n";
    let shown = Refused(vec![parse(text).unwrap_err()]).to_string();
    assert_eq!(
        shown,
        "\
error: unknown key `memroy`
 --> function.yaml:4:3
  |
4 |   memroy: 64MiB
  |   ^^^^^^
  |
  = help: did you mean `memory`?

error: the key `name` is there twice
 --> function.yaml:5:1
  |
1 | name: a
  | ---- first here
...
5 | name: b
  | ^^^^
  |
  = help: keep one of the two"
    );
}

#[test]
fn broken_yaml_has_a_place_and_a_hint() {
    assert_eq!(
        complaints("name: a\ncomponent: 'open\n"),
        [format!("2:12 the YAML can't be read: unclosed quote | {LOOK}")]
    );
    assert_eq!(
        complaints_of("limits: { memory: 64MiB\n"),
        [format!("3:9 the YAML can't be read: unclosed bracket '{{' | {LOOK}")]
    );
    assert_eq!(
        complaints_of("limits:\n\tmemory: 64MiB\n"),
        ["4:1 this line is indented with a tab | indent it with spaces: YAML knows no tabs"]
    );
    assert_eq!(
        complaints_of("---\nname: b\ncomponent: b.wasm\n"),
        [
            "4:1 a second document begins here | one file holds one function: give the other one a folder and a `function.yaml` of its own"
        ]
    );
    assert_eq!(
        complaints_of("build: !run make\n"),
        ["3:13 a manifest has no YAML tags | leave out what begins with `!`"]
    );
    assert_eq!(complaints("# nothing\n"), ["1:1 the file is empty | write at least `name: ...` and `component: ...`"]);
    assert_eq!(complaints("- name: a\n"), ["1:1 expected keys with values, found a list | leave out the `-`"]);
    let error = ManifestFile::parse("function.yaml".into(), b"name: \xff\n".to_vec(), &environment).unwrap_err();
    assert_eq!(shown(error), ["1:7 the file is not text in UTF-8 | save it as UTF-8"]);
}

#[test]
fn bombs_are_defused() {
    let what = "the file is larger, deeper or expands to more than any manifest needs";
    let mut aliases = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let before = format!("*a{}", level - 1);
        aliases.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(", ")));
    }
    for bomb in [
        aliases,
        format!("name: {}", "[".repeat(10_000)),
        format!("name: a\n{}", "- x\n".repeat(20_000)),
        "a: ".repeat(5_000),
    ] {
        let found = complaints(&bomb);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(what) || found[0].contains("can't be read"), "{found:?}");
    }
}

#[test]
fn all_mistakes_are_shown_at_once() {
    assert_eq!(
        complaints(
            "name: Hello_World\nlimits:\n  time: 10\n  cpu: soon\n  concurrency: 0\n  queue: -1\n  log: \"5\"\ntriggers:\n"
        ),
        [
            "1:7 `Hello_World` is not a function name | use 1 to 63 lowercase letters, digits and hyphens, beginning with a letter and not ending with a hyphen",
            "3:9 expected text, found the number `10` | put it in quotes, `\"10\"`, or give it its unit: `10s`, `10MiB`",
            "4:8 `soon` is not a duration | write a whole number and a unit, such as `200ms`, `10s` or `1m 30s`",
            "5:16 expected a whole number from 1 to 4294967295, found `0`",
            "6:10 expected a whole number from 0 to 4294967295, found `-1`",
            "7:8 `5` is not a size | write a whole number and a unit, such as `64MiB`, `512KiB` or `10MB`",
            "8:1 expected a list, found nothing | write its entries below, each after a `- `, or leave the key out",
        ]
    );
    assert_eq!(complaints("component: a.wasm\n"), ["1:1 `name` is missing | add a line `name: ...`"]);
    assert_eq!(complaints("nmae: a\ncomponent: a.wasm\n"), ["1:1 unknown key `nmae` | did you mean `name`?"]);
}

#[test]
fn mistakes_inside_triggers_have_their_place() {
    assert_eq!(
        complaints_of(
            "triggers:\n  - http: { path: hello, methods: [get, LINK] }\n  - htpp: { path: /a }\n  - http:\n    path: /b\n  - http: {}\n  - http\n  - { http: { path: /c, hots: x } }\n"
        ),
        [
            "4:19 `hello` is not a route: it must begin with `/`",
            "4:36 unknown value `get` | did you mean `GET`?",
            "4:41 unknown value `LINK` | known here: `GET`, `HEAD`, `POST`, `PUT`, `PATCH`, `DELETE`, `OPTIONS`",
            "5:5 unknown key `htpp` | did you mean `http`?",
            "6:5 `path` stands beside `http`, not below it | indent `path` further than `http`",
            "8:5 `path` is missing | add a line `path: ...`",
            "9:5 `http` needs keys of its own | write `http: { ... }`",
            "10:25 unknown key `hots` | did you mean `host`?",
        ]
    );
    assert_eq!(
        complaints_of("triggers:\n  http: { path: / }\n"),
        ["3:1 expected a list, found keys with values | begin each entry with `- `"]
    );
}

#[test]
fn mistakes_inside_allow_have_their_place() {
    assert_eq!(
        complaints_of(
            "allow:\n  env:\n    PORT: 8080\n    DEBUG: true\n    \"2X\": a\n  secrets: [key]\n  http: https://a.b\n  networks: [10.0.0.0]\n"
        ),
        [
            "5:11 expected text, found the number `8080` | put it in quotes, `\"8080\"`, or give it its unit: `8080s`, `8080MiB`",
            "6:12 expected text, found `true` | put it in quotes: `\"true\"`",
            "7:5 `2X` is not a variable name | use letters, digits and `_`, not beginning with a digit",
            "8:13 `key` is not a secret's name | use uppercase letters, digits and `_`, beginning with a letter",
            "9:9 expected a list, found the text `https://a.b` | put it in brackets: `[https://a.b]`",
            "10:14 `10.0.0.0` is not a network | write an address and the length of its prefix, such as `10.0.0.0/8`",
        ]
    );
    assert_eq!(
        complaints_of("allow: { env: { KEY: x }, secrets: [KEY] }\n"),
        [
            "3:37 `KEY` is both a secret and a variable of `allow.env` | keep one of the two: both reach the function as the same environment variable"
        ]
    );
}

#[test]
fn variables_come_from_the_environment() {
    let file = parse(
        "name: a\ncomponent: \"x/${REGION}.wasm\"\nbuild: make ${TARGET}\nlimits: { concurrency: \"${PLACES}\", log: \"${LOG:-2KiB}\" }\n",
    );
    let manifest = file.map_err(shown).unwrap().manifest;
    assert_eq!(manifest.component, "x/eu.wasm");
    assert_eq!(manifest.build, Some(Build::Command("make ${TARGET}".into())), "`build` is left to the shell");
    assert_eq!((manifest.limits.concurrency.get(), manifest.limits.log.bytes()), (7, 2048));
    assert_eq!(
        complaints(
            "name: a\ncomponent: \"ö${REGION}/${NOPE}\"\nlimits: { queue: \"${REGION}\", time: \"${SECONDS}\" }\n"
        ),
        [
            "2:24 the environment variable `NOPE` is not set | set it (`export NOPE=...`), give it a default (`${NOPE:-...}`), or write `$${` for a plain `${`",
            "3:18 expected a whole number, found the text `eu` | look at the variable's value",
            "3:37 `soon` is not a duration | write a whole number and a unit, such as `200ms`, `10s` or `1m 30s`",
        ]
    );
}

#[test]
fn what_is_wrong_in_many_files_is_counted() {
    let file = parse("name: a\ncomponent: a.wasm\ntriggers:\n  - http: { path: /a }\n").map_err(shown).unwrap();
    let missing = |name: &str| Problem::new("/name", format!("the platform has no secret `{name}`")).help("set it");
    let mut found: Vec<_> = (0..1000).map(|_| file.problems(&[missing("KEY")])).collect();
    found.push(file.problems(&[missing("OTHER")]));
    let text = Refused(found).to_string();
    assert_eq!(text.matches("error: the platform has no secret `KEY`").count(), 3, "{text}");
    assert_eq!(text.matches("error: the platform has no secret `OTHER`").count(), 1, "{text}");
    assert!(text.ends_with("and 997 times more: the platform has no secret `KEY`"), "{text}");
}

#[test]
fn problems_of_the_platform_are_shown_in_the_file() {
    let file = parse(
        "name: a\ncomponent: a.wasm\ntriggers:\n  - http: { path: /a }\n  - http:\n      path: /b\n      methods: [GET, POST]\nallow:\n  secrets: [KEY]\n",
    );
    let file = file.map_err(shown).unwrap();
    let place = |pointer: &str| shown(file.problems(&[Problem::new(pointer, "x")]))[0].clone();
    for (pointer, at) in [
        ("", "1:1 x"),
        ("/name", "1:7 x"),
        ("/triggers", "3:1 x"),
        ("/triggers/0", "4:5 x"),
        ("/triggers/0/http/path", "4:19 x"),
        ("/triggers/1/http/path", "6:13 x"),
        ("/triggers/1/http/methods/1", "7:22 x"),
        ("/allow/secrets/0", "9:13 x"),
        // What is not in the file is shown at what is around it.
        ("/allow/http", "8:1 x"),
        ("/triggers/1/http/host", "5:5 x"),
        ("/triggers/9", "3:1 x"),
        ("/limits/memory", "1:1 x"),
    ] {
        assert_eq!(place(pointer), at, "{pointer}");
    }
    let problem = Problem::new("/allow/secrets/0", "the platform has no secret `KEY`").help("set it");
    assert_eq!(shown(file.problems(&[problem])), ["9:13 the platform has no secret `KEY` | set it"]);
}

#[test]
fn anchors_and_merge_keys_work_and_complaints_point_at_their_use() {
    let text = "name: a\ncomponent: a.wasm\ntriggers:\n  - http: &get { path: /a, methods: [GET] }\n  - http: { <<: *get, path: /b }\n";
    let manifest = parse(text).map_err(shown).unwrap().manifest;
    let paths: Vec<_> = manifest.http_triggers().map(|(_, http)| (http.path.as_str(), http.methods.len())).collect();
    assert_eq!(paths, [("/a", 1), ("/b", 1)]);
}

#[test]
fn two_functions_of_one_name_are_told() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::write(folder.path().join(name).join("function.yaml"), "name: same\ncomponent: a.wasm\n").unwrap();
    }
    let error = read_all(&[folder.path()], &environment).unwrap_err().to_string();
    let first = folder.path().join("a/function.yaml");
    assert!(error.contains(&format!("`same` is also the name in `{}`", first.display())), "{error}");
    assert!(error.contains("b/function.yaml:1:7"), "{error}");
}
