//! Who enforces the rules, and why.

use std::{error::Error, fmt, path::PathBuf, sync::Arc};

use crate::{AttachError, Mode, Unavailable};

/// Who enforces the rules at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// The kernel drops packets before the server sees them; user space decides what the kernel cannot see.
    Kernel,
    /// The server drops them: it has to ask [`BpfFilter::check`](crate::BpfFilter::check).
    UserSpace,
}

/// Who enforces the rules of a filter, and why. `Display` makes one line of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The mode the filter was built with.
    pub mode: Mode,
    /// Who enforces the rules at sockets that the filter is attached to.
    pub enforcement: Enforcement,
    /// Why the kernel does not.
    pub reason: Option<Arc<Unavailable>>,
    /// The programs in the kernel.
    pub programs: Vec<Program>,
    /// Sockets that this filter was attached to, those included that were closed since.
    pub attached: u64,
    /// Where the rules are pinned, if they are.
    pub pin_dir: Option<PathBuf>,
    /// Sockets that the kernel refused to filter in [`Mode::Prefer`], where only user space enforces.
    pub degraded: u64,
    /// Why the last of those was refused.
    pub degraded_reason: Option<Arc<AttachError>>,
}

/// A program in the kernel, as `bpftool prog show` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Program {
    /// Its name.
    pub name: &'static str,
    /// Its number in the kernel.
    pub id: u32,
    /// How many instructions the verifier looked at, if the kernel says so.
    pub verified_instructions: Option<u32>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.enforcement, &self.reason) {
            (Enforcement::Kernel, _) => {
                f.write_str("kernel (")?;
                for (index, program) in self.programs.iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}program {} with id {}", program.name, program.id)?;
                }
                f.write_str(")")?;
                if let Some(directory) = &self.pin_dir {
                    write!(f, ", pinned in {}", directory.display())?;
                }
            }
            (Enforcement::UserSpace, Some(reason)) => {
                write!(f, "user space: {reason}")?;
                write_sources(f, reason.as_ref())?;
            }
            (Enforcement::UserSpace, None) => f.write_str("user space")?,
        }
        if let Some(reason) = &self.degraded_reason {
            write!(f, "; user space at {} sockets: {reason}", self.degraded)?;
            write_sources(f, reason.as_ref())?;
        }
        Ok(())
    }
}

fn write_sources(f: &mut fmt::Formatter<'_>, error: &dyn Error) -> fmt::Result {
    let mut source = error.source();
    while let Some(error) = source {
        write!(f, ": {error}")?;
        source = error.source();
    }
    Ok(())
}
