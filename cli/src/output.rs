//! What commands print: tables for people, JSON for programs, progress on a terminal.
//!
//! Results go to stdout, all else to stderr. `anstream` takes colours away where nobody sees them, and `NO_COLOR` is heard.

use crate::report::Failure;
use comfy_table::{Table, presets::NOTHING};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::{
    borrow::Cow,
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::io::AsyncBufReadExt as _;

pub(crate) const BOLD: &str = "\x1b[1m";
pub(crate) const RED: &str = "\x1b[31m";
pub(crate) const GREEN: &str = "\x1b[32m";
pub(crate) const YELLOW: &str = "\x1b[33m";
pub(crate) const DIM: &str = "\x1b[2m";
pub(crate) const PLAIN: &str = "\x1b[0m";

/// Prints a result, and a line end.
pub(crate) fn print(text: impl Display) -> io::Result<()> {
    writeln!(anstream::stdout(), "{text}")
}

/// Prints a result for programs.
pub(crate) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

/// Tells how things are going.
pub(crate) fn tell(text: impl Display) {
    // Where nobody reads it, it isn't missed.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Asks whether to go on; `undone` says what has not happened if not. Where nobody can answer, the answer has to be on
/// the command line.
pub(crate) async fn confirm(question: &str, undone: &str) -> anyhow::Result<()> {
    if !io::stdin().is_terminal() {
        return Err(Failure::refused(format!("{undone}: nobody is there to ask")).help("say `--yes`").into());
    }
    let mut stderr = io::stderr();
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut answer).await?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Failure::refused(undone).into()) }
}

/// Asks until the answer can be read. Where nobody can answer, it has to be on the command line.
pub(crate) async fn ask<T>(
    question: &str,
    undone: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> anyhow::Result<T> {
    if !io::stdin().is_terminal() {
        let what = format!("{undone}: nobody is there to ask for the {}", question.to_lowercase());
        return Err(Failure::refused(what).help("say it on the command line: `--help` tells how").into());
    }
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    loop {
        let mut stderr = io::stderr();
        write!(stderr, "{question}: ")?;
        stderr.flush()?;
        let Some(line) = lines.next_line().await? else { return Err(Failure::refused(undone).into()) };
        match read(line.trim()) {
            Ok(answer) => return Ok(answer),
            Err(reason) => tell(reason),
        }
    }
}

/// Asks for one of the values an option has, by its name or its number.
pub(crate) async fn choose<T: clap::ValueEnum + Clone>(question: &str, undone: &str) -> anyhow::Result<T> {
    let values = T::value_variants();
    let names: Vec<_> = values.iter().filter_map(clap::ValueEnum::to_possible_value).collect();
    if io::stdin().is_terminal() {
        for (number, name) in names.iter().enumerate() {
            let help = name.get_help().map(|help| format!("  {DIM}{help}{PLAIN}")).unwrap_or_default();
            tell(format_args!("  {} {:<10}{help}", number + 1, name.get_name()));
        }
    }
    ask(question, undone, |text| match text.parse::<usize>() {
        Ok(number) => {
            number.checked_sub(1).and_then(|at| values.get(at)).cloned().ok_or_else(|| "there is no such number".into())
        }
        Err(_) => T::from_str(text, true).map_err(|_| "that is none of them".into()),
    })
    .await
}

/// A table of rows below a header.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| printable(&cell).into_owned()));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

/// A text of others as a terminal may show it: what would move the cursor, hide lines or set colours is escaped.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && !matches!(c, '\t' | '\n');
    if !text.contains(harmful) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|c| if harmful(c) { c.escape_default().to_string() } else { c.to_string() }).collect())
}

/// The beginning of a text, with `…` where there is more, as a terminal may show it.
pub(crate) fn shortened(text: &str, characters: usize) -> String {
    let short: String = text.chars().take(characters).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{}{more}", printable(&short))
}

/// So many of something: `1 function`, `2 functions`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// How long ago a time in milliseconds since the Unix epoch was, in its largest unit.
pub(crate) fn ago(millis: u64, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = now.saturating_sub(Duration::from_millis(millis)).as_secs();
    match seconds {
        0..60 => format!("{seconds}s ago"),
        60..3600 => format!("{}m ago", seconds / 60),
        3600..86_400 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// A time in milliseconds since the Unix epoch, in UTC (RFC 3339).
pub(crate) fn timestamp(millis: u64) -> String {
    // Years after 9999 can't be written; nothing was deployed then.
    const LAST: u64 = 253_402_300_799_999;
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(millis.min(LAST))).to_string()
}

/// A size in bytes, rounded to three digits.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" || value >= 100.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

/// A counter of events on their way; nothing where stderr is no terminal.
pub(crate) fn event_counter(message: String) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} {human_pos} events, {per_sec}");
    let bar = ProgressBar::new_spinner().with_style(style.expect("the template is well-formed")).with_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A bar for an upload of so many bytes; nothing where stderr is no terminal.
pub(crate) fn upload_bar(name: &str, bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
    let bar = ProgressBar::new(bytes).with_style(style.expect("the template is well-formed"));
    bar.with_message(format!("uploading {name}"))
}

/// A spinner for what has no known end; nothing where stderr is no terminal.
pub(crate) fn spinner(message: String) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    spin(&bar, message);
    bar
}

/// Makes a bar a spinner.
pub(crate) fn spin(bar: &ProgressBar, message: impl Into<Cow<'static, str>>) {
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("the template is well-formed"));
    bar.set_message(message);
    bar.enable_steady_tick(Duration::from_millis(100));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up_and_end_where_their_text_ends() {
        let rows = [["a".to_owned(), "1".to_owned()], ["longer".to_owned(), "22\x1b[2J".to_owned()]];
        assert_eq!(table(["NAME", "N"], rows), "NAME    N\na       1\nlonger  22\\u{1b}[2J");
    }

    #[test]
    fn times_and_sizes_are_short() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |seconds: u64| (1_000_000 - seconds) * 1000;
        let texts = [0, 59, 60, 7_199, 86_400].map(|seconds| ago(at(seconds), now));
        assert_eq!(texts, ["0s ago", "59s ago", "1m ago", "1h ago", "1d ago"]);
        assert_eq!(ago(2_000_000_000, now), "0s ago", "a clock that is behind makes nothing negative");
        assert_eq!(
            [0, 1023, 1024, 92_160, 20 << 20, 300 << 20].map(size),
            ["0 B", "1023 B", "1.0 KiB", "90.0 KiB", "20.0 MiB", "300 MiB"]
        );
        assert_eq!(timestamp(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(timestamp(u64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
