//! How a command ends: its exit code, and what it says when it failed: what, where, why, and the fix.

use crate::manifest::Refused;
use std::{fmt, io, process::ExitCode};

/// The exit codes. They are part of the command line's contract (`docs/cli.md`): scripts test for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// None of the below.
    Failed = 1,
    // 2 is clap's: the command line itself is wrong.
    /// The manifest, the component or the request was refused, and nothing changed.
    Refused = 3,
    /// The platform could not be reached.
    Unreachable = 4,
    /// `invoke`: the function answered, with a status of 400 or more.
    ErrorStatus = 5,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure with the fix.
#[derive(Debug)]
pub(crate) struct Failure {
    what: String,
    help: Option<String>,
    exit: Exit,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Failure {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), help: None, exit: Exit::Failed, cause: None }
    }

    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self { exit: Exit::Refused, ..Self::new(what) }
    }

    pub(crate) fn unreachable(what: impl Into<String>) -> Self {
        Self { exit: Exit::Unreachable, ..Self::new(what) }
    }

    #[must_use]
    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(crate) fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static))
    }
}

/// Prints why a command failed, and says with which code to exit.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // `dunlin list | head -1`: whoever read has had enough, which is no failure.
    if error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)) {
        return ExitCode::SUCCESS;
    }
    let (text, exit) = describe(error, true);
    // Where not even stderr takes it, nobody is there to tell.
    let _ = io::Write::write_all(&mut anstream::stderr(), text.as_bytes());
    exit.into()
}

fn describe(error: &anyhow::Error, colours: bool) -> (String, Exit) {
    if let Some(refused) = error.downcast_ref::<Refused>() {
        return (format!("{}\n", refused.render(colours)), Exit::Refused);
    }
    let [error_word, cause_word, help_word] = if colours {
        ["\x1b[1m\x1b[91merror\x1b[0m", "\x1b[1mcause\x1b[0m", "\x1b[1m\x1b[96mhelp\x1b[0m"]
    } else {
        ["error", "cause", "help"]
    };
    let mut text = format!("{error_word}: {error}\n");
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        // Many errors repeat their cause in their own text.
        let cause = cause.to_string();
        if !said.contains(&cause) {
            text.push_str(&format!("  {cause_word}: {cause}\n"));
            said = cause;
        }
    }
    let failure = error.chain().find_map(|error| error.downcast_ref::<Failure>());
    if let Some(help) = failure.and_then(|failure| failure.help.as_ref()) {
        text.push_str(&format!("  {help_word}: {help}\n"));
    }
    (text, failure.map_or(Exit::Failed, |failure| failure.exit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn failures_say_what_why_and_the_fix() {
        let cause = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let failure = Failure::unreachable("no platform answers at `http://a`").help("start it").because(cause);
        let (text, exit) = describe(&Err::<(), _>(failure).context("`b` was not deployed").unwrap_err(), false);
        assert_eq!(
            text,
            "error: `b` was not deployed\n  cause: no platform answers at `http://a`\n  cause: connection refused\n  help: start it\n"
        );
        assert_eq!(exit, Exit::Unreachable);
    }

    #[test]
    fn a_cause_that_was_said_is_not_said_again() {
        let (text, exit) = describe(&anyhow::anyhow!("disk full").context("writing failed: disk full"), false);
        assert_eq!((text.as_str(), exit), ("error: writing failed: disk full\n", Exit::Failed));
    }
}
