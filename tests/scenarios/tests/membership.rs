//! Who is a member: rejoining, clones, devices that are slow or were away, and how soon the others
//! know.

use consort_scenarios::{all, app, form, group, ms, secs, settle};
use consort_sim::scenario;

#[test]
fn a_boot_counter_restored_too_low_rejoins() {
    let name = "a_boot_counter_restored_too_low_rejoins";
    scenario(name, 6, |seed| {
        for was_removed in [false, true] {
            let mut sim = group(name, seed, 5).build();
            for node in 0..5 {
                sim.set_boot_counter(node, 700);
            }
            form(&mut sim);
            let node = 2;
            sim.crash(node);
            sim.run_for(if was_removed { secs(20) } else { ms(300) });
            sim.set_boot_counter(node, 3);
            sim.start(node);
            settle(&mut sim, &all(5), secs(6));
            sim.run_for(secs(10));
            let before = sim.sent(node).0;
            sim.run_for(secs(60));
            sim.expect(sim.all_see_all(&app(), &all(5)), "it stays a member");
            let each_second = (sim.sent(node).0 - before) / 60;
            sim.expect(each_second < 60, "no loop of renewals goes on");
        }
    });
}
