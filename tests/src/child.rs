//! A test body in a process of its own with fewer capabilities. Threads of one process would not do: what a library finds
//! out about the kernel and keeps would leak from one test to the next.

use std::{
    env,
    process::{Command, Output},
};

const CHILD: &str = "EBPF_FILTER_TEST_CHILD";

/// Whether this process was started by [`under_setpriv`].
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
    let Output { status, stdout, stderr } = Command::new("setpriv")
        .args(options)
        .arg(env::current_exe().expect("a test knows its program"))
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(CHILD, test)
        .output()
        .expect("setpriv is installed (util-linux)");
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        status.success() && stdout.contains("1 passed"),
        "{test} under setpriv {options:?}: {status}\n{stdout}\n{stderr}"
    );
}

/// Runs `body` in a process without any capability.
#[track_caller]
pub fn without_capabilities(test: &str, body: impl FnOnce()) {
    if crate::privilege::effective().is_empty() {
        return body();
    }
    under_setpriv(test, &["--bounding-set", "-all", "--inh-caps", "-all"], body);
}
