//! The steps that an operator takes on one device.

use rand::Rng;
use rand_chacha::ChaCha12Rng;

use super::{Cause, Output, Rotation};
use crate::event::{RotateError, RotateStep};
use crate::id::{DeviceId, NodeId};
use crate::keyring::KeyState;
use crate::mutant::{self, Mutant};

impl Rotation {
    /// Takes a step, or says at once why not. `present` are the members; `force` passes over those
    /// that are not ready for it.
    pub(crate) fn handle_command(
        &mut self,
        rng: &mut ChaCha12Rng,
        step: RotateStep,
        force: bool,
        present: &[(NodeId, DeviceId)],
    ) {
        if let Err(error) = self.begin(rng, step, force, present) {
            self.outputs.push_back(Output::Outcome(step, Err(error)));
        }
    }

    fn begin(
        &mut self,
        rng: &mut ChaCha12Rng,
        step: RotateStep,
        force: bool,
        present: &[(NodeId, DeviceId)],
    ) -> Result<(), RotateError> {
        if self.writing.is_some() {
            return Err(RotateError::Busy);
        }
        let mut random = zeroize::Zeroizing::new([0; 32]);
        let next = match step {
            RotateStep::Install => {
                let staged = self.ring.entries().find(|e| e.state == KeyState::Staged);
                if let Some(staged) = staged.filter(|_| !force) {
                    return Err(RotateError::Staged(staged.epoch));
                }
                rng.fill_bytes(&mut *random);
                self.ring.install(&random).ok_or(RotateError::UsedUp)?
            }
            RotateStep::Use => {
                let next = self.ring.use_staged().ok_or(RotateError::NothingStaged)?;
                let mark = next.shape().active.mark;
                let without = self.those_without(present, |shape| shape.holds(&mark));
                if !without.is_empty() && !force && !mutant::is(Mutant::UseUnready) {
                    return Err(RotateError::NotHeld(without));
                }
                next
            }
            RotateStep::Remove => {
                let next = self.ring.remove_retiring();
                let next = next.ok_or(RotateError::NothingRetiring)?;
                let active = self.shape.active;
                let without = self.those_without(present, |shape| shape.active >= active);
                if !without.is_empty() && !force && !mutant::is(Mutant::RemoveUnready) {
                    return Err(RotateError::NotUsed(without));
                }
                next
            }
            RotateStep::Compromised => {
                let unlisted = self.listed.as_ref().is_none_or(|listed| listed.is_empty());
                if unlisted && !mutant::is(Mutant::CompromisedUnlisted) {
                    return Err(RotateError::NoList);
                }
                rng.fill_bytes(&mut *random);
                self.ring.replace(&random).ok_or(RotateError::UsedUp)?
            }
        };
        self.write(next, Cause::Operator(step));
        Ok(())
    }

    fn those_without(
        &self,
        present: &[(NodeId, DeviceId)],
        is_ready: impl Fn(&crate::keyring::Shape) -> bool,
    ) -> Vec<DeviceId> {
        let ready = |node: &NodeId| {
            let shape = self.peers.get(node).and_then(|peer| peer.shape.as_ref());
            shape.is_some_and(&is_ready)
        };
        let without = present.iter().filter(|(node, _)| !ready(node));
        without.map(|(_, device)| *device).collect()
    }
}
