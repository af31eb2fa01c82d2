mod full;
mod log;
mod state;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use consort_proto::StoreRecord;

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn udp(text: &str) -> Address {
    Address::Udp(text.parse().expect("an address"))
}

/// Opens, writes through the thread, closes; returns the outcomes.
fn write(dir: &Path, records: Vec<StoreRecord>) -> Vec<StoreOutcome> {
    let (storage, _) = Storage::open(dir).expect("opens");
    let (out, outcomes) = mpsc::channel();
    let done = move |stored| out.send(stored).expect("the test listens");
    let handle = storage.start(Arc::new(done)).expect("a thread");
    for (token, record) in (1..).zip(records) {
        handle
            .submit(StoreRequest {
                token,
                record,
                sync: true,
            })
            .expect("there is room");
    }
    drop(handle);
    outcomes.try_iter().collect()
}

#[test]
fn records_survive_and_every_start_counts() {
    let dir = folder();
    let ceiling = |group, ceiling| StoreRecord::EpochCeiling {
        group: GroupKey(group),
        ceiling,
    };
    let outcomes = write(
        dir.path(),
        vec![
            ceiling(7, 16),
            ceiling(u64::MAX, 3),
            StoreRecord::Addresses(vec![udp("10.0.0.1:4747"), udp("10.0.0.9:1")]),
            ceiling(7, 32),
            StoreRecord::Addresses(vec![udp("[fe80::1%3]:4747")]),
        ],
    );
    let tokens: Vec<_> = outcomes
        .iter()
        .map(|o| (o.token, o.result.clone()))
        .collect();
    assert_eq!(tokens, (1..=5).map(|n| (n, Ok(()))).collect::<Vec<_>>());
    let (_, remembered) = Storage::open(dir.path()).expect("opens again");
    assert_eq!(
        remembered,
        Remembered {
            boot_counter: 2,
            epoch_ceilings: vec![(GroupKey(7), 32), (GroupKey(u64::MAX), 3)],
            addresses: vec![udp("[fe80::1%3]:4747")],
            state: vec![],
        }
    );
}

#[test]
fn a_full_queue_refuses_at_once() {
    let dir = folder();
    let (storage, _) = Storage::open(dir.path()).expect("opens");
    let (release, held) = mpsc::channel::<()>();
    let held = Mutex::new(held);
    let done = move |_| {
        let held = held.lock().expect("one caller");
        let _ = held.recv_timeout(Duration::from_secs(20));
    };
    let handle = storage.start(Arc::new(done)).expect("a thread");
    let request = |token| StoreRequest {
        token,
        record: StoreRecord::EpochCeiling {
            group: GroupKey(1),
            ceiling: token,
        },
        sync: false,
    };
    let refused = (0..1000).find_map(|token| handle.submit(request(token)).err());
    assert_eq!(
        refused.as_deref(),
        Some("256 writes are waiting for the disk")
    );
    drop(release);
}

#[test]
fn a_damaged_store_is_put_aside_and_the_counter_goes_on() {
    for damage in ["garbage", "truncated", "zeroed", "empty page", "flipped"] {
        let dir = folder();
        let records = vec![StoreRecord::EpochCeiling {
            group: GroupKey(5),
            ceiling: 64,
        }];
        write(dir.path(), records);
        let path = dir.path().join("consort.redb");
        let mut bytes = fs::read(&path).expect("the store");
        match damage {
            "garbage" => bytes = b"not a store at all".repeat(1000),
            "truncated" => bytes.truncate(bytes.len() / 3),
            "zeroed" => bytes.fill(0),
            "empty page" => bytes[4096..].fill(0),
            _ => bytes[64..].iter_mut().for_each(|b| *b = !*b),
        }
        fs::write(&path, bytes).expect("written");
        let (_, remembered) = Storage::open(dir.path()).expect(damage);
        assert_eq!(
            remembered.boot_counter, 2,
            "{damage}: the text beside it counts"
        );
        assert_eq!(remembered.epoch_ceilings, vec![], "{damage}");
        assert!(
            dir.path().join("consort.redb.corrupt-1").exists(),
            "{damage}"
        );
    }
}

#[test]
fn with_both_counters_lost_counting_jumps_ahead() {
    let dir = folder();
    for accident in 1..=2 {
        write(dir.path(), vec![]);
        fs::write(dir.path().join("consort.redb"), b"x".repeat(9000)).expect("written");
        fs::write(dir.path().join("boot_counter"), "?").expect("written");
        let (_, remembered) = Storage::open(dir.path()).expect("made anew");
        assert_eq!(remembered.boot_counter, accident * BOOT_JUMP + 1);
    }
}

#[test]
fn a_newer_store_is_left_alone() {
    let dir = folder();
    write(dir.path(), vec![]);
    let path = dir.path().join("consort.redb");
    let database = Database::create(&path).expect("opens");
    let transaction = database.begin_write().expect("a transaction");
    transaction
        .open_table(META)
        .expect("a table")
        .insert(FORMAT_KEY, 9)
        .expect("inserted");
    transaction.commit().expect("committed");
    drop(database);
    let error = Storage::open(dir.path()).expect_err("newer");
    assert!(
        matches!(error, StorageError::Newer { found: 9, .. }),
        "{error}"
    );
    assert!(path.exists());
}

#[test]
fn a_data_folder_has_one_user() {
    let dir = folder();
    let inner = dir.path().join("a/b");
    let first = DataLock::take(&inner).expect("free");
    let error = DataLock::take(&inner).expect_err("held");
    assert!(
        matches!(&error, LockError::Held(path) if *path == inner),
        "{error}"
    );
    drop(first);
    DataLock::take(&inner).expect("free again");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("written");
    let error = DataLock::take(&file.join("x")).expect_err("no folder");
    assert!(matches!(error, LockError::Io { .. }), "{error}");
}
