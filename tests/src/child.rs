//! A test body in a process of its own with fewer capabilities. Threads of one process would not do: what a library finds
//! out about the kernel and keeps would leak from one test to the next.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
};

const CHILD: &str = "EBPF_FILTER_TEST_CHILD";
/// What the test has prepared for its child.
const PATH: &str = "EBPF_FILTER_TEST_PATH";
const ROLE: &str = "EBPF_FILTER_TEST_ROLE";
const READY: &str = "ready to be killed";

/// Whether this process was started by one of these functions.
pub fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Runs `body` in a process that `setpriv` (see setpriv(1)) starts with these options. `test` is the full name of the
/// calling test, which that process runs once more.
#[track_caller]
pub fn under_setpriv(test: &str, options: &[&str], body: impl FnOnce()) {
    if is_child() {
        return body();
    }
    run(test, options, &[]);
}

#[track_caller]
fn run(test: &str, options: &[&str], variables: &[(&str, &OsStr)]) {
    let Output { status, stdout, stderr } = Command::new("setpriv")
        .args(options)
        .arg(env::current_exe().expect("a test knows its program"))
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(CHILD, test)
        .envs(variables.iter().copied())
        .output()
        .expect("setpriv is installed (util-linux)");
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        status.success() && stdout.contains("1 passed"),
        "{test} under setpriv {options:?}: {status}\n{stdout}\n{stderr}"
    );
}

/// What this process is to do, if [`spawn`] has started it.
pub fn role() -> Option<String> {
    env::var(ROLE).ok()
}

/// Starts the calling test, whose full name is `test`, once more in a process of its own, which does something else there:
/// [`role`] says what. What it prints can be read from its standard output, behind what the test harness says.
#[track_caller]
pub fn spawn(test: &str, role: &str) -> Child {
    command(test, role).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program is there")
}

/// What [`spawn`] starts.
#[track_caller]
pub fn command(test: &str, role: &str) -> Command {
    let mut command = Command::new(env::current_exe().expect("a test knows its program"));
    command.args([test, "--exact", "--include-ignored", "--nocapture"]).env(CHILD, test).env(ROLE, role);
    command
}

/// Runs `body` in a process without any capability.
#[track_caller]
pub fn without_capabilities(test: &str, body: impl FnOnce()) {
    if crate::privilege::effective().is_empty() {
        return body();
    }
    under_setpriv(test, &["--bounding-set", "-all", "--inh-caps", "-all"], body);
}

/// Runs `body` in a process without any capability, and gives it a path that the test has prepared.
#[track_caller]
pub fn without_capabilities_and(test: &str, path: &Path, body: impl FnOnce(&Path)) {
    if let Some(path) = env::var_os(PATH) {
        return body(Path::new(&path));
    }
    run(test, &["--bounding-set", "-all", "--inh-caps", "-all"], &[(PATH, path.as_os_str())]);
}

/// Runs `body` in another process, with a path that the test has prepared, and kills that with SIGKILL right after. It has
/// dropped nothing that `body` keeps.
#[track_caller]
pub fn kill_when_ready(test: &str, path: &Path, body: impl FnOnce(&Path)) {
    if let Some(path) = env::var_os(PATH) {
        body(Path::new(&path));
        println!("{READY}");
        loop {
            thread::park();
        }
    }
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(env::current_exe().expect("a test knows its program"))
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(CHILD, test)
        .env(PATH, path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("setpriv is installed (util-linux)");
    let lines = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.contains(READY));
    child.kill().expect("it is a child of this process");
    child.wait().expect("it is a child of this process");
    assert!(ready, "{test} did not get so far");
}
