//! The servers under test, each a process of its own.

use crate::Functions;
use anyhow::{Context, Result, bail, ensure};
use nix::{time::clock_getcpuclockid, unistd::Pid};
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A server that accepts. Its process ends when this is dropped.
pub struct Server {
    process: Child,
    address: String,
    start_time: Duration,
    platform: Option<Platform>,
}

/// What a platform has beside any server, and keeps over a restart.
struct Platform {
    binary: PathBuf,
    data: TempDir,
    variables: Vec<(String, String)>,
    admin: String,
    deploy_time: Duration,
}

/// A platform that does not run, and can be started again.
pub struct Stopped(Platform);

impl Stopped {
    pub fn start(self) -> Result<Server> {
        let Platform { binary, data, variables, deploy_time, .. } = self.0;
        let mut server = Server::up(&binary, data, variables)?;
        server.platform.as_mut().expect("it is a platform").deploy_time = deploy_time;
        Ok(server)
    }
}

impl Server {
    /// A platform on a new data folder.
    pub fn platform(binary: &Path) -> Result<Self> {
        Self::platform_with(binary, &[])
    }

    /// A platform that has these variables in its environment, also when it is started again.
    pub fn platform_with(binary: &Path, variables: &[(&str, &str)]) -> Result<Self> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::up(binary, tempfile::tempdir()?, variables)
    }

    /// Another server, and how to find in a line it prints where it is to be called.
    pub fn other(command: Command, address: fn(&str) -> Option<&str>) -> Result<Self> {
        let (server, _) = Self::spawn(command, 1, address)?;
        Ok(server)
    }

    fn up(binary: &Path, data: TempDir, variables: Vec<(String, String)>) -> Result<Self> {
        let mut command = Command::new(binary);
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        command.args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data"]).arg(data.path());
        let (mut server, mut addresses) = Self::spawn(command, 2, Self::url)?;
        let (binary, admin) = (binary.to_owned(), addresses.remove(1));
        server.platform = Some(Platform { binary, data, variables, admin, deploy_time: Duration::ZERO });
        Ok(server)
    }

    /// Host and port of a URL somewhere in a line.
    pub fn url(line: &str) -> Option<&str> {
        let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://"))?;
        Some(url.trim_end_matches('/'))
    }

    /// Starts a process and waits until it has printed as many addresses; the first is where it is to be called.
    fn spawn(mut command: Command, count: usize, address: fn(&str) -> Option<&str>) -> Result<(Self, Vec<String>)> {
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
        while found.len() < count {
            match lines.recv_timeout(Duration::from_secs(120)) {
                Ok(line) => {
                    found.extend(address(&line).map(str::to_owned));
                    said += &format!("{line}\n");
                }
                Err(error) => {
                    let _ = process.kill();
                    bail!("{command:?} did not come up ({error}): {said}");
                }
            }
        }
        let address = found[0].clone();
        Ok((Self { process, address, start_time: start.elapsed(), platform: None }, found))
    }

    /// Deploys to a platform.
    pub fn deploy(&mut self, functions: &Functions) -> Result<()> {
        let start = Instant::now();
        Self::deployed(self.deploying(functions)?)?;
        self.platform.as_mut().expect("it took a deploy").deploy_time = start.elapsed();
        Ok(())
    }

    /// A deploy under way, for those who look on; [`Server::deployed`] says how it ended.
    pub fn deploying(&self, functions: &Functions) -> Result<Child> {
        let platform = self.platform.as_ref().context("only a platform takes functions")?;
        let mut command = Command::new(&platform.binary);
        command.arg("deploy").arg(functions.folder()).args(["--server", &format!("http://{}", platform.admin)]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command.spawn()?)
    }

    /// Waits for the end of a deploy.
    pub fn deployed(deploy: Child) -> Result<()> {
        let output = deploy.wait_with_output()?;
        ensure!(output.status.success(), "the deploy failed: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Stops a platform and starts it again on the same data.
    pub fn restart(self) -> Result<Self> {
        self.stopped()?.start()
    }

    /// Stops a platform.
    pub fn stopped(mut self) -> Result<Stopped> {
        let platform = self.platform.take().context("only a platform can be started again")?;
        self.stop();
        Ok(Stopped(platform))
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Host and port of a platform's admin API.
    pub fn admin(&self) -> &str {
        self.platform.as_ref().map_or("", |platform| &platform.admin)
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
        self.status("VmRSS:")
    }

    /// Memory in bytes that is the process's own: what [`Server::resident`] has beyond it, such as the mapped pages of a
    /// data file, the kernel can take back at any time.
    pub fn anonymous(&self) -> Result<u64> {
        self.status("RssAnon:")
    }

    fn status(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    }

    /// Processor time used so far, to the nanosecond: what `/proc` says comes in steps of 10 ms, a thousandth of the processor
    /// for who watches ten seconds.
    pub fn processor_time(&self) -> Result<Duration> {
        let clock = clock_getcpuclockid(Pid::from_raw(self.process.id().try_into()?))?;
        Ok(clock.now()?.into())
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
