//! Rotation of the group's secret: steps that reach everybody, whatever happens between them.

use consort_proto::{KeyState, RotateError, RotateStep};
use consort_scenarios::{all, app, form, group, ms, secs};
use consort_sim::{Link, Sim, scenario};

/// The states of a device's secrets, oldest first.
fn states(sim: &Sim, node: usize) -> Vec<(u32, KeyState)> {
    let secrets = sim.secrets(node);
    secrets.iter().map(|e| (e.epoch, e.state)).collect()
}

/// Whether all of these devices hold the same secrets in the same states, and know it of one
/// another.
fn same_secrets(sim: &Sim, nodes: &[usize]) -> bool {
    let first = states(sim, nodes[0]);
    let others = nodes.len() - 1;
    nodes
        .iter()
        .all(|node| states(sim, *node) == first && sim.acknowledged(*node) >= others)
}

fn expect_same(sim: &mut Sim, nodes: &[usize], what: &str) {
    let what = format!("all hold the same secrets: {what}");
    sim.expect_within(secs(20), &what, |sim| same_secrets(sim, nodes));
}

/// All three steps, each on another device, each as soon as all have heard of the one before.
fn rotate_all(sim: &mut Sim, nodes: &[usize]) {
    let steps = [RotateStep::Install, RotateStep::Use, RotateStep::Remove];
    for (i, step) in steps.into_iter().enumerate() {
        let operator = nodes[i % nodes.len()];
        if let Err(error) = sim.rotate(operator, step, false) {
            sim.fail(&format!("{step:?} on n{operator}: {error}"));
        }
        expect_same(sim, nodes, &format!("{step:?}"));
        sim.run_for(secs(5));
    }
}

#[test]
fn three_steps_exchange_the_secret_of_a_busy_group() {
    let name = "three_steps_exchange_the_secret_of_a_busy_group";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 10).build();
        let before = form(&mut sim);
        sim.run_for(secs(2));
        sim.start_beat(&app(), ms(50), 64);
        rotate_all(&mut sim, &all(10));
        sim.run_for(secs(140));
        sim.stop_beats();
        sim.run_for(secs(1));
        assert_eq!(states(&sim, 0), [(2, KeyState::Active)]);
        assert_eq!(sim.agree(&app(), &all(10)), Some(before), "same leader");
        assert_eq!(sim.promotions(&app()), 0, "nobody else led meanwhile");
        assert_eq!(
            sim.messages(&app()),
            sim.stats().deliveries_expected,
            "nothing was lost"
        );
        assert_eq!(sim.stats().beats_busy, 0);
    });
}

#[test]
fn three_steps_under_loss() {
    let name = "three_steps_under_loss";
    scenario(name, 5, |seed| {
        let link = Link::wireless().with_loss(0.2);
        let mut sim = group(name, seed, 10).link(link).build();
        let before = form(&mut sim);
        rotate_all(&mut sim, &all(10));
        sim.run_for(secs(150));
        assert_eq!(states(&sim, 0), [(2, KeyState::Active)]);
        assert_eq!(sim.agree(&app(), &all(10)).map(|a| a.0), Some(before.0));
        assert_eq!(sim.promotions(&app()), 0, "nobody else led meanwhile");
    });
}

#[test]
fn steps_out_of_order_are_refused() {
    let name = "steps_out_of_order_are_refused";
    scenario(name, 1, |seed| {
        let mut sim = group(name, seed, 3).build();
        form(&mut sim);
        let mut refused = |step| sim.rotate(0, step, true).expect_err("must be refused");
        assert_eq!(refused(RotateStep::Use), RotateError::NothingStaged);
        assert_eq!(refused(RotateStep::Remove), RotateError::NothingRetiring);
        assert_eq!(refused(RotateStep::Compromised), RotateError::NoList);
    });
}
