//! A filter of hashes: says of a hash that it isn't there, or that it may be. A Bloom filter in blocks of a cache line each, so
//! that a question costs one look into memory, however large it is (Putze, Sanders, Singler: "Cache-, Hash- and
//! Space-Efficient Bloom Filters", 2007; as Parquet has it, with twice the words).

/// Bits for each hash: of a thousand that aren't there, about one may be.
const BITS: usize = 16;
const WORDS: usize = 8;

#[derive(Clone)]
pub(super) struct Filter(Box<[Block]>);

#[derive(Clone, Copy, Default)]
#[repr(align(64))]
struct Block([u64; WORDS]);

/// A hash as filters of any size want it: a bit in each word of a block, by six of its lower bits each. The block is found by
/// its upper half.
pub(super) struct Probe {
    upper: u64,
    bits: [u64; WORDS],
}

impl Probe {
    pub(super) fn new(hash: i64) -> Self {
        let hash = hash.cast_unsigned();
        Self { upper: hash >> 32, bits: std::array::from_fn(|word| 1 << ((hash >> (6 * word)) & 63)) }
    }
}

impl Filter {
    pub(super) fn for_hashes(count: usize) -> Self {
        let blocks = (count * BITS).div_ceil(WORDS * 64).max(1);
        Self(vec![Block::default(); blocks].into())
    }

    pub(super) fn add(&mut self, hash: i64) {
        let probe = Probe::new(hash);
        let block = self.block(&probe);
        self.0[block].0.iter_mut().zip(probe.bits).for_each(|(word, bit)| *word |= bit);
    }

    pub(super) fn may_have(&self, probe: &Probe) -> bool {
        // All words at once: a branch after each would keep the processor from asking the next filter meanwhile.
        let words = self.0[self.block(probe)].0.iter().zip(probe.bits);
        words.fold(0, |missing, (word, bit)| missing | (bit & !word)) == 0
    }

    fn block(&self, probe: &Probe) -> usize {
        ((probe.upper * self.0.len() as u64) >> 32) as usize
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|block| block.0).flat_map(u64::to_le_bytes).collect()
    }

    /// What [`Filter::to_bytes`] made. `None` for what it can't have made.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks();
        let (blocks, more) = words.as_chunks::<WORDS>();
        let filter = Self(blocks.iter().map(|words| Block(words.map(u64::from_le_bytes))).collect());
        (rest.is_empty() && more.is_empty() && !filter.0.is_empty()).then_some(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::hash;

    #[test]
    fn what_was_added_may_be_there_and_of_the_rest_next_to_nothing() {
        const COUNT: usize = 50_000;
        let hashes = |source: &'static str| (0..COUNT).map(move |id| hash(1, source, &id.to_string()));
        let mut filter = Filter::for_hashes(COUNT);
        hashes("/a").for_each(|hash| filter.add(hash));
        let again = Filter::from_bytes(&filter.to_bytes()).unwrap();
        for filter in [filter, again] {
            assert!(hashes("/a").all(|hash| filter.may_have(&Probe::new(hash))));
            let mistaken = hashes("/b").filter(|hash| filter.may_have(&Probe::new(*hash))).count();
            assert!(mistaken < COUNT / 500, "{mistaken} of {COUNT}");
        }
        assert!(Filter::from_bytes(&[]).is_none());
        assert!(Filter::from_bytes(&[0; 65]).is_none());
        assert!(!Filter::for_hashes(0).may_have(&Probe::new(7)));
    }
}
