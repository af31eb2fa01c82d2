use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::*;

fn first() -> Keyring {
    GroupSecret::from_random(&[7; 48]).into()
}

fn states(ring: &Keyring) -> Vec<(u32, KeyState)> {
    ring.entries().map(|e| (e.epoch, e.state)).collect()
}

#[test]
fn three_steps_exchange_the_secret() {
    use KeyState::{Active, Retiring, Staged};
    let old = first();
    let installed = old.install(&[1; 32]).expect("an epoch is left");
    assert_eq!(states(&installed), [(1, Active), (2, Staged)]);
    assert_eq!(kid(&installed.active), kid(&old.active));
    let used = installed.use_staged().expect("one is staged");
    assert_eq!(states(&used), [(1, Retiring), (2, Active)]);
    assert_eq!(used.retiring().collect::<Vec<_>>(), [kid(&old.active)]);
    let removed = used.remove_retiring().expect("one is retiring");
    assert_eq!(states(&removed), [(2, Active)]);
    assert_eq!(removed.group_id(), old.group_id());
    for (ring, what) in [(&old, "before"), (&removed, "after")] {
        assert_eq!(ring.use_staged(), None, "{what}");
        assert_eq!(ring.remove_retiring(), None, "{what}");
    }
    assert_eq!(states(&removed.install(&[2; 32]).expect("left"))[1].0, 3);
}

#[test]
fn a_secret_is_known_by_the_name_that_packets_carry() {
    let ring = first().install(&[1; 32]).expect("an epoch is left");
    let kids: Vec<Kid> = ring.keys.iter().map(|key| kid(&key.mark)).collect();
    let derived: Vec<Kid> = ring.derive().iter().map(|keys| keys.kid).collect();
    assert_eq!(kids, derived);
    assert_eq!(kid(&ring.active), derived[0]);
}

#[test]
fn what_was_removed_does_not_come_back() {
    let old = first();
    let used = old
        .install(&[1; 32])
        .and_then(|ring| ring.use_staged())
        .expect("both steps");
    let removed = used.remove_retiring().expect("one is retiring");
    assert_eq!(removed.merge(&used), removed);
    assert_eq!(removed.merge(&old), removed);
    assert!(!removed.shape().lacks(&old.shape()));
    assert!(old.shape().lacks(&removed.shape()));
}

#[test]
fn a_stolen_secret_is_replaced_at_once_and_for_good() {
    let staged = first().install(&[1; 32]).expect("an epoch is left");
    let fresh = staged.replace(&[2; 32]).expect("an epoch is left");
    assert_eq!(states(&fresh), [(3, KeyState::Active)]);
    assert!(fresh.is_restricted_for(&staged.shape()));
    assert!(!fresh.is_restricted_for(&fresh.shape()));
    let used = staged.use_staged().expect("one is staged");
    assert_eq!(fresh.merge(&used), fresh);
    let next = fresh.install(&[3; 32]).expect("an epoch is left");
    assert!(!next.is_restricted_for(&fresh.shape()), "it holds that one");
    assert!(next.is_restricted_for(&staged.shape()));
}

#[test]
fn two_rotations_at_once_end_in_one_keyring() {
    let old = first();
    let one = old.install(&[1; 32]).expect("an epoch is left");
    let two = old.install(&[2; 32]).expect("an epoch is left");
    let both = one.merge(&two);
    assert_eq!(both, two.merge(&one));
    assert_eq!(states(&both)[1..].len(), 1, "one is staged");
    let one_used = one.use_staged().expect("one is staged");
    let two_used = two.use_staged().expect("one is staged");
    let both_used = one_used.merge(&two_used);
    assert_eq!(both_used, two_used.merge(&one_used));
    assert_eq!(
        states(&both_used),
        [
            (1, KeyState::Retiring),
            (2, KeyState::Retiring),
            (2, KeyState::Active)
        ]
    );
}

#[test]
fn a_secret_given_by_hand_takes_the_epoch_of_the_group() {
    let used = first()
        .install(&[1; 32])
        .and_then(|ring| ring.use_staged())
        .expect("both steps");
    let joined = Keyring::from(used.active_secret().clone());
    assert_eq!(joined.merge(&used), used);
    assert_eq!(used.merge(&joined), used);
    assert!(!used.shape().lacks(&joined.shape()));
    assert!(joined.shape().lacks(&used.shape()));
}

/// Random steps on devices that exchange keyrings at random; then all exchange with all until
/// nothing changes.
#[test]
fn whatever_was_done_where_all_end_with_one_keyring() {
    for seed in 0..300 {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut rings = vec![first(); 5];
        for _ in 0..40 {
            let at = rng.random_range(0..rings.len());
            let mut random = [0; 32];
            rng.fill_bytes(&mut random);
            let ring = &rings[at];
            let next = match rng.random_range(0..8) {
                0 => ring.install(&random),
                1 => ring.use_staged(),
                2 => ring.remove_retiring(),
                3 if rng.random_bool(0.2) => ring.replace(&random),
                _ => {
                    let from = rng.random_range(0..rings.len());
                    Some(ring.merge(&rings[from]))
                }
            };
            if let Some(next) = next {
                let shape = ring.shape();
                assert!(!next.shape().lacks(&shape), "seed {seed}: a step back");
                rings[at] = next;
            }
        }
        for _ in 0..3 {
            for at in 0..rings.len() {
                for from in 0..rings.len() {
                    let merged = rings[at].merge(&rings[from]);
                    assert_eq!(
                        merged.shape(),
                        rings[at].shape().merge(&rings[from].shape()),
                        "seed {seed}: shapes say what merging does"
                    );
                    assert!(merged.keys.len() <= KEYS_MAX, "seed {seed}");
                    rings[at] = merged;
                }
            }
        }
        for ring in &rings {
            assert_eq!(ring, &rings[0], "seed {seed}");
            let active = states(ring)
                .iter()
                .filter(|(_, state)| *state == KeyState::Active)
                .count();
            assert_eq!(active, 1, "seed {seed}");
        }
    }
}

#[test]
fn a_keyring_survives_its_text() {
    let used = first()
        .install(&[1; 32])
        .and_then(|ring| ring.use_staged())
        .and_then(|ring| ring.install(&[2; 32]))
        .expect("three steps");
    let replaced = used.replace(&[3; 32]).expect("an epoch is left");
    for ring in [first(), used, replaced] {
        assert_eq!(ring.to_text().parse(), Ok(ring));
    }
    let secret = GroupSecret::from_random(&[7; 48]);
    assert_eq!(secret.to_text().parse(), Ok(first()));
}

#[test]
fn damaged_texts_are_refused_without_repeating_them() {
    let text = first().install(&[1; 32]).expect("left").to_text();
    let refused = |text: &str| {
        let error = text.parse::<Keyring>().expect_err("must be refused");
        assert!(!error.to_string().contains(&text[70..90]), "{error}");
        error
    };
    let newer = text.replacen("keyring 1", "keyring 2", 1);
    assert_eq!(refused(&newer), ParseKeyringError::Newer(2));
    assert_eq!(
        refused(&text.replacen("floor", "flaw", 1)),
        ParseKeyringError::Line(2)
    );
    assert_eq!(
        refused(&text.replacen("staged", "stale", 1)),
        ParseKeyringError::Line(4)
    );
    assert_eq!(
        refused(&text.replacen("staged", "active", 1)),
        ParseKeyringError::Line(4)
    );
    let none = refused(&text.replacen("active", "staged", 1));
    assert!(none.to_string().contains("active"), "{none}");
    let cut = refused(&text[..text.len() - 10]);
    assert!(matches!(cut, ParseKeyringError::Secret(_)), "{cut}");
}
