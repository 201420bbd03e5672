//! The functions' log: the last records of all functions, in memory, for whoever asks or follows.
//!
//! One ring bounded by bytes. A reader has no queue of its own: it holds a position in the ring and takes records from
//! there, so readers cost nothing while they sleep, and one that is too slow is overtaken and told by how much. (A queue
//! for each reader, such as `tokio::sync::broadcast`, would bound records instead of bytes and hold them a second time.)
//!
//! ```text
//!            first                                   next
//!   dropped ───│── 1041 ── 1042 ── 1043 ── 1044 ───────│        numbers count records since the start
//!                           ▲
//!                      a reader's position; behind `first` it has missed `first - position` records
//! ```

use crate::api::LogLine;
use dunlin_events::{
    FunctionName,
    logs::{LogRecord, LogSink},
    units::ByteSize,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The records kept, and a way to follow what comes.
pub struct LogBuffer {
    ring: Mutex<Ring>,
    /// Told after every record. Free while nobody waits.
    news: Notify,
    limit: usize,
}

struct Ring {
    records: VecDeque<Arc<LogRecord>>,
    /// The number of the oldest record kept.
    first: u64,
    bytes: usize,
}

/// Which records a reader wants.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub function: Option<FunctionName>,
    pub invocation: Option<String>,
}

/// Reads the log from some record on.
pub struct Reader {
    buffer: Arc<LogBuffer>,
    filter: Filter,
    position: u64,
    /// Where it stops.
    end: u64,
}

/// Records looked at under one lock: printing functions wait for a reader no longer than this takes, some 10 us.
const BATCH: u64 = 512;

impl LogBuffer {
    /// A log that keeps records of this size together; 16 MiB is a good one.
    pub fn new(limit: ByteSize) -> Arc<Self> {
        Arc::new(Self {
            ring: Mutex::new(Ring { records: VecDeque::new(), first: 0, bytes: 0 }),
            news: Notify::new(),
            limit: usize::try_from(limit.bytes()).unwrap_or(usize::MAX),
        })
    }

    /// A reader of the last `tail` records that match now, or of all that are kept.
    pub fn read(self: &Arc<Self>, filter: Filter, tail: Option<usize>) -> Reader {
        let (first, next) = {
            let ring = self.ring();
            (ring.first, ring.next())
        };
        let position = tail.map_or(first, |tail| self.position_of_last(tail, &filter, next));
        Reader { buffer: Arc::clone(self), filter, position, end: next }
    }

    /// The number of records taken since the start.
    pub fn records(&self) -> u64 {
        self.ring().next()
    }

    /// Where to begin so that `tail` matching records lie between there and `next`.
    fn position_of_last(&self, tail: usize, filter: &Filter, next: u64) -> u64 {
        let (mut position, mut found) = (next, 0);
        while found < tail {
            let ring = self.ring();
            if position <= ring.first {
                return ring.first;
            }
            for _ in 0..BATCH.min(position - ring.first) {
                position -= 1;
                found += usize::from(ring.get(position).is_some_and(|record| filter.matches(record)));
                if found == tail {
                    break;
                }
            }
        }
        position
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing between lock and unlock leaves the ring half changed, so a panic elsewhere doesn't make it unusable.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogSink for LogBuffer {
    fn record(&self, record: LogRecord) {
        let size = size(&record);
        let record = Arc::new(record);
        let mut dropped = Vec::new();
        {
            let mut ring = self.ring();
            ring.bytes += size;
            ring.records.push_back(record);
            while ring.bytes > self.limit
                && let Some(oldest) = ring.records.pop_front()
            {
                ring.bytes -= self::size(&oldest);
                ring.first += 1;
                dropped.push(oldest);
            }
        }
        self.news.notify_waiters();
        // Freeing memory can take long, so it happens here, after the lock.
        drop(dropped);
    }
}

impl Ring {
    fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    fn get(&self, number: u64) -> Option<&Arc<LogRecord>> {
        self.records.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }
}

/// What a record holds of the memory, with its place in the ring.
fn size(record: &LogRecord) -> usize {
    size_of::<LogRecord>()
        + 4 * size_of::<usize>()
        + record.message.len()
        + record.invocation.as_ref().map_or(0, String::len)
}

impl Filter {
    fn matches(&self, record: &LogRecord) -> bool {
        self.function.as_ref().is_none_or(|function| *function == record.function)
            && self.invocation.as_ref().is_none_or(|invocation| record.invocation.as_ref() == Some(invocation))
    }
}

impl Reader {
    /// Goes on with what comes later, without end.
    #[must_use]
    pub fn follow(self) -> Self {
        Self { end: u64::MAX, ..self }
    }

    /// Waits until there is something to read. Cancel safe.
    pub async fn ready(&self) {
        loop {
            let mut news = std::pin::pin!(self.buffer.news.notified());
            // Listening before looking: a record that comes between the two is not slept through.
            news.as_mut().enable();
            if self.buffer.ring().next() > self.position {
                return;
            }
            news.await;
        }
    }
}

/// What is there now, in order and a part at a time. `None` means that the reader has seen all there is; one that follows
/// can go on when it is [`ready`](Reader::ready). A part may be empty: none of the records looked at matched.
impl Iterator for Reader {
    type Item = Vec<LogLine>;

    fn next(&mut self) -> Option<Vec<LogLine>> {
        let (missed, records) = {
            let ring = self.buffer.ring();
            let missed = ring.first.min(self.end).saturating_sub(self.position);
            self.position += missed;
            let end = ring.next().min(self.position + BATCH).min(self.end);
            let records: Vec<_> = (self.position..end).filter_map(|number| ring.get(number).cloned()).collect();
            self.position = end;
            (missed, records)
        };
        if missed == 0 && records.is_empty() {
            return None;
        }
        let missed = (missed > 0).then_some(LogLine::Missed { missed });
        let matching = records.into_iter().filter(|record| self.filter.matches(record));
        Some(missed.into_iter().chain(matching.map(|record| LogLine::Record((*record).clone()))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_events::logs::LogStream;

    fn record(function: &str, message: impl Into<String>) -> LogRecord {
        LogRecord::new(&function.parse().unwrap(), 1, LogStream::Stdout, message)
    }

    fn messages(reader: &mut Reader) -> Vec<String> {
        let mut messages = Vec::new();
        for lines in reader {
            messages.extend(lines.into_iter().map(|line| match line {
                LogLine::Record(record) => record.message,
                LogLine::Missed { missed } => format!("missed {missed}"),
            }));
        }
        messages
    }

    #[test]
    fn tail_counts_matching_records_only() {
        let logs = LogBuffer::new(ByteSize::mib(1));
        for n in 0..2000 {
            logs.record(record(if n % 10 == 0 { "rare" } else { "frequent" }, n.to_string()));
        }
        let rare = |tail| {
            messages(&mut logs.read(Filter { function: Some("rare".parse().unwrap()), ..Filter::default() }, tail))
        };
        assert_eq!(rare(Some(3)), ["1970", "1980", "1990"]);
        assert_eq!(rare(Some(0)), [""; 0]);
        assert_eq!(rare(Some(1000)).len(), 200);
        assert_eq!(rare(None).len(), 200);
        let mut last = logs.read(Filter::default(), Some(2));
        logs.record(record("frequent", "printed meanwhile"));
        assert_eq!(messages(&mut last), ["1998", "1999"], "what comes later is for those who follow");
    }

    #[test]
    fn the_oldest_go_first_and_a_slow_reader_is_told() {
        let one = size(&record("a", "0000"));
        let logs = LogBuffer::new(ByteSize(one as u64 * 10));
        let mut reader = logs.read(Filter::default(), None).follow();
        logs.record(record("a", "0000"));
        assert_eq!(messages(&mut reader), ["0000"]);
        for n in 1..=25 {
            logs.record(record("a", format!("{n:04}")));
        }
        let kept: Vec<String> = (16..=25).map(|n| format!("{n:04}")).collect();
        assert_eq!(messages(&mut reader), [vec!["missed 15".to_owned()], kept].concat());
        // A record larger than the whole log can't be kept; it must not stay and break the bound.
        logs.record(record("a", "x".repeat(one * 11)));
        assert_eq!(messages(&mut reader), ["missed 1"]);
        assert_eq!(logs.ring().bytes, 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_follower_gets_every_record_of_many_writers() {
        let logs = LogBuffer::new(ByteSize::mib(64));
        let mut reader = logs.read(Filter::default(), Some(0)).follow();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let logs = Arc::clone(&logs);
                std::thread::spawn(move || (0..5000).for_each(|n| logs.record(record("a", format!("{writer} {n}")))))
            })
            .collect();
        let mut seen = Vec::new();
        while seen.len() < 20_000 {
            reader.ready().await;
            seen.extend(messages(&mut reader));
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        for writer in 0..4 {
            let own: Vec<_> = seen.iter().filter(|line| line.starts_with(&format!("{writer} "))).collect();
            assert!(own.iter().enumerate().all(|(n, line)| **line == format!("{writer} {n}")), "in order, none twice");
        }
    }
}
