//! Rotation of the group's secret: an operator's steps on one device, and what all hold.

use core::time::Duration;

use consort_proto::{Command, KeyEntry, Keyring, PeerKeyring, RotateError, RotateStep};

use super::Sim;
use crate::device::Input;

/// How long a device may take to store a keyring.
const STEP_MAX: Duration = Duration::from_secs(2);

impl Sim {
    /// An operator takes a step on a device; the active secret's epoch once it is stored there.
    ///
    /// # Errors
    /// The device refuses the step.
    ///
    /// # Panics
    /// The device does not answer within two seconds.
    pub fn rotate(
        &mut self,
        node: usize,
        step: RotateStep,
        force: bool,
    ) -> Result<u32, RotateError> {
        self.begin_rotate(node, step, force);
        self.expect_within(STEP_MAX, "a step of a rotation has an outcome", |sim| {
            sim.devices[node].rotated.is_some()
        });
        let outcome = self.devices[node].rotated.take();
        outcome.expect("there is one").1
    }

    /// An operator takes a step on a device. Returns before anything is stored.
    pub fn begin_rotate(&mut self, node: usize, step: RotateStep, force: bool) {
        self.note(&format!(
            "n{node} is told to rotate: {step:?}, force {force}"
        ));
        self.devices[node].rotated = None;
        self.input(node, Input::Command(Command::Rotate { step, force }));
    }

    /// The group's secrets that are in force on a device, oldest first; none if it is down.
    #[must_use]
    pub fn secrets(&self, node: usize) -> Vec<KeyEntry> {
        let keyring = self.status(node).and_then(|status| status.keyring);
        keyring.map_or_else(Vec::new, |keyring| keyring.entries)
    }

    /// The whole keyring that a device would start with now.
    #[must_use]
    pub fn stored_keyring(&self, node: usize) -> Option<Keyring> {
        let device = &self.devices[node];
        let given = device.config.group.clone().map(Keyring::from);
        device.disk.keyring().or(given)
    }

    /// Whether two devices hold a secret that lets them talk to each other.
    pub(super) fn share_secret(&self, a: usize, b: usize) -> bool {
        let (one, other) = (&self.devices[a], &self.devices[b]);
        if one.disk.keyring().is_none() && other.disk.keyring().is_none() {
            return one.config.group.is_some() && one.config.group == other.config.group;
        }
        let rings = self.stored_keyring(a).zip(self.stored_keyring(b));
        rings.is_some_and(|(one, other)| one.shares_secret_with(&other))
    }

    /// Gives a device that is down a keyring by hand.
    pub fn give_keyring(&mut self, node: usize, keyring: Keyring) {
        self.note(&format!("n{node} is given {keyring:?}"));
        self.devices[node].disk.set_keyring(keyring);
    }

    /// How many other devices a device knows to hold all secrets that it holds.
    #[must_use]
    pub fn acknowledged(&self, node: usize) -> usize {
        let peers = self
            .status(node)
            .map_or_else(Vec::new, |status| status.peers);
        let current = peers
            .iter()
            .filter(|peer| peer.keyring == PeerKeyring::Current);
        current.count()
    }
}
