//! Counts the lines, words and bytes of a text. A command: the request's body is on stdin, what it prints is the response.

use std::io::{self, BufRead};

fn main() -> io::Result<()> {
    let (mut lines, mut words, mut bytes) = (0_u64, 0_u64, 0_u64);
    let mut in_word = false;
    let mut input = io::stdin().lock();
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            break;
        }
        for byte in chunk {
            lines += u64::from(*byte == b'\n');
            let space = byte.is_ascii_whitespace();
            words += u64::from(!space && !in_word);
            in_word = !space;
        }
        let length = chunk.len();
        bytes += length as u64;
        input.consume(length);
    }
    println!("{lines} lines, {words} words, {bytes} bytes");
    Ok(())
}
