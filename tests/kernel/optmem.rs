//! `net.core.optmem_max`, the memory for the options of a socket, which programs are charged to: too low, in a network
//! namespace of the test's own.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use ebpf_filter::{AttachError, BpfFilter, Enforcement, Mode, Verdict};
use ebpf_filter_tests::{
    dns::{A, query},
    netns::{self, set_sysctl},
    require_kernel,
    wire::Wire,
};

const OPTMEM_MAX: &str = "core/optmem_max";
const TOO_LOW: u64 = 4096;
/// Since Linux 6.8 (see `sysctl_optmem_max` in net/core/sock.c).
const DEFAULT: u64 = 131_072;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 9, 1));

fn udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

/// How much the kernel needs for the full program, as the error says.
#[track_caller]
fn needed(filter: &BpfFilter) -> u64 {
    set_sysctl(OPTMEM_MAX, TOO_LOW);
    match filter.attach(&udp()) {
        Err(AttachError::OptmemMax { limit: Some(TOO_LOW), needed, .. }) => needed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn require_says_what_is_needed_and_that_is_enough() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        let needed = needed(&filter);
        assert!(needed > TOO_LOW && needed < DEFAULT, "{needed}");
        assert_eq!(filter.status().attached, 0);

        set_sysctl(OPTMEM_MAX, needed);
        assert_eq!(filter.attach(&udp()).unwrap(), Enforcement::Kernel);
        // Nor is it much too much: a hundred bytes less, and it does not fit.
        set_sysctl(OPTMEM_MAX, needed - 128);
        assert!(matches!(filter.attach(&udp()), Err(AttachError::OptmemMax { .. })));
        assert_eq!(filter.status().attached, 1);
    });
}

#[test]
fn the_error_names_the_sysctl_and_the_remedy() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        set_sysctl(OPTMEM_MAX, TOO_LOW);
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        let text = filter.attach(&udp()).unwrap_err().to_string();
        for part in ["net.core.optmem_max is 4096", "sysctl -w net.core.optmem_max="] {
            assert!(text.contains(part), "{text}");
        }
    });
}

#[test]
fn prefer_leaves_the_socket_to_user_space() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        set_sysctl(OPTMEM_MAX, TOO_LOW);
        let filter = BpfFilter::builder().mode(Mode::Prefer).build().unwrap();
        filter.block(CLIENT).unwrap();
        let wire = Wire::ipv4();
        assert_eq!(filter.attach(wire.server()).unwrap(), Enforcement::UserSpace);
        let query = query("example.", A);
        wire.assert_passes(&wire.client(CLIENT), &query);
        assert_eq!(filter.check_datagram(CLIENT, &query), Verdict::Drop);

        let status = filter.status();
        assert_eq!((status.enforcement, status.attached, status.degraded), (Enforcement::Kernel, 0, 1));
        assert!(matches!(status.degraded_reason.as_deref(), Some(AttachError::OptmemMax { .. })));
        let text = status.to_string();
        assert!(
            text.contains("user space at 1 sockets") && text.contains("net.core.optmem_max is 4096"),
            "{text}"
        );

        set_sysctl(OPTMEM_MAX, DEFAULT);
        assert_eq!(filter.attach(wire.server()).unwrap(), Enforcement::Kernel);
        wire.assert_drops(&wire.client(CLIENT), &query);
    });
}

/// The program for TCP is a small one.
#[test]
fn a_listener_needs_less() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        set_sysctl(OPTMEM_MAX, needed(&filter) / 2);
        assert!(filter.attach(&udp()).is_err());
        filter.attach(&TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        filter.attach_address_only(&udp()).unwrap();
    });
}

/// The old filter is charged until the new one is in place, so replacing takes room for two.
#[test]
fn replacing_takes_room_for_both() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        let needed_once = needed(&filter);
        assert!(2 * needed_once < DEFAULT, "a filter cannot be replaced with the default: {needed_once}");
        let socket = udp();
        set_sysctl(OPTMEM_MAX, needed_once);
        filter.attach(&socket).unwrap();
        let Err(AttachError::OptmemMax { needed, limit, .. }) = filter.attach(&socket) else {
            panic!("there was room for both");
        };
        assert_eq!(limit, Some(needed_once));
        assert!(needed > needed_once, "{needed} bytes are needed, but {needed_once} are not enough");
        set_sysctl(OPTMEM_MAX, needed);
        filter.attach(&socket).unwrap();
    });
}
