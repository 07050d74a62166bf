//! A client that asks more than it may.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use super::Result;
use crate::dns::{A, query};

/// Who floods.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 9, 1);

/// So many queries a second, evenly.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// How many in a second.
    pub per_second: u32,
    /// For how long.
    pub lasts: Duration,
}

/// When what was sent, and whether it was answered.
#[derive(Debug)]
pub struct Outcome {
    sent: Vec<Duration>,
    answered: Vec<bool>,
}

impl Flood {
    /// Floods the server. No more than 65,536 queries, which their numbers tell apart.
    ///
    /// # Errors
    ///
    /// If a socket fails, or there are more.
    pub fn run(&self, server: SocketAddr) -> Result<Outcome> {
        let socket = UdpSocket::bind((SOURCE, 0))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let pause = Duration::from_secs(1) / self.per_second;
        let mut outcome = Outcome { sent: Vec::new(), answered: Vec::new() };
        let mut message = query("www.example.", A);
        let start = Instant::now();
        while start.elapsed() < self.lasts {
            let number = u16::try_from(outcome.sent.len())?;
            message[..2].copy_from_slice(&number.to_be_bytes());
            let next = start + pause * u32::from(number);
            wait(next);
            outcome.sent.push(start.elapsed());
            outcome.answered.push(false);
            socket.send(&message)?;
            outcome.receive(&socket)?;
        }
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            outcome.receive(&socket)?;
        }
        Ok(outcome)
    }
}

/// Sleeps as long as it is worth it: what is shorter takes turns of a loop.
fn wait(until: Instant) {
    loop {
        match until.checked_duration_since(Instant::now()) {
            Some(left) if left > Duration::from_micros(300) => {
                std::thread::sleep(left.saturating_sub(Duration::from_micros(200)));
            }
            Some(_) => std::hint::spin_loop(),
            None => return,
        }
    }
}

impl Outcome {
    fn receive(&mut self, socket: &UdpSocket) -> Result<()> {
        let mut message = [0; 512];
        loop {
            match socket.recv(&mut message) {
                Ok(_) => {
                    let number = u16::from_be_bytes([message[0], message[1]]);
                    if let Some(answered) = self.answered.get_mut(usize::from(number)) {
                        *answered = true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How many queries there were.
    pub fn sent(&self) -> usize {
        self.sent.len()
    }

    /// How many of them were answered.
    pub fn answered(&self) -> usize {
        self.answered.iter().filter(|answered| **answered).count()
    }

    /// When the query with this number was sent.
    pub fn sent_at(&self, number: usize) -> Option<Duration> {
        self.sent.get(number).copied()
    }

    /// When the first query was sent that was not answered, nor was the one after it.
    pub fn first_lost(&self) -> Option<Duration> {
        let place = self.answered.windows(2).position(|pair| !pair[0] && !pair[1])?;
        self.sent_at(place)
    }

    /// How many times it was answered after a pause like that.
    pub fn bursts(&self, pause: Duration) -> usize {
        let times: Vec<_> = self.answers().collect();
        let again = times.windows(2).filter(|pair| pair[1].saturating_sub(pair[0]) > pause).count();
        again + usize::from(!times.is_empty())
    }

    /// How many answers there were in each span of time.
    pub fn answers_per(&self, span: Duration) -> Vec<u32> {
        let place = |time: Duration| usize::try_from(time.as_nanos() / span.as_nanos()).unwrap_or(usize::MAX);
        let spans = self.sent.last().map_or(0, |last| place(*last) + 1);
        let mut counts = vec![0; spans];
        for time in self.answers() {
            if let Some(count) = counts.get_mut(place(time)) {
                *count += 1;
            }
        }
        counts
    }

    fn answers(&self) -> impl Iterator<Item = Duration> {
        self.sent.iter().zip(&self.answered).filter(|(_, answered)| **answered).map(|(time, _)| *time)
    }
}
