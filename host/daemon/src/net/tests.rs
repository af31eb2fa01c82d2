use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::clock;

fn settings(listen: &[&str]) -> Network {
    Network {
        listen: listen
            .iter()
            .map(|a| a.parse().expect("an address"))
            .collect(),
        discovery_port: 0,
        multicast: false,
        broadcast: false,
        send_rate: consort_proto::SendRate::default(),
        seeds: vec![],
        interfaces: vec![],
        interfaces_denied: vec![],
    }
}

fn open(settings: &Network) -> Net {
    Net::open(settings, clock::now()).expect("opens")
}

fn to(address: SocketAddr, payload: &'static [u8]) -> Transmit {
    Transmit {
        to: Destination::Address(Address::Udp(address)),
        payload: Bytes::from_static(payload),
    }
}

/// The next datagram, waited for.
async fn next(net: &mut Net) -> Option<(Address, Vec<u8>)> {
    let wait = async {
        loop {
            if let Some(datagram) = net.receive() {
                return (datagram.from, datagram.payload.to_vec());
            }
            net.readable().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), wait)
        .await
        .ok()
}

fn first(net: &Net) -> SocketAddr {
    net.local_addresses().next().expect("a session socket")
}

#[tokio::test]
async fn datagrams_go_from_session_socket_to_session_socket() {
    let mut a = open(&settings(&["127.0.0.1:0"]));
    let mut b = open(&settings(&["127.0.0.1:0"]));
    a.send(&to(first(&b), b"hello"), clock::now());
    let (from, bytes) = next(&mut b).await.expect("arrives");
    assert_eq!((from, &bytes[..]), (Address::Udp(first(&a)), &b"hello"[..]));
    assert_eq!(a.counters().datagrams_sent, 1);
    assert_eq!(a.counters().bytes_sent, 5);
    assert_eq!(b.counters().datagrams_received, 1);
}

#[tokio::test]
async fn what_cannot_be_sent_is_counted_and_harms_nothing() {
    let mut a = open(&settings(&["127.0.0.1:0"]));
    let mut b = open(&settings(&["127.0.0.1:0"]));
    let unreachable = "[2001:db8::1]:9".parse().expect("an address");
    a.send(&to(unreachable, b"x"), clock::now());
    assert_eq!(a.counters().send_errors, 1, "there is no IPv6 socket");
    a.send(
        &to("127.0.0.1:0".parse().expect("an address"), b"x"),
        clock::now(),
    );
    assert_eq!(a.counters().send_errors, 2, "port 0 is nowhere");
    a.send(&to(first(&b), b"still works"), clock::now());
    assert_eq!(next(&mut b).await.expect("arrives").1, b"still works");
}

#[tokio::test]
async fn datagrams_longer_than_the_protocol_allows_are_dropped() {
    static LONG: [u8; MAX_DATAGRAM + 100] = [7; MAX_DATAGRAM + 100];
    let mut a = open(&settings(&["127.0.0.1:0"]));
    let mut b = open(&settings(&["127.0.0.1:0"]));
    a.send(&to(first(&b), &LONG), clock::now());
    a.send(&to(first(&b), &LONG[..MAX_DATAGRAM]), clock::now());
    let (_, bytes) = next(&mut b).await.expect("the shorter one arrives");
    assert_eq!(bytes.len(), MAX_DATAGRAM);
    assert_eq!(b.counters().oversized, 1);
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let a = open(&settings(&["127.0.0.1:0"]));
    let taken = first(&a);
    let error = Net::open(&settings(&[&taken.to_string()]), clock::now()).expect_err("in use");
    assert!(
        matches!(error, OpenNetError::AddressInUse(address) if address == taken),
        "{error}"
    );
    let strange = Net::open(&settings(&["192.0.2.1:0"]), clock::now()).expect_err("not ours");
    assert!(matches!(strange, OpenNetError::Listen { .. }), "{strange}");
    let nothing = Net::open(&settings(&[]), clock::now()).expect_err("nothing");
    assert!(matches!(nothing, OpenNetError::Nothing), "{nothing}");
}

/// The kernel's word for when a datagram arrived, of both families, where there is such a word.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_datagram_arrived_before_it_is_read() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let mut a = open(&settings(&[address]));
        let mut b = open(&settings(&[address]));
        // With the first one the distance of the clocks is found.
        for _ in 0..2 {
            a.send(&to(first(&b), b"hello"), clock::now());
            next(&mut b).await.expect("arrives");
        }
        let before = clock::now();
        a.send(&to(first(&b), b"hello"), before);
        let after = clock::now();
        std::thread::sleep(Duration::from_millis(30));
        b.readable().await;
        let received = b.receive().expect("it is there").received;
        let early = before - Duration::from_micros(2);
        let late = after + Duration::from_millis(20);
        assert!(early <= received, "{before} <= {received}");
        assert!(received <= late, "{received} <= {after} or soon after");
    }
}

#[tokio::test]
async fn both_families_get_one_port() {
    let net = open(&settings(&["127.0.0.1:0", "[::1]:0"]));
    let ports: BTreeSet<u16> = net.local_addresses().map(|a| a.port()).collect();
    assert_eq!(ports.len(), 1);
    assert_eq!(ports.first().copied(), Some(net.port()));
}

#[tokio::test]
async fn without_a_group_there_is_no_socket() {
    let mut net = Net::closed();
    assert_eq!(net.local_addresses().count(), 0);
    assert_eq!(net.port(), 0);
    assert!(net.receive().is_none());
    assert!(!net.refresh(clock::now()));
    let waiting = tokio::time::timeout(Duration::from_millis(20), net.readable()).await;
    assert!(waiting.is_err(), "nothing ever arrives");
}

#[tokio::test]
async fn sockets_bound_to_the_loopback_join_and_send_nowhere() {
    let probe = open(&settings(&["127.0.0.1:0"]));
    let mut settings = settings(&["127.0.0.1:0"]);
    settings.multicast = true;
    settings.discovery_port = first(&probe).port();
    drop(probe);
    let mut net = open(&settings);
    net.send(
        &Transmit {
            to: Destination::Everyone,
            payload: Bytes::from_static(b"beacon"),
        },
        clock::now(),
    );
    assert_eq!(net.counters(), NetCounters::default());
}

/// Two daemons on one machine hear each other's beacons by multicast, each per family that the
/// machine's interfaces carry. A machine without any such interface shows nothing.
#[tokio::test]
async fn beacons_reach_the_other_daemons_of_the_machine() {
    let port = first(&open(&settings(&["127.0.0.1:0"]))).port();
    let mut settings = settings(&["0.0.0.0:0", "[::]:0"]);
    settings.multicast = true;
    settings.discovery_port = port;
    let (mut a, mut b) = (open(&settings), open(&settings));
    if !a.survey().usable.values().any(|i| i.multicast) {
        eprintln!("skipped: this machine has no interface with multicast");
        return;
    }
    a.send(
        &Transmit {
            to: Destination::Everyone,
            payload: Bytes::from_static(b"beacon"),
        },
        clock::now(),
    );
    let sent = a.counters().datagrams_sent;
    assert!(sent > 0, "{:?}", a.counters());
    let (Address::Udp(from), bytes) = next(&mut b).await.expect("arrives");
    assert_eq!(bytes, b"beacon");
    assert_eq!(from.port(), a.port(), "it comes from the session socket");
    assert!(next(&mut a).await.is_some(), "its own sender hears it too");
}
