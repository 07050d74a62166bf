//! dnsdist as a child process.

use std::{
    error::Error,
    fs,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Is killed when this is dropped, or when its parent ends in any other way.
#[derive(Debug)]
pub struct Dnsdist {
    child: Child,
    directory: TempDir,
}

impl Dnsdist {
    /// Whether it is installed.
    pub fn is_installed() -> bool {
        Command::new("dnsdist").arg("--version").output().is_ok_and(|output| output.status.success())
    }

    /// Starts dnsdist with this configuration.
    ///
    /// # Errors
    ///
    /// If no process can be started.
    pub fn spawn(config: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("dnsdist.conf");
        fs::write(&path, config)?;
        let log = fs::File::create(directory.path().join("log"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "dnsdist", "--supervised", "--disable-syslog", "--config"])
            .arg(path)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("cannot start setpriv, of the package util-linux: {error}"))?;
        Ok(Self { child, directory })
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Lets it do nothing any more.
    ///
    /// # Errors
    ///
    /// If it has gone.
    pub fn stop(&self) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::STOP)?)
    }

    /// What has gone wrong, and what dnsdist says.
    pub fn failure(&self, what: &str) -> Box<dyn Error> {
        let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let hint =
            "install dnsdist 1.7 to 1.9 (Debian: dnsdist), or leave it out (benchmarks: --skip-dnsdist)";
        format!("dnsdist {what}: {hint}; it said:\n{}", log.trim()).into()
    }
}

impl Drop for Dnsdist {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
