//! W3C trace context, level 1: who caused this request, and what the function tells those it calls in turn.
//!
//! Dunlin is one step of a trace. It keeps the caller's trace and puts itself in as the parent. Its ids are the
//! invocation's UUID, whole for a new trace and its last 64 bits for the step: so whoever has one can find the other, and
//! a request needs no random bytes beyond that UUID.

use http::{HeaderMap, HeaderName};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// `00-<trace id>-<parent id>-<flags>`.
pub(super) const LENGTH: usize = 55;

/// Writes the `traceparent` of an invocation, and says whether the caller's was valid and is continued by it.
///
/// `id` is the invocation's UUID as text.
pub(super) fn write(headers: &HeaderMap, id: &[u8; 36], out: &mut Vec<u8>) -> bool {
    let mut values = headers.get_all(TRACEPARENT).iter();
    // More than one is none: nobody can tell which is meant.
    let parent = match (values.next(), values.next()) {
        (Some(value), None) => parse(value.as_bytes()),
        _ => None,
    };
    out.extend_from_slice(b"00-");
    match parent {
        Some((trace, _)) => out.extend_from_slice(trace),
        None => out.extend(id.iter().filter(|byte| **byte != b'-')),
    }
    out.push(b'-');
    // The last two groups of a UUID. Its variant bits are never zero, so neither is this.
    out.extend_from_slice(&id[19..23]);
    out.extend_from_slice(&id[24..]);
    out.push(b'-');
    // A new trace is not sampled: the platform records none itself, and deciding so for others would cost them.
    let flags = parent.map_or(0, |(_, flags)| flags);
    out.extend_from_slice(&[b'0', b"0123"[usize::from(flags)]]);
    parent.is_some()
}

/// The trace id and the flags of a `traceparent`.
fn parse(value: &[u8]) -> Option<(&[u8], u8)> {
    let (known, more) = value.split_at_checked(LENGTH)?;
    let version = (hex(known[0])?, hex(known[1])?);
    match version {
        (15, 15) => return None,
        (0, 0) if !more.is_empty() => return None,
        // A later version may have more fields, and is read as far as it is known.
        _ if !more.is_empty() && more[0] != b'-' => return None,
        _ => {}
    }
    if known[2] != b'-' || known[35] != b'-' || known[52] != b'-' {
        return None;
    }
    let (trace, parent) = (&known[3..35], &known[36..52]);
    for id in [trace, parent] {
        if !id.iter().all(|byte| hex(*byte).is_some()) || id.iter().all(|byte| *byte == b'0') {
            return None;
        }
    }
    hex(known[53])?;
    // Sampled and, from level 2, random. Flags nobody has defined are not handed on.
    Some((trace, hex(known[54])? & 3))
}

/// The value of a hexadecimal digit, which must be lowercase here.
const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(values: &[&str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        let mut out = Vec::new();
        let continued = write(&headers, b"0193a5c0-7b1e-7000-8abc-0123456789ab", &mut out);
        (String::from_utf8(out).unwrap(), continued)
    }

    /// The examples of the recommendation and of its test suite.
    #[test]
    fn a_valid_traceparent_is_continued() {
        for (value, flags) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "01"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", "00"),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff", "03"),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "01"),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-will-be-like", "01"),
        ] {
            let expected = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-8abc0123456789ab-{flags}");
            assert_eq!(written(&[value]), (expected, true), "{value}");
        }
    }

    #[test]
    fn an_invalid_traceparent_begins_a_new_trace() {
        let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let fresh = ("00-0193a5c07b1e70008abc0123456789ab-8abc0123456789ab-00".to_owned(), false);
        for values in [
            &[][..],
            &[valid, valid],
            &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
            &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra"],
            &["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.extra"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0"],
            &["00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bx-01"],
            &[".0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
            &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-.1"],
            &["", ""],
        ] {
            assert_eq!(written(values), fresh, "{values:?}");
        }
    }
}
