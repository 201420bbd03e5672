//! Adds up the bank statements that are dropped into a folder: lines of `date,text,cents`, as many as there are.
//!
//! A small file is the event's data. A large one the function opens where `filelocation` says, in the folder of its
//! trigger, which it can read and nothing else of the machine. It reads line by line, so 10 GB take no more memory than 10.

use dunlin::{Bytes, Error, Event, Result};
use serde::Serialize;
use std::{
    fs::File,
    io::{BufRead, BufReader},
};

#[derive(Debug, Default, PartialEq, Serialize)]
struct Statement {
    file: String,
    sha256: String,
    entries: u64,
    cents: i64,
}

#[dunlin::handler]
fn add_up(event: Event<Bytes>) -> Result<Event<Statement>> {
    let of = |name: &str| event.extension(name).and_then(|value| value.as_str()).unwrap_or_default().to_owned();
    let mut statement = Statement {
        file: event.subject().unwrap_or_default().to_owned(),
        sha256: of("filesha256"),
        ..Statement::default()
    };
    if event.data.is_empty() {
        let path = of("filelocation");
        // Nobody takes the file away before this is done; but somebody may have done it before it began.
        let file = File::open(&path).map_err(|error| Error::retry(format!("`{path}`: {error}")))?;
        read(BufReader::new(file), &mut statement)?;
    } else {
        read(&event.data[..], &mut statement)?;
    }
    let file = statement.file.clone();
    Ok(Event::new("statement.read", statement).with_subject(file))
}

fn read(lines: impl BufRead, statement: &mut Statement) -> Result<()> {
    for (number, line) in lines.lines().enumerate().skip(1) {
        let line = line.map_err(|error| Error::retry(error.to_string()))?;
        let cents = line.rsplit(',').next().and_then(|cents| cents.trim().parse::<i64>().ok());
        // It won't be better the next time: the file goes to the dead letters with this for a reason.
        let cents = cents.ok_or_else(|| Error::reject(format!("line {} has no amount: `{line}`", number + 1)))?;
        statement.entries += 1;
        statement.cents += cents;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin::testing;

    const LINES: &str = "date,text,cents\n2026-01-01,rent,-80000\n2026-01-02,\"pay, January\",250000\n";

    #[test]
    fn a_small_file_is_the_data() {
        let event = testing::event("dunlin.file", Bytes::from(LINES)).with_subject("january.csv");
        let statement = add_up(event).unwrap().data;
        assert_eq!((statement.file.as_str(), statement.entries, statement.cents), ("january.csv", 2, 170_000));
    }

    #[test]
    fn a_large_file_is_opened() {
        let path = std::env::temp_dir().join(format!("statement-{}.csv", std::process::id()));
        std::fs::write(&path, LINES).unwrap();
        let event = testing::event("dunlin.file", Bytes::default());
        let event = event.with_extension("filelocation", path.to_str().unwrap()).with_subject("january.csv");
        assert_eq!(add_up(event).unwrap().data.cents, 170_000);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_no_statement_is_given_up() {
        let event = testing::event("dunlin.file", Bytes::from("date,text,cents\ntea\n"));
        let error = add_up(event).unwrap_err();
        assert!(error.is_reject() && error.message().contains("line 2"), "{error}");
    }
}
