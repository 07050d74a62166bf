//! Links between the network namespace of a test and another one: tunnels, VLANs and others, over a pair of Ethernet
//! interfaces.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    netns::{self, Namespace},
    privilege,
    tun::{BLOCKED4, BLOCKED6, CLIENT4, CLIENT6},
};

/// How long the kernel may take until a link carries packets.
const PATIENCE: Duration = Duration::from_secs(20);

/// The address of this end, for the clients at the other: [`CLIENT4`] and [`BLOCKED4`].
pub const HERE4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 254);
/// The same for [`CLIENT6`] and [`BLOCKED6`].
pub const HERE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 254);

/// Where a tunnel begins and ends, this end first.
pub const ENDS4: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2)];
/// The same over IPv6.
pub const ENDS6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2)];

/// A kind of link.
#[derive(Debug)]
pub struct Kind {
    /// What ip(8) calls it.
    name: &'static str,
    /// The commands of ip(8) that make it out of the interface `wire`, with LOCAL4, REMOTE4, LOCAL6 and REMOTE6 for where
    /// a tunnel begins and ends. It has to be called `link0`.
    commands: &'static str,
    /// What its routes say beside that.
    encapsulation: &'static str,
    /// Whether it carries IPv4.
    pub ipv4: bool,
    /// Whether it carries IPv6.
    pub ipv6: bool,
}

impl Kind {
    const fn new(name: &'static str, commands: &'static str) -> Self {
        Self { name, commands, encapsulation: "", ipv4: true, ipv6: true }
    }

    /// IP in GRE over IPv4.
    pub const GRE: Self = Self::new("gre", "link add link0 type gre local LOCAL4 remote REMOTE4");
    /// Ethernet in GRE over IPv4.
    pub const GRETAP: Self = Self::new("gretap", "link add link0 type gretap local LOCAL4 remote REMOTE4");
    /// IP in GRE over IPv6.
    pub const IP6GRE: Self = Self::new("ip6gre", "link add link0 type ip6gre local LOCAL6 remote REMOTE6");
    /// IPv4 over IPv4.
    pub const IPIP: Self =
        Self { ipv6: false, ..Self::new("ipip", "link add link0 type ipip local LOCAL4 remote REMOTE4") };
    /// IPv6 over IPv4.
    pub const SIT: Self =
        Self { ipv4: false, ..Self::new("sit", "link add link0 type sit local LOCAL4 remote REMOTE4") };
    /// IP over IPv6.
    pub const IP6TNL: Self =
        Self::new("ip6tnl", "link add link0 type ip6tnl mode any local LOCAL6 remote REMOTE6");
    /// Ethernet in UDP over IPv4.
    pub const VXLAN: Self = Self::new(
        "vxlan",
        "link add link0 type vxlan id 5 dstport 4789 local LOCAL4 remote REMOTE4 dev wire",
    );
    /// IP in UDP over IPv4.
    pub const VXLAN_GPE: Self = Self {
        encapsulation: "encap ip id 5 dst REMOTE4",
        ..Self::new("vxlan", "link add link0 type vxlan dstport 4790 gpe external")
    };
    /// Ethernet in UDP over IPv4, in another way.
    pub const GENEVE: Self = Self::new("geneve", "link add link0 type geneve id 5 remote REMOTE4");
    /// A VLAN.
    pub const VLAN: Self = Self::new("vlan", "link add link wire name link0 type vlan id 5");
    /// A VLAN in a VLAN.
    pub const QINQ: Self = Self::new(
        "vlan",
        "link add link wire name outer type vlan protocol 802.1ad id 7\n\
         link set outer up\n\
         link add link outer name link0 type vlan protocol 802.1Q id 5",
    );
    /// An Ethernet interface on another one.
    pub const MACVLAN: Self = Self::new("macvlan", "link add link wire name link0 type macvlan mode bridge");

    /// Whether the kernel has such links. If not, says so on standard error. A test goes without even where
    /// [`privilege::granted`] would fail: it is not for lack of a privilege.
    #[track_caller]
    fn exists(&self) -> bool {
        let scratch = Namespace::new();
        let output = scratch.enter(|| Command::new("ip").args(["link", "add", "type", self.name]).output());
        let message = output.expect("ip is installed (iproute2)").stderr;
        // Without further arguments few kinds can be made, so that other errors say nothing.
        if !String::from_utf8_lossy(&message).contains("Unknown device type") {
            return true;
        }
        let thread = thread::current();
        let test = thread.name().unwrap_or("a test");
        privilege::say(&format!("!!! SKIPPED: {test} needs links of the type {}", self.name));
        false
    }
}

/// A link of this kind to a new namespace, in which the clients are, or `None` if the kernel has none. Needs a network
/// namespace of the test's own.
#[track_caller]
pub fn connect(kind: &Kind) -> Option<Namespace> {
    if !kind.exists() {
        return None;
    }
    let there = Namespace::new();
    netns::ip(&format!("link add wire type veth peer name wire netns {}", there.path()));
    set_up(kind, false);
    there.enter(|| set_up(kind, true));
    if kind.ipv4 {
        wait_until_up(&there, HERE4.into(), CLIENT4.into());
    }
    if kind.ipv6 {
        wait_until_up(&there, HERE6.into(), CLIENT6.into());
    }
    Some(there)
}

/// Sets up one end, in the namespace of this thread.
#[track_caller]
fn set_up(kind: &Kind, there: bool) {
    let [mut local4, mut remote4] = ENDS4;
    let [mut local6, mut remote6] = ENDS6;
    let mut here = vec![];
    let mut behind = vec![];
    if kind.ipv4 {
        here.push(IpAddr::from(HERE4));
        behind.extend([CLIENT4, BLOCKED4].map(IpAddr::from));
    }
    if kind.ipv6 {
        here.push(HERE6.into());
        behind.extend([CLIENT6, BLOCKED6].map(IpAddr::from));
    }
    if there {
        (local4, remote4) = (remote4, local4);
        (local6, remote6) = (remote6, local6);
        (here, behind) = (behind, here);
    }
    let mut commands = vec![
        "link set wire up".to_owned(),
        "addr add LOCAL4/24 dev wire".to_owned(),
        "addr add LOCAL6/64 dev wire nodad".to_owned(),
        kind.commands.to_owned(),
        "link set link0 up".to_owned(),
    ];
    for address in here {
        let (len, flags) = if address.is_ipv4() { (32, "") } else { (128, "nodad") };
        commands.push(format!("addr add {address}/{len} dev link0 {flags}"));
    }
    for address in behind {
        commands.push(format!("route add {address} dev link0 {}", kind.encapsulation));
    }
    let commands = commands
        .join("\n")
        .replace("LOCAL4", &local4.to_string())
        .replace("REMOTE4", &remote4.to_string())
        .replace("LOCAL6", &local6.to_string())
        .replace("REMOTE6", &remote6.to_string());
    netns::ip(&commands);
}

/// Both ends find each other some time after they are set up.
#[track_caller]
fn wait_until_up(namespace: &Namespace, here: IpAddr, there: IpAddr) {
    let bind = |address| UdpSocket::bind((address, 0)).expect("an address of its own");
    let ends = [bind(here), namespace.enter(|| bind(there))];
    for (from, to) in [(&ends[1], &ends[0]), (&ends[0], &ends[1])] {
        let address = to.local_addr().expect("it is bound");
        to.set_read_timeout(Some(Duration::from_millis(20))).expect("a timeout");
        let start = Instant::now();
        while from.send_to(&[0], address).and_then(|_| to.recv(&mut [0])).is_err() {
            assert!(start.elapsed() < PATIENCE, "nothing comes to {address}");
        }
    }
}
