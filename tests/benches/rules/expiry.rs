//! How soon packets pass once the rule that drops them has ended.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use ebpf_filter::{Match, Rule};

use crate::{common::Result, report::Report, rules::builder};

const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const LIFE: Duration = Duration::from_millis(50);

pub(crate) fn measure(report: &mut Report, repeat: u16) -> Result<()> {
    let filter = builder().build()?;
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    server.set_nonblocking(true)?;
    filter.attach(&server)?;
    let client = UdpSocket::bind((SOURCE, 0))?;
    client.connect(server.local_addr()?)?;
    let (mut late, mut pauses) = (Vec::new(), Vec::new());
    for _ in 0..repeat {
        let before = Instant::now();
        filter.insert(Rule::drop(Match::Ipv4(SOURCE)).expires_in(LIFE))?;
        let after = Instant::now();
        // It ends between these two and as much later.
        let (mut sent, mut pause) = (Instant::now(), Duration::ZERO);
        loop {
            let last = sent;
            sent = Instant::now();
            pause = pause.max(sent - last);
            client.send(&[0; 20])?;
            match server.recv(&mut [0; 20]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                received => {
                    received?;
                    break;
                }
            }
        }
        if Instant::now() < before + LIFE {
            return Err("a packet has passed before the end".into());
        }
        late.push(sent.saturating_duration_since(before + LIFE));
        pauses.push(pause.max(after - before));
    }
    report.add("from the end of a rule to the first packet that passes", late, None);
    report.add("longest pause between two packets then, for reference", pauses, None);
    Ok(())
}
