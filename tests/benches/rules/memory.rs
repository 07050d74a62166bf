//! What rules take of memory: in maps of the kernel, and in this process in addition. Every figure is from a process of
//! its own, or it would depend on what came before.

use std::{
    env, fs,
    net::{Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd as _, AsRawFd as _},
    process::Command,
};

use aya::{EbpfLoader, maps::MapInfo, programs::loaded_programs};
use ebpf_filter::{BpfFilter, Match, Qtypes, Rule};
use ebpf_prog::{layout::maps, object};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::{
    common::{Result, judge, table},
    rules::{address, builder, name, suffix},
};

const COUNTS: [u32; 3] = [1024, 100_000, 1_000_000];

/// Everything, as a multiple of what is in the kernel.
const BAR: f64 = 1.5;

const NAMES: [&str; 3] = [maps::NAMES, maps::BLOCKS, maps::SIEVE];

/// Kinds of rules, and the maps that hold them; for reference the maps that the kernel brings along.
const KINDS: [(&str, &[&str]); 8] = [
    ("IPv4 address", &[maps::IPV4]),
    ("IPv6 address", &[maps::IPV6]),
    ("IPv4 range", &[maps::RANGES4]),
    ("IPv6 range", &[maps::RANGES6]),
    ("name", &NAMES),
    ("suffix", &NAMES),
    ("entry of a hash map, 4 and 16 bytes", &["HASH4"]),
    ("entry of an LPM trie, 4 and 16 bytes", &["TRIE4"]),
];

/// Bytes.
struct Taken {
    kernel: u64,
    anonymous: u64,
    page_tables: u64,
}

pub(crate) fn measure() -> Result<String> {
    let mut rows = Vec::new();
    for (kind, _) in KINDS {
        for count in COUNTS {
            let Taken { kernel, anonymous, page_tables } = in_process(kind, count)?;
            let each = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(count));
            let ratio = (kernel + anonymous + page_tables) as f64 / kernel as f64;
            let ours = !kind.starts_with("entry");
            rows.push([
                kind.to_owned(),
                count.to_string(),
                each(kernel),
                if ours { each(anonymous) } else { String::new() },
                if ours { each(page_tables) } else { String::new() },
                if ours { format!("{ratio:.2}") } else { String::new() },
                if ours { judge(ratio, Some(BAR)).to_owned() } else { String::new() },
            ]);
        }
    }
    let header = [
        "bytes for each",
        "rules",
        "maps in the kernel",
        "this process",
        "page tables",
        "all / maps",
        "≤ 1.5",
    ];
    Ok(table(header, &rows))
}

/// Has a process of its own measure.
fn in_process(kind: &str, count: u32) -> Result<Taken> {
    let output = Command::new(env::current_exe()?)
        .args(["--bench", "--memory", kind, "--count", &count.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let figures: Vec<u64> = String::from_utf8(output.stdout)?
        .split_whitespace()
        .map(str::parse)
        .collect::<std::result::Result<_, _>>()?;
    let [kernel, anonymous, page_tables] = figures[..] else { return Err("not three figures".into()) };
    Ok(Taken { kernel, anonymous, page_tables })
}

/// Measures in this process, and prints bytes: in the kernel, in this process, and page tables.
pub(crate) fn child(kind: &str, count: u32) -> Result<()> {
    let (_, names) = KINDS.into_iter().find(|(name, _)| *name == kind).ok_or("no such kind")?;
    if let [map @ ("HASH4" | "TRIE4")] = names {
        println!("{} 0 0", reference(map, count)?);
        return Ok(());
    }
    // What is allocated once.
    drop(room(kind, 1)?);
    let before = [anonymous()?, page_tables()?];
    let filter = room(kind, count)?;
    for number in 0..count {
        filter.insert(rule(kind, number)?)?;
    }
    let after = [anonymous()?, page_tables()?];
    let kernel = of_filter(&filter, names)?;
    println!("{kernel} {} {}", after[0].saturating_sub(before[0]), after[1].saturating_sub(before[1]));
    Ok(())
}

/// A filter with room for rules of one kind.
fn room(kind: &str, count: u32) -> Result<BpfFilter> {
    let none = builder().ipv4_max(0).ipv6_max(0).ranges4_max(0).ranges6_max(0).qnames_max(0).suffixes_max(0);
    let builder = match kind {
        "IPv4 address" => none.ipv4_max(count),
        "IPv6 address" => none.ipv6_max(count),
        "IPv4 range" => none.ranges4_max(count),
        "IPv6 range" => none.ranges6_max(count),
        "name" => none.qnames_max(count),
        _ => none.suffixes_max(count),
    };
    Ok(builder.build()?)
}

fn rule(kind: &str, number: u32) -> Result<Rule> {
    Ok(Rule::drop(match kind {
        "IPv4 address" => Match::Ipv4(address(number)),
        "IPv6 address" => Match::Ipv6(ipv6(number)),
        "IPv4 range" => Match::range(Ipv4Net::new(Ipv4Addr::from_bits(number << 8), 24)?),
        "IPv6 range" => Match::range(Ipv6Net::new(ipv6(number), 64)?),
        "name" => Match::qname(name(number)?, Qtypes::All),
        _ => return suffix(number),
    }))
}

/// One of every /64.
fn ipv6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number) << 64 | 1)
}

/// What the kernel takes for these maps of a filter: as it says itself, and as it should.
fn of_filter(filter: &BpfFilter, names: &[&str]) -> Result<u64> {
    let status = filter.status();
    let of_ours = |id| status.programs.iter().any(|program| program.id == id);
    let program = loaded_programs().filter_map(std::result::Result::ok).find(|program| of_ours(program.id()));
    let ids = program.ok_or("the kernel has no program of the filter")?.map_ids()?.unwrap_or_default();
    let mut sum = 0;
    for id in ids {
        let map = MapInfo::from_id(id)?;
        if !map.name_as_str().is_some_and(|name| names.contains(&name)) {
            continue;
        }
        let said = memlock(map.fd()?.as_fd().as_raw_fd())?;
        // An array that can be mapped: its elements and its head have pages of their own.
        let bytes = u64::from(map.max_entries()) * u64::from(map.value_size());
        let page = field("/proc/self/smaps", "KernelPageSize:")? * 1024;
        let computed = bytes.next_multiple_of(page) + page;
        if said != computed {
            return Err(format!("the kernel says {said} bytes, but it should be {computed}").into());
        }
        sum += said;
    }
    Ok(sum)
}

/// The same for a full map that the kernel brings along.
fn reference(name: &str, count: u32) -> Result<u64> {
    use aya::maps::{HashMap, lpm_trie};

    let mut ebpf = EbpfLoader::new().btf(None).map_max_entries(name, count).load(object::BASELINE)?;
    let map = ebpf.map_mut(name).ok_or("no such map in the object")?;
    let value = [0_u64; 2];
    if name == "HASH4" {
        let mut map: HashMap<_, [u8; 4], [u64; 2]> = map.try_into()?;
        for number in 0..count {
            map.insert(address(number).octets(), value, 0)?;
        }
    } else {
        let mut map: lpm_trie::LpmTrie<_, [u8; 4], [u64; 2]> = map.try_into()?;
        for number in 0..count {
            map.insert(&lpm_trie::Key::new(24, (number << 8).to_be_bytes()), value, 0)?;
        }
    }
    let mut maps = aya::maps::loaded_maps().filter_map(std::result::Result::ok);
    let map = maps.find(|map| map.name_as_str() == Some(name) && map.max_entries() == count);
    memlock(map.ok_or("the kernel has no such map")?.fd()?.as_fd().as_raw_fd())
}

fn memlock(fd: i32) -> Result<u64> {
    field(&format!("/proc/self/fdinfo/{fd}"), "memlock:")
}

fn anonymous() -> Result<u64> {
    Ok(field("/proc/self/smaps_rollup", "Anonymous:")? * 1024)
}

fn page_tables() -> Result<u64> {
    Ok(field("/proc/self/status", "VmPTE:")? * 1024)
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(value.ok_or_else(|| format!("no {name} in {path}"))?.parse()?)
}
