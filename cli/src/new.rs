//! `dunlin new`: a function to begin with, out of the templates in `cli/templates`: it builds and its test passes as it is.

use crate::{
    build::{bring, own, sdk_path, venv_path},
    output::{BOLD, PLAIN, ask, choose, print, tell},
    report::Failure,
};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use dunlin_events::FunctionName;
use rust_embed::RustEmbed;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Make a new function: its source with a test, and its manifest.
///
/// What isn't said is asked for.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunlin new greeter --lang python --trigger http
  dunlin new billing --lang rust --trigger topic
  dunlin new")]
pub(crate) struct NewArgs {
    /// The function's name, and that of its folder: lowercase letters, digits and hyphens.
    name: Option<FunctionName>,
    /// The language.
    #[arg(short, long, value_name = "LANGUAGE")]
    lang: Option<Language>,
    /// When it runs.
    #[arg(short, long)]
    trigger: Option<Kind>,
    /// Where its folder is made.
    #[arg(long, value_name = "DIR", default_value = ".")]
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// Rust, by cargo.
    Rust,
    /// TypeScript or JavaScript, with npm.
    #[value(alias = "js", alias = "ts", alias = "typescript")]
    Javascript,
    /// Python.
    #[value(alias = "py")]
    Python,
    /// Go.
    Go,
    /// C: a program that reads stdin and writes stdout.
    C,
}

impl Language {
    /// As the manifest's `build` names it.
    const fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Javascript => "javascript",
            Self::Python => "python",
            Self::Go => "go",
            Self::C => "c",
        }
    }

    /// The commands that test a new function without WebAssembly.
    const fn tests(self) -> Option<&'static str> {
        match self {
            Self::Rust => Some("cargo test"),
            Self::Javascript => Some("npm test"),
            Self::Python => Some("{{venv}}/bin/python -m unittest"),
            Self::Go => Some("go test ./..."),
            Self::C => None,
        }
    }
}

/// A kind of trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// HTTP requests.
    Http,
    /// Events of a topic.
    Topic,
    /// Webhooks of another service.
    Webhook,
    /// Certain times.
    Schedule,
    /// Files that are put into a folder.
    Files,
    /// Changes of a database's tables.
    Database,
}

impl Kind {
    /// The template's folder: what an event is about makes no difference for its handler.
    const fn template(self) -> &'static str {
        match self {
            Self::Http => "http",
            _ => "topic",
        }
    }

    /// The manifest's lines.
    const fn trigger(self) -> &'static str {
        match self {
            Self::Http => {
                "  # `{who}` is a parameter of the path.
  - http: { path: \"/{{name}}/{who}\", methods: [GET] }
"
            }
            Self::Topic => {
                "  # Each event of the topic; `filter: 'event.type == \"order.created\"'` would leave others out.
  - topic: { name: orders, from: beginning }
"
            }
            Self::Webhook => {
                "  # The platform has the secret from a file or a variable: `DUNLIN_SECRET_WEBHOOK=… dunlin up`.
  - webhook: { path: /hooks/{{name}}, provider: github, secrets: [WEBHOOK] }
"
            }
            Self::Schedule => {
                "  # Or as cron has it: { cron: \"0 3 * * *\", timezone: Europe/Berlin }
  - schedule: { every: 1m }
"
            }
            Self::Files => {
                "  # The folder has to be there. What was taken goes to `inbox/done`.
  - files: { path: ./inbox, include: [\"*\"], then: move }
"
            }
            Self::Database => {
                "  # The platform has the password as it has a secret: `DUNLIN_SECRET_DB_PASSWORD=… dunlin up`.
  - database: { url: \"postgresql://dunlin@localhost/shop\", password: DB_PASSWORD, tables: [public.orders] }
"
            }
        }
    }
}

/// Placeholders: `{{name}}`, `{{triggers}}` for the manifest's lines, and `{{sdk}}` and `{{venv}}` for the ways to
/// the SDK's folder and to the function's environment of Python.
#[derive(RustEmbed)]
#[folder = "templates"]
struct Templates;

pub(crate) async fn run(args: NewArgs) -> anyhow::Result<()> {
    let undone = "no function was made";
    let name = match args.name {
        Some(name) => name,
        None => ask("Name", undone, |text| text.parse::<FunctionName>().map_err(|error| error.to_string())).await?,
    };
    let lang = match args.lang {
        Some(lang) => lang,
        None => choose("Language", undone).await?,
    };
    let kind = match args.trigger {
        Some(kind) => kind,
        None => choose("Trigger", undone).await?,
    };
    let folder = if args.path == Path::new(".") { PathBuf::from(name.as_str()) } else { args.path.join(name.as_str()) };
    make(&folder, &name, lang, kind)?;
    let whole = folder.canonicalize().with_context(|| format!("`{}` can't be read", folder.display()))?;
    bring(&own(&whole)?, lang.name())?;
    tell(format_args!("made {BOLD}{}{PLAIN}. To go on:", folder.display()));
    let mut next = vec![format!("cd {}", folder.display()), "dunlin build".to_owned()];
    next.extend(lang.tests().map(|tests| tests.replace("{{venv}}", &venv_path(&whole, name.as_str()))));
    next.extend(["dunlin test".to_owned(), "dunlin dev".to_owned()]);
    Ok(print(next.join("\n"))?)
}

/// Writes a template out: all of its files, or none.
fn make(folder: &Path, name: &FunctionName, lang: Language, kind: Kind) -> anyhow::Result<()> {
    let failed = || format!("`{}` can't be made", folder.display());
    fs::create_dir_all(folder.parent().unwrap_or(folder)).with_context(failed)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let what = format!("`{}` is there already", folder.display());
            return Err(Failure::refused(what).help("choose another name, or another folder with `--path`").into());
        }
        other => other.with_context(failed)?,
    }
    let whole = folder.canonicalize().with_context(failed)?;
    let (sdk, venv) = (sdk_path(&whole, lang.name()), venv_path(&whole, name.as_str()));
    for (path, content) in files(name, lang, kind) {
        let content = content.replace("{{sdk}}", &sdk).replace("{{venv}}", &venv);
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap_or(folder)).with_context(failed)?;
        fs::write(path, content).with_context(failed)?;
    }
    if kind == Kind::Files {
        let inbox = folder.join("inbox");
        fs::create_dir(&inbox).with_context(failed)?;
        fs::write(inbox.join(".gitkeep"), "").with_context(failed)?;
    }
    Ok(())
}

/// The files of a template, with the name and the trigger in their places.
fn files(name: &FunctionName, lang: Language, kind: Kind) -> Vec<(PathBuf, String)> {
    let prefix = format!("{}/{}/", lang.name(), kind.template());
    let mut files = Vec::new();
    for path in Templates::iter().filter(|path| path.starts_with(&prefix)) {
        let file = Templates::get(&path).expect("it was listed");
        let text = String::from_utf8(file.data.into_owned()).expect("templates are text");
        let text = text.replace("{{triggers}}\n", kind.trigger()).replace("{{name}}", name.as_str());
        // A file of this name in the repository would hide files of it.
        let path = path[prefix.len()..].replace("gitignore", ".gitignore");
        files.push((path.into(), text));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_whole() {
        let name = "greeter".parse().unwrap();
        for lang in Language::value_variants() {
            for kind in Kind::value_variants() {
                let files = files(&name, *lang, *kind);
                let has = |wanted: &str| files.iter().any(|(path, _)| path == Path::new(wanted));
                assert!(has("function.yaml") && has("README.md") && has(".gitignore"), "{lang:?} {kind:?}");
                let manifest = &files.iter().find(|(path, _)| path == Path::new("function.yaml")).unwrap().1;
                assert!(manifest.contains("name: greeter"), "{manifest}");
                for (path, text) in &files {
                    let text = text.replace("{{sdk}}", "").replace("{{venv}}", "");
                    assert!(!text.contains("{{"), "{lang:?} {kind:?} {}: {text}", path.display());
                }
                assert!(files.iter().any(|(path, _)| path.starts_with("tests")), "{lang:?} {kind:?} has a case");
            }
        }
    }

    #[test]
    fn every_manifest_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut made = 0;
        for lang in Language::value_variants() {
            for kind in Kind::value_variants() {
                let name: FunctionName = format!("{}-{kind:?}", lang.name()).to_lowercase().parse().unwrap();
                make(&folder.path().join(name.as_str()), &name, *lang, *kind).unwrap();
                made += 1;
            }
        }
        let files = crate::manifest::read_all(&[folder.path()], &|_| None).unwrap();
        assert_eq!(files.len(), made);
        for file in files {
            let kind = file.manifest.name.as_str().rsplit_once('-').unwrap().1;
            assert_eq!(file.manifest.triggers[0].kind(), kind);
        }
    }

    #[test]
    fn a_folder_that_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("greeter");
        let name = "greeter".parse().unwrap();
        make(&place, &name, Language::Rust, Kind::Files).unwrap();
        assert!(place.join("src/lib.rs").is_file() && place.join("inbox").is_dir());
        let error = make(&place, &name, Language::Rust, Kind::Http).unwrap_err();
        assert!(error.to_string().contains("is there already"), "{error}");
    }
}
