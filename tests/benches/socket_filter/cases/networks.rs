//! Networks as they are blocked, and sources in and outside of them.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::random::{pick, random};

/// Four of five are /24, the others /16 to /23. None is in 127/8.
pub(crate) fn mixed4(count: usize) -> Vec<IpNet> {
    networks(count, |state| {
        let len = if random(state).is_multiple_of(5) { 16 + (random(state) % 8) as u8 } else { 24 };
        net(address4(state), len)
    })
}

/// Mostly /48, then /56, /64 and /32. All are in `2000::/3`.
pub(crate) fn mixed6(count: usize) -> Vec<IpNet> {
    const LENS: [u8; 10] = [48, 48, 48, 48, 48, 48, 56, 56, 64, 32];
    networks(count, |state| net(address6(state), *pick(&LENS, state)))
}

/// With one of these lengths each.
pub(crate) fn of_lengths(count: usize, lens: std::ops::RangeInclusive<u8>, ipv4: bool) -> Vec<IpNet> {
    let lens: Vec<_> = lens.collect();
    networks(count, |state| {
        let address = if ipv4 { address4(state) } else { address6(state) };
        net(address, *pick(&lens, state))
    })
}

fn networks(count: usize, mut make: impl FnMut(&mut u64) -> Option<IpNet>) -> Vec<IpNet> {
    let (state, mut nets, mut seen) = (&mut 3, Vec::new(), HashSet::new());
    while nets.len() < count {
        nets.extend(make(state).filter(|net| seen.insert(*net)));
    }
    nets
}

fn net(address: IpAddr, len: u8) -> Option<IpNet> {
    Some(IpNet::new(address, len).ok()?.trunc())
}

/// In 1/8 to 126/8 or 128/8 to 223/8, where packets can come from.
fn address4(state: &mut u64) -> IpAddr {
    loop {
        let [first, second, third, fourth] = (random(state) as u32).to_be_bytes();
        if matches!(first, 1..=126 | 128..=223) {
            return Ipv4Addr::new(first, second, third, fourth).into();
        }
    }
}

fn address6(state: &mut u64) -> IpAddr {
    let bits = u128::from(random(state)) << 64 | u128::from(random(state));
    Ipv6Addr::from_bits(bits >> 3 | 1 << 125).into()
}

/// Sources where none of the networks above is, but for /0 and its like: 127/8, or `fd00::/8`.
pub(crate) fn outside(like: IpAddr, count: usize) -> Vec<IpAddr> {
    let state = &mut 5;
    (0..count)
        .map(|_| match like {
            // Neither first nor last, which mean the network and everybody in it.
            IpAddr::V4(_) => {
                let [second, third, fourth, _] = (random(state) as u32).to_be_bytes();
                Ipv4Addr::new(127, second | 1, third, 1 + fourth % 254).into()
            }
            IpAddr::V6(_) => {
                let bits = u128::from(random(state)) << 64 | u128::from(random(state));
                Ipv6Addr::from_bits(bits >> 8 | 0xfd << 120).into()
            }
        })
        .collect()
}

/// Sources in these networks, and where none of them is.
pub(crate) fn inside_and_outside(nets: &[IpNet], count: usize) -> [Vec<IpAddr>; 2] {
    let state = &mut 9;
    let ipv4 = nets.first().is_none_or(|net| matches!(net, IpNet::V4(_)));
    let inside = (0..count).map(|_| host_in(pick(nets, state), state)).collect();
    let lens: HashSet<_> = nets.iter().map(IpNet::prefix_len).collect();
    let nets: HashSet<_> = nets.iter().copied().collect();
    let is_inside =
        |address| lens.iter().any(|len| net(address, *len).is_some_and(|net| nets.contains(&net)));
    let mut outside = Vec::new();
    while outside.len() < count {
        let address = if ipv4 { address4(state) } else { address6(state) };
        if !is_inside(address) {
            outside.push(address);
        }
    }
    [inside, outside]
}

fn host_in(net: &IpNet, state: &mut u64) -> IpAddr {
    match net {
        IpNet::V4(net) => in4(*net, random(state)).into(),
        IpNet::V6(net) => in6(net, random(state)).into(),
    }
}

fn in4(net: Ipv4Net, random: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(net.network().to_bits() | (random as u32) & net.hostmask().to_bits())
}

fn in6(net: &Ipv6Net, random: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits(net.network().to_bits() | u128::from(random) & net.hostmask().to_bits())
}
