//! Servers that block whoever asks too much, and a client that does: this library beside dnsdist.

mod flood;
mod servers;

use std::{error::Error, time::Duration};

pub use flood::{Flood, Outcome};
pub use servers::{Dnsdist, Ours, Server};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Queries a second, over [`WINDOW`]: 200 are let through at once.
pub const LIMIT: u32 = 20;

/// What the limit is measured over.
pub const WINDOW: Duration = Duration::from_secs(10);

/// How long it takes from the first query above the limit to the first that the kernel drops; or, where nobody knows that, to
/// the first that is not answered.
///
/// # Errors
///
/// If the flood was answered to its end, or something fails.
pub fn reaction(server: &impl Server, flood: Flood) -> Result<(Duration, Outcome)> {
    let burst = usize::try_from(u64::from(LIMIT) * WINDOW.as_secs())?;
    let outcome = flood.run(server.address())?;
    let dropped = match server.last_received() {
        Some(last) => outcome.sent_at(last + 1),
        None => outcome.first_lost(),
    };
    let dropped = dropped.ok_or("the flood was let in to its end")?;
    let excess = outcome.sent_at(burst).ok_or("the flood was shorter than the limit")?;
    Ok((dropped.saturating_sub(excess), outcome))
}
