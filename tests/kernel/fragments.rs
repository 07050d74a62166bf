//! Fragments made by hand, so small that the name spans several of them. The filter runs on what the kernel puts together.

use ebpf_filter_tests::{
    gate::Gate,
    headers::{Extension, Headers},
    netns, packet, require_kernel,
    tun::Tun,
};

/// Of five fragments.
const ORDERS: [[usize; 5]; 4] = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 4, 1, 3], [1, 2, 3, 4, 0]];

/// Fragments: with the UDP header and nothing else in the first, or eight bytes of what may be in front of it as well.
fn assert_bites_in_any_order(tun: &Tun, gate: &Gate, headers: &Headers, first: u16) {
    for order in ORDERS {
        gate.assert_bites(&format!("{headers:02x?} {order:?}"), |ends, payload| {
            let fragments = packet::udp_fragments(ends, headers, first, payload);
            assert_eq!(fragments.len(), order.len());
            for at in order {
                tun.send(&[], &fragments[at]);
            }
        });
    }
}

/// The fragments of three datagrams arrive by turns.
fn assert_bites_by_turns(tun: &Tun, gate: &Gate, headers: &Headers) {
    gate.assert_bites_all("by turns", |datagrams| {
        let fragments: Vec<_> = datagrams
            .iter()
            .map(|(ends, payload)| packet::udp_fragments(*ends, headers, 8, payload))
            .collect();
        for at in 0..5 {
            for fragments in &fragments {
                tun.send(&[], &fragments[at]);
            }
        }
    });
}

#[test]
fn over_ipv4() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let (tun, gate) = (Tun::new(), Gate::ipv4());
        for options in [vec![], vec![1; 40]] {
            assert_bites_in_any_order(&tun, &gate, &Headers::Options(options), 8);
        }
        assert_bites_by_turns(&tun, &gate, &Headers::Options(vec![]));
    });
}

#[test]
fn over_ipv6() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let (tun, gate) = (Tun::new(), Gate::ipv6());
        let alone = Headers::Extensions(vec![Extension::fragment()]);
        assert_bites_in_any_order(&tun, &gate, &alone, 8);
        let among_others = Headers::Extensions(vec![
            Extension::hop_by_hop(),
            Extension::destination_options(),
            Extension::fragment(),
            Extension::destination_options(),
        ]);
        assert_bites_in_any_order(&tun, &gate, &among_others, 16);
        assert_bites_by_turns(&tun, &gate, &alone);
    });
}
