//! An interface from which packets come that the test has made, and where it reads what the kernel sends.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{
    netns,
    packet::{self, Segment},
    sys,
};

/// How long a packet that has to come may take. Only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// An address behind the interface.
pub const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Another one, for a client that is blocked.
pub const BLOCKED4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// An address behind the interface.
pub const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// Another one, for a client that is blocked.
pub const BLOCKED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);

/// The Ethernet address of the interface, if it has one.
const HERE: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The Ethernet address of whoever is behind it.
const THERE: [u8; 6] = [2, 0, 0, 0, 0, 2];

const ETHERNET_HEADER: usize = 14;

/// The interface. Needs a network namespace of the test's own.
#[derive(Debug)]
pub struct Tun {
    file: File,
    /// The length of what the kernel puts in front of the packets that it sends.
    link_header: usize,
}

impl Tun {
    /// Creates the interface tun0, without Ethernet headers, and brings it up. Answers to addresses in 198.51.100.0/24 and
    /// `2001:db8:1::/64` go there.
    #[track_caller]
    pub fn new() -> Self {
        let file = sys::create_tun("tun0", libc::IFF_TUN).expect("the kernel has tun interfaces");
        netns::ip("link set tun0 up\nroute add 198.51.100.0/24 dev tun0\nroute add 2001:db8:1::/64 dev tun0");
        Self { file, link_header: 0 }
    }

    /// Creates the interface tap0, with Ethernet headers, and else does the same.
    #[track_caller]
    pub fn with_ethernet() -> Self {
        let file = sys::create_tun("tap0", libc::IFF_TAP).expect("the kernel has tap interfaces");
        let ethernet = |address: [u8; 6]| address.map(|byte| format!("{byte:02x}")).join(":");
        let mut commands = vec![
            format!("link set tap0 address {} up", ethernet(HERE)),
            "route add 198.51.100.0/24 dev tap0".to_owned(),
            "route add 2001:db8:1::/64 dev tap0".to_owned(),
        ];
        for address in [CLIENT4.into(), BLOCKED4.into(), CLIENT6.into(), BLOCKED6.into()] as [IpAddr; 4] {
            commands.push(format!("neigh add {address} lladdr {} dev tap0", ethernet(THERE)));
        }
        netns::ip(&commands.join("\n"));
        Self { file, link_header: ETHERNET_HEADER }
    }

    /// A packet arrives, and the kernel has handed it on when this returns. From an interface with Ethernet headers it has
    /// these VLAN tags: see [`packet::frame`].
    #[track_caller]
    pub fn send(&self, tags: &[(u16, u16)], packet: &[u8]) {
        if self.link_header == 0 {
            assert_eq!(tags, [], "tags are part of Ethernet");
            self.write(packet);
        } else {
            self.write(&packet::frame(THERE, HERE, tags, packet));
        }
    }

    /// The next TCP segment that the kernel sends, with the ports from which and to which it goes.
    #[track_caller]
    pub fn receive_tcp(&self) -> ((u16, u16), Segment) {
        let start = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let mut waiting = [PollFd::new(&self.file, PollFlags::IN)];
            let timeout = Timespec::try_from(left).expect("a few seconds");
            let ready = poll(&mut waiting, Some(&timeout)).expect("an interface can be waited for");
            assert_ne!(ready, 0, "the kernel sends no TCP segment");
            let mut bytes = [0; 2048];
            let len = (&self.file).read(&mut bytes).expect("the interface is up");
            // The kernel also asks for neighbours and routers.
            if let Some(segment) = packet::read_tcp(&bytes[self.link_header..len]) {
                return segment;
            }
        }
    }

    fn write(&self, bytes: &[u8]) {
        (&self.file).write_all(bytes).expect("the interface is up");
    }
}

impl Default for Tun {
    fn default() -> Self {
        Self::new()
    }
}
