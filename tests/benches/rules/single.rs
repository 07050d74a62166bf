//! One rule at a time, beside the cheapest that aya offers: one system call for one entry of a hash map of the kernel.

use std::time::Duration;

use aya::{
    EbpfLoader,
    maps::{HashMap, MapData},
};
use ebpf_filter::{Match, Qtypes, Rule};
use ebpf_prog::object;

use crate::{
    common::Result,
    report::{Report, timed},
    rules::{address, builder, name},
};

/// Single inserts that are timed one by one.
const SINGLE: u32 = 20_000;

/// They take turns with the reference, this many at a time.
const BLOCK: u32 = 500;

const BPF_NOEXIST: u64 = 1;

type Reference = HashMap<MapData, [u8; 4], [u64; 2]>;

pub(crate) fn measure(report: &mut Report) -> Result<()> {
    let filter = builder().ipv4_max(SINGLE).qnames_max(SINGLE).suffixes_max(SINGLE).build()?;
    let mut reference = reference()?;
    let [mut addresses, mut names, mut suffixes, mut aya] = [const { Vec::new() }; 4];
    for block in 0..SINGLE / BLOCK {
        let numbers = block * BLOCK..(block + 1) * BLOCK;
        for number in numbers.clone() {
            let rule = Rule::drop(Match::Ipv4(address(number)));
            let (time, result) = timed(|| filter.insert(rule));
            result?;
            addresses.push(time);
        }
        for number in numbers.clone() {
            let rule = Rule::drop(Match::qname(name(number)?, Qtypes::All));
            let (time, result) = timed(|| filter.insert(rule));
            result?;
            names.push(time);
        }
        for number in numbers.clone() {
            let rule = Rule::drop(Match::suffix(name(number)?, Qtypes::All));
            let (time, result) = timed(|| filter.insert(rule));
            result?;
            suffixes.push(time);
        }
        for number in numbers {
            let key = address(number).octets();
            let (time, result) = timed(|| reference.insert(key, [0; 2], BPF_NOEXIST));
            result?;
            aya.push(time);
        }
    }
    report.add("insert an address", addresses, Some(Duration::from_micros(2)));
    report.add("insert a name", names, Some(Duration::from_micros(2)));
    report.add("insert a suffix", suffixes, Some(Duration::from_micros(2)));
    report.add("aya's HashMap::insert of an address, for reference", aya, None);
    Ok(())
}

/// A hash map of the kernel for IPv4 addresses.
fn reference() -> Result<Reference> {
    let mut ebpf = EbpfLoader::new().btf(None).map_max_entries("HASH4", SINGLE).load(object::BASELINE)?;
    Ok(ebpf.take_map("HASH4").ok_or("no map HASH4 in the object")?.try_into()?)
}
