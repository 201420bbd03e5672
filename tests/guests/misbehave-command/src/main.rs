//! A command that does what the first line of its input, or its arguments, say: `exit 3`, `flood 10000000000`, `loop`,
//! `trap`, `panic`, `echo`, `env`, `memory`, `logs 1000000`, `silent`, `hold`.

use std::{
    env,
    hint::black_box,
    io::{self, BufRead, Write},
    process, thread,
    time::Duration,
};

fn main() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut words: Vec<String> = env::args().skip(1).collect();
    if words.is_empty() {
        let mut line = String::new();
        input.read_line(&mut line)?;
        words = line.split_whitespace().map(str::to_owned).collect();
    }
    let number = |default: u64| words.get(1).and_then(|text| text.parse().ok()).unwrap_or(default);
    let mut output = io::stdout().lock();
    match words.first().map(String::as_str).unwrap_or_default() {
        "ok" => writeln!(output, "ok"),
        "silent" => Ok(()),
        "echo" => io::copy(&mut input, &mut output).map(drop),
        "env" => env::vars().try_for_each(|(name, value)| writeln!(output, "{name}={value}")),
        "exit" => {
            writeln!(output, "before the exit")?;
            eprintln!("told by the guest");
            process::exit(i32::try_from(number(3)).unwrap_or(1))
        }
        "flood" => flood(&mut output, number(10_000_000_000)),
        "logs" => (0..number(1_000_000)).try_for_each(|line| writeln!(io::stderr(), "a line of log {line}")),
        "sleep" => {
            thread::sleep(Duration::from_millis(number(1000)));
            writeln!(output, "slept")
        }
        "hold" => loop {
            thread::sleep(Duration::from_secs(3600));
        },
        "loop" => loop {
            black_box(());
        },
        "memory" => {
            let mut taken: Vec<Vec<u8>> = Vec::with_capacity(4096);
            loop {
                taken.push(black_box(vec![1; 1 << 20]));
            }
        }
        "trap" => {
            eprintln!("told by the guest");
            core::arch::wasm32::unreachable()
        }
        "panic" => panic!("told by the guest"),
        other => Err(io::Error::other(format!("no such behaviour: `{other}`"))),
    }
}

fn flood(output: &mut impl Write, bytes: u64) -> io::Result<()> {
    let block = vec![b'x'; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let length = left.min(block.len() as u64);
        output.write_all(&block[..length as usize])?;
        left -= length;
    }
    Ok(())
}
