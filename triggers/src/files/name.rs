//! How paths are written in attributes, which are text: a path is bytes, and any of them may be in a file's name.
//!
//! What isn't UTF-8, what an attribute can't hold, and `%` itself are percent-encoded. So every path has one text, no two
//! share one, and it can be read back.

use std::{
    ffi::OsString,
    fmt::Write as _,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Path, PathBuf},
};

/// A path as text.
pub(super) fn written(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() || is_noncharacter(c) {
                percent(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        percent(&mut text, chunk.invalid());
    }
    text
}

/// The path a text stands for.
pub(super) fn read(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let encoded = (*first == b'%').then(|| behind.get(..2).and_then(|digits| hex::decode(digits).ok())).flatten();
        match encoded {
            Some(decoded) => {
                bytes.extend(decoded);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// An absolute path as a URI (RFC 8089).
pub(super) fn uri(path: &Path) -> String {
    let mut text = "file://".to_owned();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(char::from(*byte)),
            _ => percent(&mut text, &[*byte]),
        }
    }
    text
}

fn percent(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "%{byte:02X}");
    }
}

/// What Unicode gives no meaning to, and CloudEvents therefore no place in an attribute.
fn is_noncharacter(c: char) -> bool {
    let c = u32::from(c);
    (0xfdd0..=0xfdef).contains(&c) || c & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn every_path_has_a_text_of_its_own() {
        for (path, text) in [
            (&b"sub/a b.csv"[..], "sub/a b.csv"),
            ("Bücher.txt".as_bytes(), "Bücher.txt"),
            (b"100%", "100%25"),
            (b"a%FF", "a%25FF"),
            (b"a\xff\xfe.csv", "a%FF%FE.csv"),
            (b"line\nbreak", "line%0Abreak"),
            ("\u{fffe}".as_bytes(), "%EF%BF%BE"),
        ] {
            let path = Path::new(OsStr::from_bytes(path));
            assert_eq!(written(path), text);
            assert_eq!(read(text), path);
        }
        assert_eq!(uri(Path::new("/srv/in box/ü")), "file:///srv/in%20box/%C3%BC");
    }
}
