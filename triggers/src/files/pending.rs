//! Files that wait until the function has settled their events.
//!
//! Nobody tells a source what has become of its events, so it asks: first about the oldest, for as long as answers are
//! good news, and about some of the others in turn. It asks less and less often while nothing happens, up to once a
//! second, and not at all when no file waits.

use super::memory::{FileKey, Progress};
use dunlin_events::{consumers::Fate, topics::Offset};
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// Events that are asked about at once.
const PAGE: usize = 1000;
/// The pause between two questions: the first, and the longest.
const SHORTEST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);
/// The pause before a file is put away again that couldn't be.
const STUCK: Duration = Duration::from_secs(30);

/// The files that wait.
#[derive(Default)]
pub(super) struct Pending {
    /// By the first of their events, which tells one state of a file from every other.
    waiting: BTreeMap<Offset, Waiting>,
    /// Files whose events are settled.
    settled: Vec<Settled>,
    /// Those that couldn't be put away, and when that is tried again.
    stuck: Vec<Settled>,
    again: Option<Instant>,
    /// From where on the others are asked about next.
    cursor: Offset,
    pause: Duration,
    next: Option<Instant>,
}

struct Waiting {
    file: FileKey,
    /// Those that aren't known to be settled: the first of each piece, and the one behind its last.
    offsets: Vec<(Offset, Offset)>,
    dead: bool,
}

/// A file whose events are all settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) file: FileKey,
    /// The first of its events. `None` for a file without any.
    pub(super) first: Option<Offset>,
    /// Whether the function gave one up.
    pub(super) dead: bool,
}

/// Which file is asked about, by its first event, and which of its events.
pub(super) type Question = (Offset, Offset);

impl Pending {
    /// A file waits from now on, if it doesn't already.
    pub(super) fn add(&mut self, key: &str, progress: &Progress) {
        let mut file = FileKey::default();
        if hex::decode_to_slice(key, &mut file).is_err() {
            return;
        }
        let first = progress.offsets.first().map(|(first, _)| *first);
        if self.settled.iter().chain(&self.stuck).any(|known| known.file == file && known.first == first) {
            return;
        }
        let dead = progress.lost > 0;
        let Some(first) = first else {
            return self.settled.push(Settled { file, first, dead });
        };
        self.waiting.entry(first).or_insert_with(|| Waiting { file, offsets: progress.offsets.clone(), dead });
        self.pause = SHORTEST;
        self.next.get_or_insert_with(Instant::now);
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.settled.len() + self.stuck.len()
    }

    /// When there is something to ask or to do.
    pub(super) fn due(&self) -> Option<Instant> {
        let now = (!self.settled.is_empty()).then(Instant::now);
        let next = self.next.filter(|_| !self.waiting.is_empty());
        let again = self.again.filter(|_| !self.stuck.is_empty());
        now.into_iter().chain(next).chain(again).min()
    }

    /// Whether it is time to ask.
    pub(super) fn asks(&self) -> bool {
        !self.waiting.is_empty() && self.next.is_some_and(|next| next <= Instant::now())
    }

    /// It has asked: when it does again depends on what came of it.
    pub(super) fn rest(&mut self, news: bool) {
        self.pause = if news { SHORTEST } else { (self.pause * 2).clamp(SHORTEST, LONGEST) };
        self.next = Some(Instant::now() + self.pause);
    }

    /// What to ask: about the oldest, or about some of the others in turn.
    pub(super) fn questions(&mut self, oldest: bool) -> Vec<Question> {
        let from = if oldest { 0 } else { self.cursor };
        let mut questions = Vec::new();
        let mut next = 0;
        for (first, waiting) in self.waiting.range(from..) {
            if questions.len() == PAGE {
                next = *first;
                break;
            }
            let offsets = waiting.offsets.iter().flat_map(|(start, end)| *start..*end).map(|offset| (*first, offset));
            questions.extend(offsets.take(PAGE - questions.len()));
        }
        if !oldest {
            self.cursor = next;
        }
        questions
    }

    /// Takes in the answers. Says whether any event was settled.
    pub(super) fn answer(&mut self, questions: &[Question], fates: &[Fate]) -> bool {
        let mut news = false;
        for answers in questions.iter().zip(fates).collect::<Vec<_>>().chunk_by(|one, other| one.0.0 == other.0.0) {
            let Some(((first, _), _)) = answers.first() else { continue };
            let Some(waiting) = self.waiting.get_mut(first) else { continue };
            // It goes on from the first that isn't settled.
            for ((_, offset), fate) in answers.iter().take_while(|(_, fate)| **fate != Fate::Waiting) {
                news = true;
                waiting.dead |= **fate == Fate::Dead;
                waiting.settle(*offset);
            }
            if waiting.offsets.is_empty() {
                self.settled.push(Settled { file: waiting.file, first: Some(*first), dead: waiting.dead });
                self.waiting.remove(first);
            }
        }
        news
    }

    /// The files to put away now.
    pub(super) fn settled(&mut self) -> Vec<Settled> {
        if self.again.is_some_and(|again| again <= Instant::now()) {
            self.again = None;
            self.settled.append(&mut self.stuck);
        }
        std::mem::take(&mut self.settled)
    }

    /// A file couldn't be put away: later, again.
    pub(super) fn stuck(&mut self, file: Settled) {
        self.stuck.push(file);
        self.again.get_or_insert_with(|| Instant::now() + STUCK);
    }
}

impl Waiting {
    /// The next offset is settled.
    fn settle(&mut self, offset: Offset) {
        if let Some((start, end)) = self.offsets.first_mut() {
            *start = offset + 1;
            if start >= end {
                self.offsets.remove(0);
            }
        }
    }
}
