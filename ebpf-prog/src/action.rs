//! What a rule does, and what comes of it for a packet.

/// What a rule does with the packets that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Let the packet through and stop looking.
    Pass,
    /// Discard the packet.
    Drop,
    /// Count the packet and go on looking.
    Count,
    /// Answer with TC=1 in place of the server, so that a real client asks again over TCP (RFC 1035 §4.2.1).
    Truncate,
    /// Answer REFUSED in place of the server (RFC 1035 §4.1.1).
    Refused,
    /// Answer NXDOMAIN in place of the server (RFC 1035 §4.1.1).
    NxDomain,
    /// Of plain DNS over UDP, answer every so many-th packet with TC=1 and discard the others; let everything else through.
    ///
    /// This is `slip` of response rate limiting in BIND, NSD and Knot DNS: whoever forges the address of a victim makes few
    /// and short answers, and the victim itself still gets through, over TCP. 1 answers all, 0 none, and the most is
    /// [`Action::MAX_SLIP`]. The hit counter of the rule says which packets these are, so with several CPUs, and with packets
    /// over TCP in between, it is every so many-th on average.
    Slip(u8),
}

impl Action {
    /// Every action, and with a number for one that takes one.
    pub const ALL: [Self; 7] =
        [Self::Pass, Self::Drop, Self::Count, Self::Truncate, Self::Refused, Self::NxDomain, Self::Slip(2)];

    /// The most that [`Action::Slip`] takes.
    pub const MAX_SLIP: u8 = 0x7f;

    /// The bit that says that the others are the number of [`Action::Slip`].
    const SLIP: u8 = 0x80;

    /// The action of a rule in memory; what no version ever wrote lets the packet through.
    #[inline(always)]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Drop,
            2 => Self::Count,
            3 => Self::Truncate,
            4 => Self::Refused,
            5 => Self::NxDomain,
            Self::SLIP.. => Self::Slip(byte & Self::MAX_SLIP),
            _ => Self::Pass,
        }
    }

    /// The action as it is in memory. A number that is too large becomes [`Action::MAX_SLIP`].
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Drop => 1,
            Self::Count => 2,
            Self::Truncate => 3,
            Self::Refused => 4,
            Self::NxDomain => 5,
            Self::Slip(every) if every > Self::MAX_SLIP => Self::SLIP | Self::MAX_SLIP,
            Self::Slip(every) => Self::SLIP | every,
        }
    }
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The application gets it.
    Pass,
    /// Nobody gets it.
    Drop,
    /// The application gets it, and answers with TC=1 and nothing else.
    Truncate,
    /// The application gets it, and answers REFUSED.
    Refused,
    /// The application gets it, and answers NXDOMAIN.
    NxDomain,
}

/// What a search for rules has come to: what the rule does that decides, and how many packets it has counted. In one word,
/// and made a [`Verdict`] only at the very end, because the verifier follows all that comes after each case of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided(u64);

impl Decided {
    /// No rule has decided, or none was asked.
    pub const PASS: Self = Self(0);
    /// The packet is discarded, whatever the rules.
    pub const DROP: Self = Self(Action::Drop.to_byte() as u64);

    /// By a rule that does this and has counted the packet as the `hits`th; `None` if it only counts.
    #[inline(always)]
    pub const fn by(action: u8, hits: u64) -> Option<Self> {
        if action == Action::Count.to_byte() { None } else { Some(Self(hits << 8 | action as u64)) }
    }

    /// As a number.
    #[inline(always)]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// What was a number once.
    #[inline(always)]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// What becomes of a packet that came this way.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the action is the lowest byte")]
    pub const fn verdict(self, came: Came) -> Verdict {
        let hits = self.0 >> 8;
        match Action::from_byte(self.0 as u8) {
            Action::Pass | Action::Count => Verdict::Pass,
            Action::Drop => Verdict::Drop,
            Action::Refused => Verdict::Refused,
            Action::NxDomain => Verdict::NxDomain,
            Action::Truncate => match came {
                Came::OverPlainUdp | Came::ThroughKernel => Verdict::Truncate,
                Came::Otherwise => Verdict::Pass,
            },
            Action::Slip(every) => match came {
                Came::Otherwise => Verdict::Pass,
                Came::ThroughKernel if every > 0 => Verdict::Truncate,
                Came::OverPlainUdp if hits.is_multiple_of(every as u64) => Verdict::Truncate,
                Came::OverPlainUdp | Came::ThroughKernel => Verdict::Drop,
            },
        }
    }
}

/// How a packet came: some actions are about plain DNS over UDP alone, because whoever asks over anything else has shown that
/// it is real, and gets answers of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// As plain DNS over UDP.
    OverPlainUdp,
    /// Likewise, and the kernel has let it through by the same rules: it has chosen which packets a rule answers.
    ThroughKernel,
    /// Over TCP, or hidden in something else.
    Otherwise,
}
