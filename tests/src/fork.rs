//! Processes that a test kills in the middle of what they do. They begin as copies of the process of the test, so nothing has to be
//! loaded for each.

use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

use crate::sys;

/// A copy of this process. It is killed at the end, if not before.
#[derive(Debug)]
pub struct Forked {
    child: Option<Pid>,
}

impl Forked {
    /// That does this and ends.
    #[track_caller]
    pub fn run(body: impl FnOnce()) -> Self {
        Self { child: Some(sys::fork(body).expect("there is room for another process")) }
    }

    /// That does this instruction by instruction: [`Forked::step`].
    #[track_caller]
    pub fn run_traced(body: impl FnOnce()) -> Self {
        let forked = Self::run(|| {
            sys::trace_me().expect("nobody else traces it");
            kill_process(rustix::process::getpid(), Signal::STOP).expect("it may stop itself");
            body();
        });
        assert!(forked.wait(WaitOptions::UNTRACED).stopped(), "it stops first");
        forked
    }

    /// Has the process execute one instruction, and says whether it still lives.
    #[track_caller]
    pub fn step(&mut self) -> bool {
        let child = self.child.expect("it was not waited for");
        sys::step(child).expect("it is stopped");
        let status = self.wait(WaitOptions::empty());
        if status.stopped() {
            return true;
        }
        assert_eq!(status.exit_status(), Some(0), "it did not end as it should: {status:?}");
        self.child = None;
        false
    }

    /// Kills it, wherever it is.
    #[track_caller]
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(child) = self.child.take() {
            // It may have ended.
            let _ = kill_process(child, Signal::KILL);
            while waitpid(Some(child), WaitOptions::empty())
                .is_ok_and(|one| one.is_some_and(|(_, status)| status.stopped()))
            {}
        }
    }

    #[track_caller]
    fn wait(&self, options: WaitOptions) -> WaitStatus {
        let (_, status) = waitpid(self.child, options).expect("it is a child").expect("it was waited for");
        status
    }
}

impl Drop for Forked {
    fn drop(&mut self) {
        self.end();
    }
}
