//! The maps that the kernel brings along, in place of our tables: what looking a source up costs in each.

use std::net::IpAddr;

use aya::{
    Ebpf, EbpfLoader,
    maps::{
        HashMap,
        lpm_trie::{Key, LpmTrie},
    },
};
use ebpf_filter::{Match, Rule};
use ebpf_prog::{layout::programs, object};
use ipnet::IpNet;

use crate::{
    Args,
    cases::networks::{inside_and_outside, mixed4, mixed6, of_lengths},
    common::{Result, table},
    contestant::{Contestant, Kind, ours},
    net, range, take_turns,
};

/// Different sources that take turns.
const SOURCES: usize = 200_000;

type Value = [u64; 2];

/// What is looked up, and in which map of the kernel.
struct Alternative {
    what: &'static str,
    program: &'static str,
    map: &'static str,
    entries: Vec<IpNet>,
}

/// Measures every alternative whose name contains `--case`.
pub(crate) fn measure(args: &Args) -> Result<()> {
    let payloads = [vec![0; 30]];
    let mut rows = Vec::new();
    for (name, make) in all(args.million) {
        if !name.contains(&args.case) {
            continue;
        }
        let alternative = make();
        let [inside, outside] = inside_and_outside(&alternative.entries, SOURCES);
        for (sources, dropped) in [(inside, true), (outside, false)] {
            eprintln!("{name}, {}", if dropped { "drops" } else { "passes" });
            let row = alternative.run(&sources, &payloads, dropped, args)?;
            rows.push([vec![name.clone()], row].concat().try_into().map_err(|_| "not a row")?);
        }
    }
    if !rows.is_empty() {
        let header = ["what", "sources", "map of the kernel", "it", "range", "ours", "range", "ours / it"];
        println!("{}", table::<8>(header, &rows));
    }
    Ok(())
}

type Make = Box<dyn Fn() -> Alternative>;

fn all(million: bool) -> Vec<(String, Make)> {
    let counts = [1, 1000, 16_000, 100_000].into_iter().chain(million.then_some(1_000_000));
    let mut all: Vec<(String, Make)> = Vec::new();
    let mut add = |name: String, make: Make| all.push((name, make));
    for count in counts.clone() {
        add(
            format!("{count} IPv4 addresses"),
            Box::new(move || {
                Alternative::new("hash map", "hash_map4", "HASH4", of_lengths(count, 32..=32, true))
            }),
        );
    }
    for count in counts {
        add(format!("{count} IPv4 ranges"), Box::new(move || Alternative::trie4(mixed4(count))));
    }
    for (lens, which) in [(24..=24, "/24 alone"), (16..=32, "/16 to /32")] {
        add(
            format!("100000 IPv4 ranges, {which}"),
            Box::new(move || Alternative::trie4(of_lengths(100_000, lens.clone(), true))),
        );
    }
    for count in [1, 1000, 100_000] {
        add(format!("{count} IPv6 ranges"), Box::new(move || Alternative::trie6(mixed6(count))));
    }
    add(
        "100000 IPv6 ranges, /29 to /64".to_owned(),
        Box::new(|| Alternative::trie6(of_lengths(100_000, 29..=64, false))),
    );
    all
}

impl Alternative {
    const fn new(what: &'static str, program: &'static str, map: &'static str, entries: Vec<IpNet>) -> Self {
        Self { what, program, map, entries }
    }

    const fn trie4(entries: Vec<IpNet>) -> Self {
        Self::new("LPM trie", "lpm_trie4", "TRIE4", entries)
    }

    const fn trie6(entries: Vec<IpNet>) -> Self {
        Self::new("LPM trie", "lpm_trie6", "TRIE6", entries)
    }

    fn run(
        &self,
        sources: &[IpAddr],
        payloads: &[Vec<u8>],
        dropped: bool,
        args: &Args,
    ) -> Result<Vec<String>> {
        let filter = ours(&self.rules())?;
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .map_max_entries(self.map, u32::try_from(self.entries.len())?)
            .load(object::BASELINE)?;
        self.fill(&mut ebpf, sources, dropped)?;
        let baseline = EbpfLoader::new().btf(None).load(object::BASELINE)?;
        let contestants = [
            Contestant::ours(Kind::Ours, filter, programs::ADDRESS_ONLY, sources, payloads)?,
            Contestant::of_baseline(Kind::KernelMap, ebpf, self.program, sources, payloads)?,
            Contestant::of_baseline(Kind::Empty, baseline, "baseline", sources, payloads)?,
        ];
        let [ours, theirs, empty] = take_turns(&contestants, dropped, args)?
            .try_into()
            .map_err(|_| "a contestant without figures")?;
        let [ours, theirs] = [ours, theirs].map(|spread| net(spread, empty.median));
        Ok(vec![
            if dropped { "among them" } else { "others" }.to_owned(),
            self.what.to_owned(),
            format!("{:.0}", theirs.median),
            range(theirs),
            format!("{:.0}", ours.median),
            range(ours),
            format!("{:.2}", ours.median / theirs.median),
        ])
    }

    fn rules(&self) -> Vec<Rule> {
        let whole = |net: &IpNet| net.prefix_len() == net.max_prefix_len() && self.map == "HASH4";
        let matches = |net: &IpNet| {
            if whole(net) { Match::address(net.addr()) } else { Match::range(*net) }
        };
        self.entries.iter().map(|net| Rule::drop(matches(net))).collect()
    }

    /// Fills the map of the kernel, and sees that it finds the sources or does not.
    fn fill(&self, ebpf: &mut Ebpf, sources: &[IpAddr], dropped: bool) -> Result<()> {
        let map = ebpf.map_mut(self.map).ok_or("no such map in the object")?;
        let value: Value = [0; 2];
        let some = sources.iter().take(1000);
        let found: Vec<bool> = match self.map {
            "HASH4" => {
                let mut map: HashMap<_, [u8; 4], Value> = map.try_into()?;
                for net in &self.entries {
                    map.insert(v4(net.addr())?, value, 0)?;
                }
                some.map(|source| Ok(map.get(&v4(*source)?, 0).is_ok())).collect::<Result<_>>()?
            }
            "TRIE4" => {
                let mut map: LpmTrie<_, [u8; 4], Value> = map.try_into()?;
                for net in &self.entries {
                    map.insert(&Key::new(net.prefix_len().into(), v4(net.addr())?), value, 0)?;
                }
                let find = |source: &IpAddr| Ok(map.get(&Key::new(32, v4(*source)?), 0).is_ok());
                some.map(find).collect::<Result<_>>()?
            }
            _ => {
                let mut map: LpmTrie<_, [u8; 16], Value> = map.try_into()?;
                for net in &self.entries {
                    map.insert(&Key::new(net.prefix_len().into(), v6(net.addr())?), value, 0)?;
                }
                let find = |source: &IpAddr| Ok(map.get(&Key::new(128, v6(*source)?), 0).is_ok());
                some.map(find).collect::<Result<_>>()?
            }
        };
        if found.iter().all(|found| *found == dropped) {
            Ok(())
        } else {
            Err(format!("the {} is not filled as it should", self.what).into())
        }
    }
}

fn v4(address: IpAddr) -> Result<[u8; 4]> {
    match address {
        IpAddr::V4(address) => Ok(address.octets()),
        IpAddr::V6(_) => Err("an IPv6 address in a map for IPv4".into()),
    }
}

fn v6(address: IpAddr) -> Result<[u8; 16]> {
    match address {
        IpAddr::V6(address) => Ok(address.octets()),
        IpAddr::V4(_) => Err("an IPv4 address in a map for IPv6".into()),
    }
}
