//! Which offsets of a topic a consumer has settled.

use dunlin_events::topics::Offset;

/// ```text
///   offset     10   11   12   13   14   15
///              ok   ok        ok
///                       ▲     └ ahead: 13..14
///                       position
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Every offset before it is settled.
    pub(crate) position: Offset,
    /// Settled beyond it: ranges `start..end`, in order, never touching each other nor the position.
    pub(crate) ahead: Vec<(Offset, Offset)>,
}

impl Settled {
    pub(crate) fn contains(&self, offset: Offset) -> bool {
        if offset < self.position {
            return true;
        }
        let after = self.ahead.partition_point(|(start, _)| *start <= offset);
        after > 0 && offset < self.ahead[after - 1].1
    }

    /// Settles an offset that isn't.
    pub(crate) fn insert(&mut self, offset: Offset) {
        if offset == self.position {
            self.position += 1;
            self.join();
            return;
        }
        let after = self.ahead.partition_point(|(start, _)| *start <= offset);
        let touches_before = after > 0 && self.ahead[after - 1].1 == offset;
        let touches_after = self.ahead.get(after).is_some_and(|(start, _)| *start == offset + 1);
        match (touches_before, touches_after) {
            (true, true) => self.ahead[after - 1].1 = self.ahead.remove(after).1,
            (true, false) => self.ahead[after - 1].1 = offset + 1,
            (false, true) => self.ahead[after].0 = offset,
            (false, false) => self.ahead.insert(after, (offset, offset + 1)),
        }
    }

    /// Settles everything before an offset.
    pub(crate) fn advance(&mut self, to: Offset) {
        self.position = self.position.max(to);
        self.join();
    }

    /// Ranges the position has come to are no longer ahead.
    fn join(&mut self) {
        let reached = self.ahead.partition_point(|(start, _)| *start <= self.position);
        if let Some((_, end)) = self.ahead.drain(..reached).next_back() {
            self.position = self.position.max(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(from in 0..3_u64, offsets in prop::collection::vec((0..20_u64, prop::bool::weighted(0.1)), 0..30)) {
            let mut settled = Settled { position: from, ahead: vec![] };
            let mut model: BTreeSet<u64> = (0..from).collect();
            for (offset, advance) in offsets {
                if advance {
                    settled.advance(offset);
                    model.extend(0..offset);
                } else if model.insert(offset) {
                    settled.insert(offset);
                }
                for offset in 0..22 {
                    assert_eq!(settled.contains(offset), model.contains(&offset));
                }
                let mut ends = vec![settled.position];
                ends.extend(settled.ahead.iter().flat_map(|(start, end)| [*start, *end]));
                assert!(ends.is_sorted_by(|a, b| a < b), "in order, and nothing touches: {settled:?}");
            }
        }
    }
}
