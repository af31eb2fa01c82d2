//! Each kind by itself.

use super::net::*;
use crate::state::{Origin, Scope};

#[test]
fn a_push_reaches_all_and_a_comparison_the_rest() {
    let mut net = Net::new(3, 1);
    let now = net.now;
    net.elect(0);
    net.replicas[0]
        .write(now, &put(Scope::Leader, "a", "1"))
        .unwrap();
    net.replicas[1]
        .write(now, &put(Scope::Device, "b", "2"))
        .unwrap();
    net.replicas[1]
        .write(now, &put(Scope::Shared, "c", "3"))
        .unwrap();
    net.replicas[2].write(now, &add("d", 4)).unwrap();
    net.replicas[1].write(now, &add("d", 5)).unwrap();
    for i in 0..3 {
        assert!(net.replicas[i].has_unpushed());
        net.push(i);
        assert!(!net.replicas[i].has_unpushed());
    }
    net.assert_equal();
    assert_eq!(
        value(&net.replicas[2], now, Origin::Leader, "a").unwrap(),
        "1"
    );
    let second = Origin::Device(device(1));
    assert_eq!(value(&net.replicas[0], now, second, "b").unwrap(), "2");
    assert_eq!(
        value(&net.replicas[0], now, Origin::Shared, "c").unwrap(),
        "3"
    );
    assert_eq!(
        value(&net.replicas[0], now, Origin::Counter, "d").unwrap(),
        "9"
    );
    net.restart(2);
    assert_eq!(net.settle(), 1);
    net.assert_equal();
}
