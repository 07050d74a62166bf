//! `attach_address_only`: for datagrams that do not start with a DNS header, whose names nobody may look for.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{IpAddr, Ipv4Addr};

use ebpf_filter::{BpfFilter, Enforcement, Malformed, Mode, Qtypes};
use ebpf_filter_tests::{
    dns::{A, query},
    require_kernel,
    wire::Wire,
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 13, 1));
const BLOCKED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 13, 2));

#[test]
fn names_pass_and_sources_are_dropped() {
    require_kernel!();
    let filter = BpfFilter::builder().malformed(Malformed::Drop).mode(Mode::Require).build().unwrap();
    filter.block(BLOCKED).unwrap();
    filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    let wire = Wire::ipv4();
    assert_eq!(filter.attach_address_only(wire.server()).unwrap(), Enforcement::Kernel);
    let (client, blocked) = (wire.client(CLIENT), wire.client(BLOCKED));
    let evil = query("evil.example.", A);
    for datagram in [&evil[..], &[], &[0], &[0xff; 100]] {
        wire.assert_passes(&client, datagram);
        wire.assert_drops(&blocked, datagram);
    }
    let stats = filter.stats().unwrap();
    assert_eq!(stats.to_string(), "127.0.13.2: 4\nevil.example. 255: 0\n");
    assert_eq!(stats.malformed_total(), 0);

    filter.attach(wire.server()).unwrap();
    wire.assert_drops(&client, &evil);
    filter.attach_address_only(wire.server()).unwrap();
    wire.assert_passes(&client, &evil);
}
