//! What forged sources cost, each of which sends one packet. Memory is measured in a process for each contestant.

use std::{env, fs, hint::black_box, process::Command};

use crate::{
    common::{Result, table},
    contestants::{Contestant, Dashmap, Hashed, Ours},
    report::each,
};

const SOURCES: u32 = 4_000_000;

/// How many sources there is room for, where room is limited.
const ROOM: usize = 1 << 19;

pub(crate) fn measure() -> Result<String> {
    eprintln!("{SOURCES} forged sources");
    let rows: Vec<_> =
        [Ours::NAME, Hashed::NAME, Dashmap::NAME].into_iter().map(row).collect::<Result<_>>()?;
    Ok(table(["4000000 forged sources", "ns for each", "MiB more"], &rows))
}

fn row(contestant: &str) -> Result<[String; 3]> {
    let output = Command::new(env::current_exe()?).args(["--bench", "--flood", contestant]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let output = String::from_utf8(output.stdout)?;
    let (time, memory) = output.trim().split_once(' ').ok_or("not two figures")?;
    Ok([contestant, time, memory].map(str::to_owned))
}

/// Prints nanoseconds for a source, and how many MiB the process has more than before.
pub(crate) fn child(contestant: &str) -> Result<()> {
    match contestant {
        Ours::NAME => run::<Ours>(),
        Hashed::NAME => run::<Hashed>(),
        Dashmap::NAME => run::<Dashmap>(),
        _ => Err("no such contestant".into()),
    }
}

fn run<C: Contestant>() -> Result<()> {
    let before = resident()?;
    let contestant = C::new(ROOM)?;
    let time = each(SOURCES as usize, || {
        (0..SOURCES).for_each(|number| contestant.observe(black_box(&C::key(number))));
    });
    let memory = resident()?.saturating_sub(before);
    println!("{time:.1} {:.1}", memory as f64 / f64::from(1 << 20));
    Ok(())
}

/// Bytes of this process in memory.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
