//! What the swarm found, as scenarios of their own.

use consort_proto::PeerState;
use consort_scenarios::{all, app, form, group, ms, secs, settle};
use consort_sim::scenario;

#[test]
fn members_that_all_move_at_once_find_each_other_again() {
    let name = "members_that_all_move_at_once_find_each_other_again";
    scenario(name, 5, |seed| {
        let mut sim = group(name, seed, 6).build();
        let (leader, _) = form(&mut sim);
        let other = (leader + 1) % 6;
        // One restarts and all move while the leader sleeps: some pairs never hear each other
        // again at the old addresses, while third members hear both.
        sim.crash(other);
        sim.suspend(leader);
        sim.run_for(ms(800));
        sim.start(other);
        sim.run_for(ms(4_200));
        for node in 0..6 {
            sim.readdress(node);
        }
        sim.run_for(secs(5));
        sim.resume(leader);
        settle(&mut sim, &all(6), secs(25));
        sim.run_for(secs(25));
        sim.reset_counts();
        sim.run_for(secs(10));
        sim.expect(sim.promotions(&app()) == 0, "no one claims");
        for node in 0..6 {
            let status = sim.status(node).expect("it runs");
            let silent = status.peers.iter().find(|peer| {
                peer.state != PeerState::Member || peer.last_heard.is_none_or(|ago| ago > secs(8))
            });
            assert_eq!(
                silent.map(|peer| &peer.name),
                None,
                "n{node}\n{}",
                sim.describe()
            );
        }
    });
}
