//! What is wrong with a file, shown at its place the way a compiler would.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use std::{collections::BTreeMap, ops::Range, path::PathBuf};

/// One thing that is wrong: what, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnostic {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// Another place that belongs to it.
    context: Option<(Range<usize>, &'static str)>,
}

impl Diagnostic {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: None, context: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn context(mut self, span: Range<usize>, label: &'static str) -> Self {
        self.context = Some((span, label));
        self
    }
}

/// What is wrong with one file.
#[derive(Debug)]
pub(crate) struct FileProblems {
    pub(super) path: PathBuf,
    pub(super) text: String,
    /// At least one.
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// Manifests that were refused, here or by the server.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.render(false))]
pub(crate) struct Refused(pub(crate) Vec<FileProblems>);

impl Refused {
    /// Everything that is wrong as text, with colours or without. What is wrong in the same words in many files is shown in the
    /// first of them, and counted.
    pub(crate) fn render(&self, colours: bool) -> String {
        let (mut times, mut texts) = (BTreeMap::<_, usize>::new(), Vec::new());
        for file in &self.0 {
            for diagnostic in &file.diagnostics {
                let seen = times.entry((&diagnostic.message, &diagnostic.help)).or_default();
                *seen += 1;
                if *seen <= SHOWN {
                    texts.push(file.render(diagnostic, colours));
                }
            }
        }
        for ((message, _), count) in times.into_iter().filter(|(_, count)| *count > SHOWN) {
            texts.push(format!("and {} times more: {message}", count - SHOWN));
        }
        texts.join("\n\n")
    }
}

/// How often the same is shown.
const SHOWN: usize = 3;

impl FileProblems {
    fn render(&self, diagnostic: &Diagnostic, colours: bool) -> String {
        let Diagnostic { span, message, help, context } = diagnostic;
        let path = self.path.display().to_string();
        let renderer = if colours { Renderer::styled() } else { Renderer::plain() };
        let primary = AnnotationKind::Primary.span(first_line(span, &self.text));
        let mut snippet = Snippet::source(&self.text).path(&path).annotation(primary);
        if let Some((span, label)) = context {
            snippet = snippet.annotation(AnnotationKind::Context.span(span.clone()).label(*label));
        }
        let mut group = Level::ERROR.primary_title(message).element(snippet);
        if let Some(help) = help {
            group = group.element(Level::HELP.message(help));
        }
        renderer.render(&[group])
    }
}

/// A span's part on its first line: a value over several lines would hide what the message says.
fn first_line(span: &Range<usize>, text: &str) -> Range<usize> {
    let end = text[span.clone()].find('\n').map_or(span.end, |at| span.start + at);
    span.start..end
}
