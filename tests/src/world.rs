//! The same test body twice: rules that the kernel enforces on packets, and rules that user space asks about the same
//! messages.

use std::net::IpAddr;

use ebpf_filter::{BpfFilter, BpfFilterBuilder, Enforcement, Mode, Verdict};

use crate::wire::Wire;

/// A filter, and a way to see what it does to a packet.
#[derive(Debug)]
pub struct World {
    /// The filter.
    pub filter: BpfFilter,
    wire: Option<Wire>,
}

impl World {
    /// The kernel enforces, at a UDP socket on loopback.
    #[track_caller]
    pub fn in_kernel(builder: BpfFilterBuilder) -> Self {
        let filter = builder.mode(Mode::Require).build().expect("the kernel can");
        let wire = Wire::ipv4();
        assert_eq!(filter.attach(wire.server()).expect("a UDP socket"), Enforcement::Kernel);
        Self { filter, wire: Some(wire) }
    }

    /// User space enforces.
    #[track_caller]
    pub fn in_user_space(builder: BpfFilterBuilder) -> Self {
        let filter = builder.mode(Mode::Off).build().expect("nothing can fail");
        Self { filter, wire: None }
    }

    /// Whether a server gets this message from a client at this address, which is in 127.0.0.0/8.
    #[track_caller]
    pub fn passes(&self, source: impl Into<IpAddr>, message: &[u8]) -> bool {
        let source = source.into();
        match &self.wire {
            Some(wire) => wire.passes(&wire.client(source), message),
            None => self.filter.check_datagram(source, message) != Verdict::Drop,
        }
    }
}

/// Makes two tests of each of these functions, which take a `fn(BpfFilterBuilder) -> World`.
#[macro_export]
macro_rules! in_both_worlds {
    ($($(#[$attribute:meta])* $test:ident),+ $(,)?) => {
        mod kernel {
            $(#[test]
            $(#[$attribute])*
            fn $test() {
                $crate::require_kernel!();
                super::$test($crate::world::World::in_kernel);
            })+
        }

        mod user_space {
            $(#[test]
            $(#[$attribute])*
            fn $test() {
                super::$test($crate::world::World::in_user_space);
            })+
        }
    };
}
