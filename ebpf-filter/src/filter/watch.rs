//! Where malformed messages come from.

use std::net::IpAddr;

use crate::{BpfFilter, KernelError, MalformedPosition};

use super::Inner;

impl BpfFilter {
    /// Has the sources of messages that are no well-formed queries remembered from now on, or no longer, for
    /// [`BpfFilter::malformed_sources`]: those that the kernel lets through or drops as malformed, and those that
    /// [`BpfFilter::check_datagram`] is asked about. They are no part of what [`BpfFilter::stats`] counts by reason.
    ///
    /// Meanwhile every message over plain UDP is read that no rule for its source decides, even if there are no rules for
    /// names. There is one switch for all clones of the filter, and for all who share its pins.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn watch_malformed(&self, on: bool) -> Result<(), KernelError> {
        let mut writer = self.inner.writer()?;
        writer.set_watch_malformed(self.inner.engine.memory(), on);
        self.inner.publish(&writer)
    }

    /// Behind every source that was remembered up to now.
    pub fn malformed_position(&self) -> MalformedPosition {
        MalformedPosition::now(self.inner.engine.memory())
    }

    /// Hands out the sources of messages that were no well-formed queries, each with the number of messages that it stands for,
    /// from `position` on, and moves that behind them. Nobody waits for it.
    ///
    /// The last 4096 are remembered. If there were more, those that are left stand for all of them, so that the numbers add up
    /// to about what came. Who reads often enough, ten times a second, say, gets a fair sample of any flood. The addresses of a
    /// flood may be forged.
    ///
    /// ```
    /// # use ebpf_filter::BpfFilter;
    /// let filter = BpfFilter::builder().build()?;
    /// filter.watch_malformed(true)?;
    /// let mut position = filter.malformed_position();
    /// filter.check_datagram([192, 0, 2, 1], b"no query");
    /// filter.malformed_sources(&mut position, |source, messages| println!("{messages} from {source}"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn malformed_sources(&self, position: &mut MalformedPosition, each: impl FnMut(IpAddr, u64)) {
        let Inner { engine, .. } = &*self.inner;
        position.read(engine.memory(), each);
    }
}
