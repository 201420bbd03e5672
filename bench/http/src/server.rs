//! The servers under test, each a process of its own.

use crate::{Settings, functions::Functions};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What to start.
pub enum Serve {
    /// A platform with these functions deployed, on a new data folder.
    Dunlin(Functions),
    Wasmtime {
        component: PathBuf,
        options: Vec<String>,
    },
    Ceiling,
}

/// A server that accepts.
pub struct Server {
    process: Child,
    address: String,
    start_time: Duration,
    platform: Option<Platform>,
}

/// What a platform keeps over a restart.
struct Platform {
    data: TempDir,
    deploy_time: Duration,
}

impl Server {
    pub fn start(settings: &Settings, serve: Serve) -> Result<Self> {
        match serve {
            Serve::Dunlin(functions) => {
                let data = tempfile::tempdir()?;
                let (mut server, admin) = Self::up(settings, &data)?;
                let start = Instant::now();
                let output = Command::new(&settings.dunlin)
                    .arg("deploy")
                    .arg(functions.folder())
                    .args(["--server", &admin])
                    .output()?;
                ensure!(output.status.success(), "the deploy failed: {}", String::from_utf8_lossy(&output.stderr));
                server.platform = Some(Platform { data, deploy_time: start.elapsed() });
                Ok(server)
            }
            Serve::Wasmtime { component, options } => {
                let mut command = Command::new(&settings.wasmtime);
                command.args(["serve", "-Scli", "--addr", "127.0.0.1:0"]).args(options).arg(component);
                let (server, _) = Self::spawn(command, 1)?;
                Ok(server)
            }
            Serve::Ceiling => {
                let (server, _) = Self::spawn(Command::new(std::env::current_exe()?.with_file_name("ceiling")), 1)?;
                Ok(server)
            }
        }
    }

    fn up(settings: &Settings, data: &TempDir) -> Result<(Self, String)> {
        let mut command = Command::new(&settings.dunlin);
        command.args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(data.path());
        let (server, urls) = Self::spawn(command, 2)?;
        Ok((server, urls[1].clone()))
    }

    /// Starts a process and waits until it has printed as many URLs; the first is where it is to be called.
    fn spawn(mut command: Command, urls: usize) -> Result<(Self, Vec<String>)> {
        let start = Instant::now();
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{command:?}"))?;
        let (sender, lines) = mpsc::channel();
        let outputs: [Box<dyn Read + Send>; 2] =
            [Box::new(process.stdout.take().expect("piped")), Box::new(process.stderr.take().expect("piped"))];
        for output in outputs {
            let sender = sender.clone();
            // Reads to the end, also when nobody wants to know any more: a full pipe would stop the server.
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        drop(sender);
        let (mut found, mut said) = (Vec::new(), String::new());
        while found.len() < urls {
            match lines.recv_timeout(Duration::from_secs(120)) {
                Ok(line) => {
                    let url = line.split_whitespace().find(|word| word.starts_with("http://"));
                    found.extend(url.map(|url| url.trim_end_matches('/').to_owned()));
                    said += &format!("{line}\n");
                }
                Err(error) => {
                    let _ = process.kill();
                    bail!("{command:?} did not come up ({error}): {said}");
                }
            }
        }
        let address = found[0].trim_start_matches("http://").to_owned();
        Ok((Self { process, address, start_time: start.elapsed(), platform: None }, found))
    }

    /// Stops a platform and starts it again on the same data.
    pub fn restart(mut self, settings: &Settings) -> Result<Self> {
        let platform = self.platform.take().context("only a platform can be started again")?;
        self.stop();
        let (mut server, _) = Self::up(settings, &platform.data)?;
        server.platform = Some(platform);
        Ok(server)
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From the start of the process until it said that it accepts.
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// How long the deploy took, as the client saw it.
    pub fn deploy_time(&self) -> Duration {
        self.platform.as_ref().map_or(Duration::ZERO, |platform| platform.deploy_time)
    }

    /// Memory in bytes that is the process's own or that it has mapped and touched.
    pub fn resident(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Processor time used so far, in steps of 10 ms.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        // The second field is the program's name in parentheses and may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("no name")?;
        let fields: Vec<_> = fields.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    fn stop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|status| status.is_none()) {
            self.stop();
        }
    }
}
