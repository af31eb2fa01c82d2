//! A relay between two devices that keeps what passes, as someone on the network could.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// More than this is passed on, but not kept.
const KEPT_MAX: usize = 4096;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Passes datagrams between two devices; each knows the other by an address of the relay.
#[derive(Debug)]
pub struct Relay {
    sides: [Arc<UdpSocket>; 2],
    devices: [SocketAddr; 2],
    kept: [Arc<Mutex<Vec<Vec<u8>>>>; 2],
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// A relay between devices at these addresses.
    ///
    /// # Panics
    /// The system gives no socket.
    #[must_use]
    pub fn new(devices: [SocketAddr; 2]) -> Self {
        let side = || Arc::new(UdpSocket::bind(("127.0.0.1", 0)).expect("a free port"));
        let mut relay = Self {
            sides: [side(), side()],
            devices,
            kept: Default::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for from in [0, 1] {
            let thread = relay.pass(from);
            relay.threads.push(thread);
        }
        relay
    }

    /// The address under which device 0 (or 1) finds the other one.
    ///
    /// # Panics
    /// There is no such device.
    #[must_use]
    pub fn address_for(&self, device: usize) -> String {
        self.sides[device]
            .local_addr()
            .expect("it is bound")
            .to_string()
    }

    /// What was sent to device 0 (or 1) so far.
    #[must_use]
    pub fn kept_for(&self, device: usize) -> Vec<Vec<u8>> {
        self.kept[device]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Sends a datagram to device 0 (or 1) from the address that stands for the other one.
    ///
    /// # Panics
    /// The system refuses.
    pub fn inject(&self, device: usize, datagram: &[u8]) {
        self.sides[device]
            .send_to(datagram, self.devices[device])
            .expect("it is sent");
    }

    /// What device `from` sends arrives at its side and leaves from the other side.
    fn pass(&self, from: usize) -> JoinHandle<()> {
        let to = 1 - from;
        let (inward, outward) = (Arc::clone(&self.sides[from]), Arc::clone(&self.sides[to]));
        let (source, target) = (self.devices[from], self.devices[to]);
        let (kept, stop) = (Arc::clone(&self.kept[to]), Arc::clone(&self.stop));
        inward
            .set_read_timeout(Some(LOOK_EVERY))
            .expect("a timeout above zero");
        std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stop.load(Ordering::Acquire) {
                let Ok((length, sender)) = inward.recv_from(&mut buffer) else {
                    continue;
                };
                if sender != source {
                    continue;
                }
                let datagram = &buffer[..length];
                // The other device may not run yet.
                let _ = outward.send_to(datagram, target);
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < KEPT_MAX {
                    kept.push(datagram.to_vec());
                }
            }
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // It holds nothing that its panic could spoil.
            let _ = thread.join();
        }
    }
}
