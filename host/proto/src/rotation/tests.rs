use rand::SeedableRng;

use super::*;
use crate::id::PublicKey;
use crate::keyring::KeyState;
use crate::keys::GroupSecret;

const NOW: Time = Time::from_micros(1_000_000);

fn device(byte: u8) -> DeviceId {
    PublicKey::new([byte; 32])
        .expect("no point of low order")
        .device_id()
}

fn node(byte: u8) -> NodeId {
    device(byte).node()
}

struct Bench {
    rotation: Rotation,
    rng: ChaCha12Rng,
}

impl Bench {
    fn new() -> Self {
        let ring = Keyring::from(GroupSecret::from_random(&[7; 48]));
        let mut bench = Self {
            rotation: Rotation::new(ring, None),
            rng: ChaCha12Rng::seed_from_u64(1),
        };
        for peer in [2, 3] {
            let (rotation, rng) = (&mut bench.rotation, &mut bench.rng);
            rotation.connected(NOW, rng, node(peer), device(peer));
        }
        bench.outputs();
        bench
    }

    fn step(&mut self, step: RotateStep, force: bool) -> Vec<Output> {
        let present = [(node(2), device(2)), (node(3), device(3))];
        self.rotation
            .handle_command(&mut self.rng, step, force, &present);
        self.outputs()
    }

    fn refused(&mut self, step: RotateStep) -> RotateError {
        match self.step(step, false).pop() {
            Some(Output::Outcome(_, Err(error))) => error,
            other => panic!("{step:?} must be refused: {other:?}"),
        }
    }

    fn stored(&mut self, result: Result<(), String>) -> Vec<Output> {
        self.rotation.handle_stored(NOW, &mut self.rng, result);
        self.outputs()
    }

    fn told(&mut self, from: NodeId, shape: Shape, failed: bool) -> Vec<Output> {
        let state = KeyringState {
            shape,
            failed,
            reply: false,
        };
        self.rotation.handle_state(NOW, &mut self.rng, from, state);
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Output> {
        core::iter::from_fn(|| self.rotation.poll()).collect()
    }

    fn shape(&self) -> Shape {
        self.rotation.ring().shape()
    }

    fn states(&self) -> Vec<KeyState> {
        self.rotation.ring().entries().map(|e| e.state).collect()
    }
}

#[test]
fn nothing_counts_before_it_is_stored() {
    let mut bench = Bench::new();
    let before = bench.shape();
    let asked = bench.step(RotateStep::Install, false);
    assert!(matches!(asked[..], [Output::Store(_)]), "{asked:?}");
    assert_eq!(bench.shape(), before);
    assert_eq!(bench.refused(RotateStep::Install), RotateError::Busy);
    let failed = bench.stored(Err("full".to_owned()));
    assert!(
        matches!(&failed[..], [Output::Outcome(_, Err(RotateError::NotStored(why)))] if why == "full"),
        "{failed:?}"
    );
    assert_eq!(bench.shape(), before);
    assert!(bench.rotation.has_failed());
    bench.step(RotateStep::Install, false);
    bench.stored(Ok(()));
    assert_eq!(bench.states(), [KeyState::Active, KeyState::Staged]);
    assert!(!bench.rotation.has_failed());
}

#[test]
fn an_offer_is_acknowledged_once_it_is_stored() {
    let mut bench = Bench::new();
    let offered = bench.rotation.ring().install(&[1; 32]).expect("left");
    let offer = KeyringOffer::new(&offered);
    bench
        .rotation
        .handle_offer(NOW, &mut bench.rng, node(2), &offer);
    let asked = bench.outputs();
    assert!(matches!(asked[..], [Output::Store(_)]), "{asked:?}");
    let failed = bench.stored(Err("full".to_owned()));
    assert!(
        matches!(&failed[..], [Output::Tell(to, state)] if *to == node(2) && state.failed),
        "{failed:?}"
    );
    bench
        .rotation
        .handle_offer(NOW, &mut bench.rng, node(2), &offer);
    let asked = bench.outputs();
    assert!(
        matches!(&asked[..], [Output::Tell(_, state)] if state.failed),
        "no further write so soon: {asked:?}"
    );
    let later = NOW + RETRY_WRITE;
    bench
        .rotation
        .handle_offer(later, &mut bench.rng, node(2), &offer);
    assert!(matches!(bench.outputs()[..], [Output::Store(_)]));
    let told = bench.stored(Ok(()));
    let acknowledged = |output: &Output| {
        matches!(output, Output::Tell(to, state)
            if *to == node(2) && !state.failed && state.shape == offered.shape())
    };
    assert!(told.iter().any(acknowledged), "{told:?}");
}

#[test]
fn a_secret_is_used_once_all_present_hold_it_and_removed_once_all_use_the_next() {
    let mut bench = Bench::new();
    assert_eq!(bench.refused(RotateStep::Use), RotateError::NothingStaged);
    assert_eq!(
        bench.refused(RotateStep::Remove),
        RotateError::NothingRetiring
    );
    let old = bench.shape();
    bench.told(node(2), old.clone(), false);
    bench.told(node(3), old, false);
    bench.step(RotateStep::Install, false);
    bench.stored(Ok(()));
    assert_eq!(bench.refused(RotateStep::Install), RotateError::Staged(2));
    bench.told(node(2), bench.shape(), false);
    assert_eq!(
        bench.refused(RotateStep::Use),
        RotateError::NotHeld(vec![device(3)])
    );
    bench.told(node(3), bench.shape(), false);
    bench.step(RotateStep::Use, false);
    bench.stored(Ok(()));
    assert_eq!(bench.states(), [KeyState::Retiring, KeyState::Active]);
    bench.told(node(3), bench.shape(), false);
    assert_eq!(
        bench.refused(RotateStep::Remove),
        RotateError::NotUsed(vec![device(2)])
    );
    let forced = bench.step(RotateStep::Remove, true);
    assert!(matches!(forced[..], [Output::Store(_)]), "{forced:?}");
}

#[test]
fn a_restricted_secret_goes_to_listed_devices_only() {
    let mut bench = Bench::new();
    let old = bench.shape();
    assert_eq!(bench.refused(RotateStep::Compromised), RotateError::NoList);
    bench.rotation.set_listed(Some(BTreeSet::new()));
    assert_eq!(bench.refused(RotateStep::Compromised), RotateError::NoList);
    bench.rotation.set_listed(Some([device(2)].into()));
    bench.told(node(2), old.clone(), false);
    bench.told(node(3), old.clone(), false);
    bench.step(RotateStep::Compromised, false);
    let outputs = bench.stored(Ok(()));
    let offered: Vec<NodeId> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Offer(to, _) => Some(*to),
            _ => None,
        })
        .collect();
    assert_eq!(offered, [node(2)]);
    let cut = |output: &Output| {
        let cut = Some(Spared::Listed);
        matches!(output, Output::Adopted(change) if change.cut == cut)
    };
    assert!(outputs.iter().any(cut), "{outputs:?}");
    for later in 1..20 {
        bench.told(node(3), old.clone(), false);
        let at = NOW + Duration::from_secs(later);
        bench.rotation.handle_timeout(at, &mut bench.rng);
        let outputs = bench.outputs();
        let leaks = |output: &Output| matches!(output, Output::Offer(to, _) if *to == node(3));
        assert!(!outputs.iter().any(leaks), "{outputs:?}");
    }
}

#[test]
fn a_keyring_far_ahead_or_of_nonsense_is_refused() {
    let mut bench = Bench::new();
    let before = bench.shape();
    let (mut parts, active, floor) = bench.rotation.ring().parts();
    parts[0].epoch = EPOCH_JUMP_MAX + 2;
    let far = Keyring::from_parts(parts, active, floor).expect("in order");
    let offer = KeyringOffer::new(&far);
    bench
        .rotation
        .handle_offer(NOW, &mut bench.rng, node(2), &offer);
    let other = Keyring::from(GroupSecret::from_random(&[8; 48]));
    let offer = KeyringOffer::new(&other);
    bench
        .rotation
        .handle_offer(NOW, &mut bench.rng, node(2), &offer);
    assert!(bench.outputs().is_empty());
    assert_eq!(bench.shape(), before);
}

#[test]
fn offers_are_repeated_until_the_other_has_told_that_it_holds_all() {
    let mut bench = Bench::new();
    let old = bench.shape();
    bench.told(node(2), old, false);
    bench.step(RotateStep::Install, false);
    bench.stored(Ok(()));
    let mut offers = 0;
    let mut now = NOW;
    for _ in 0..5 {
        now = now.max(bench.rotation.next_timeout());
        bench.rotation.handle_timeout(now, &mut bench.rng);
        let outputs = bench.outputs();
        offers += outputs
            .iter()
            .filter(|output| matches!(output, Output::Offer(to, _) if *to == node(2)))
            .count();
    }
    assert!(offers >= 2, "{offers}");
    bench.told(node(2), bench.shape(), false);
    bench.told(node(3), bench.shape(), false);
    assert_eq!(bench.rotation.standing(node(2)), PeerKeyring::Current);
    // Timers may be early, and find nothing to do.
    bench
        .rotation
        .handle_timeout(now + SPREAD * 2, &mut bench.rng);
    assert!(bench.outputs().is_empty());
    assert_eq!(bench.rotation.next_timeout(), Time::MAX, "all is said");
}
