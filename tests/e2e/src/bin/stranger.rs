//! Someone else on the network, for the tests: hears what passes, and sends what it likes.
//!
//! - `stranger capture FILE MILLIS`: keeps what passes through this namespace as UDP over IPv4.
//! - `stranger replay FILE TARGET`: sends each kept datagram to TARGET, as it was.
//! - `stranger flood FILE TARGET KIND RATE MILLIS`: sends RATE datagrams a second; KIND is
//!   `garbage` (noise that looks like data packets), `inits` (Inits with the group's `kid` and
//!   noise after it) or `copies` (kept Inits, as they were). Prints how many it sent.
//!
//! It holds no secret of any group: all it knows of one, it took from the network.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddrV4, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, io};

use socket2::{Domain, Protocol, Socket, Type};

/// `ETH_P_ALL`, in network byte order as packet sockets want it: a bridge takes what it forwards
/// before sockets of a single protocol see it.
const EVERYTHING: i32 = 0x0003_u16.to_be() as i32;
const UDP: u8 = 17;
/// The first byte of Inits and of beacons; the group's `kid` follows at the fifth and second byte.
const INIT: [u8; 2] = [0x12, 0x13];
const BEACON: u8 = 0x11;
const DATA: u8 = 0x16;
const KEPT_MAX: usize = 20_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["capture", file, millis] => capture(file, duration(millis)),
        ["replay", file, target] => replay(file, target),
        ["flood", file, target, kind, rate, millis] => {
            flood(file, target, kind, number(rate), duration(millis))
        }
        _ => Err(io::Error::other("unknown arguments; see the source")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stranger: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

fn duration(text: &str) -> Duration {
    Duration::from_millis(number(text))
}

/// Keeps the payloads of all UDP datagrams that pass, each once although it passes two ports.
fn capture(file: &str, lasting: Duration) -> io::Result<()> {
    let mut socket = Socket::new(
        Domain::PACKET,
        Type::DGRAM,
        Some(Protocol::from(EVERYTHING)),
    )?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let end = Instant::now() + lasting;
    let mut buffer = [0; 2048];
    // The test waits for this line: what comes later is heard.
    println!("listening");
    io::stdout().flush()?;
    while Instant::now() < end && kept.len() < KEPT_MAX {
        let Ok(length) = socket.read(&mut buffer) else {
            continue;
        };
        let Some(payload) = udp_payload(&buffer[..length]) else {
            continue;
        };
        if !kept.iter().rev().take(64).any(|known| known == payload) {
            kept.push(payload.to_vec());
        }
    }
    let mut bytes = Vec::new();
    for payload in &kept {
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload);
    }
    fs::write(file, bytes)?;
    println!("kept {}", kept.len());
    Ok(())
}

/// The payload of an IPv4 packet that carries UDP (RFC 791, RFC 768).
fn udp_payload(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    if first >> 4 != 4 || *packet.get(9)? != UDP {
        return None;
    }
    let length = packet.get(header + 4..header + 6)?;
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    packet.get(header + 8..header + length)
}

fn kept(file: &str) -> io::Result<Vec<Vec<u8>>> {
    let bytes = fs::read(file)?;
    let mut rest = bytes.as_slice();
    let mut kept = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length));
        let (payload, after) = after
            .split_at_checked(length)
            .ok_or_else(|| io::Error::other("the file ends within a datagram"))?;
        kept.push(payload.to_vec());
        rest = after;
    }
    Ok(kept)
}

fn replay(file: &str, target: &str) -> io::Result<()> {
    let (socket, target) = socket_to(target)?;
    let kept = kept(file)?;
    for payload in &kept {
        socket.send_to(payload, target)?;
        std::thread::sleep(Duration::from_micros(100));
    }
    println!("sent {}", kept.len());
    Ok(())
}

fn flood(file: &str, target: &str, kind: &str, rate: u64, lasting: Duration) -> io::Result<()> {
    let (socket, target) = socket_to(target)?;
    let mut ammunition = ammunition(kind, &kept(file)?)?;
    let start = Instant::now();
    let (mut sent, mut refused) = (0_u64, 0_u64);
    while start.elapsed() < lasting {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        for _ in (sent + refused)..due {
            match socket.send_to(ammunition.next(), target) {
                Ok(_) => sent += 1,
                Err(_) => refused += 1,
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("sent {sent} refused {refused}");
    Ok(())
}

fn socket_to(target: &str) -> io::Result<(UdpSocket, SocketAddrV4)> {
    let target = target.parse().map_err(io::Error::other)?;
    Ok((UdpSocket::bind(("0.0.0.0", 0))?, target))
}

/// What a flood sends, one after the other.
struct Ammunition {
    datagrams: Vec<Vec<u8>>,
    at: usize,
    /// Where each begins to be noise; beyond the end for exact copies.
    noise_from: usize,
    noise: u64,
}

fn ammunition(kind: &str, kept: &[Vec<u8>]) -> io::Result<Ammunition> {
    let inits = || {
        kept.iter()
            .filter(|d| INIT.contains(&d[0]) && d.len() == 160)
    };
    let (datagrams, noise_from): (Vec<Vec<u8>>, usize) = match kind {
        "garbage" => (vec![[vec![DATA], vec![0; 999]].concat()], 1),
        "inits" => {
            let beacon = kept.iter().find(|d| d[0] == BEACON && d.len() == 117);
            let beacon = beacon.ok_or_else(|| io::Error::other("no beacon was kept"))?;
            let kid = &beacon[1..5];
            let init = [&[INIT[0], 1, 2, 3], kid, &[0; 152]].concat();
            (vec![init], 8)
        }
        "copies" => (inits().cloned().collect(), usize::MAX),
        other => return Err(io::Error::other(format!("no kind of flood: {other}"))),
    };
    if datagrams.is_empty() {
        return Err(io::Error::other("nothing of that kind was kept"));
    }
    Ok(Ammunition {
        datagrams,
        at: 0,
        noise_from,
        noise: 0x9e37_79b9_7f4a_7c15,
    })
}

impl Ammunition {
    fn next(&mut self) -> &[u8] {
        self.at = (self.at + 1) % self.datagrams.len();
        let datagram = &mut self.datagrams[self.at];
        for bytes in datagram.iter_mut().skip(self.noise_from) {
            // xorshift, Marsaglia 2003.
            self.noise ^= self.noise << 13;
            self.noise ^= self.noise >> 7;
            self.noise ^= self.noise << 17;
            *bytes = self.noise as u8;
        }
        datagram
    }
}
