//! Bytes as the server sends them, taken apart without trusting them.

use std::fmt;

/// Bytes that are not what the format says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What has not been read yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) =
            self.0.split_at_checked(count).ok_or_else(|| Malformed("an event ends before its data".into()))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    /// A number of up to eight bytes, the least significant first.
    pub(super) fn little(&mut self, bytes: usize) -> Result<u64, Malformed> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A number of up to eight bytes, the most significant first.
    pub(super) fn big(&mut self, bytes: usize) -> Result<u64, Malformed> {
        Ok(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(super) fn size(&mut self, bytes: usize) -> Result<usize, Malformed> {
        usize::try_from(self.little(bytes)?).map_err(|_| Malformed("a length is too large".into()))
    }

    /// The protocol's "length-encoded integer".
    pub(super) fn length(&mut self) -> Result<usize, Malformed> {
        match self.byte()? {
            0xfc => self.size(2),
            0xfd => self.size(3),
            0xfe => self.size(8),
            0xff | 0xfb => Err(Malformed("a length is not one".into())),
            small => Ok(usize::from(small)),
        }
    }

    /// Bytes after their length-encoded length.
    pub(super) fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.length()?;
        self.take(length)
    }
}
