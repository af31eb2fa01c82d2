use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

use bytes::Bytes;
use consort_proto::{StoreRecord, StoreRequest};
use redb::backends::FileBackend;
use redb::{Builder, StorageBackend};

use super::super::state_file::{FORMAT, GROUP_BYTES_MAX, GROUPS_MAX, open_file};
use super::super::state_keeper::RETRY_AFTER;
use super::super::*;
use super::log::Log;

/// Keys and values of groups, as tests compare them.
pub(super) type Contents = BTreeMap<u64, BTreeMap<String, String>>;

pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn change(key: &str, value: Option<&str>) -> (Bytes, Option<Bytes>) {
    let copy = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    (copy(key), value.map(copy))
}

fn contents(states: &[StoredState]) -> Contents {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let groups = states.iter().map(|state| {
        let records = state.records.iter();
        let records = records.map(|(key, value)| (text(key), text(value)));
        (state.group.0, records.collect())
    });
    groups.collect()
}

pub(super) fn expected(groups: &[(u64, &[(&str, &str)])]) -> Contents {
    let groups = groups.iter().map(|(group, records)| {
        let records = records.iter();
        let records = records.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        (*group, records.collect())
    });
    groups.collect()
}

pub(super) fn open(path: &Path) -> (StateKeeper, Contents) {
    open_on(path, Box::new(open_file))
}

pub(super) fn open_on(path: &Path, opener: state_file::Opener) -> (StateKeeper, Contents) {
    let (keeper, states) = StateKeeper::open(path, opener);
    let contents = contents(&states);
    (keeper, contents)
}

/// One request at this time.
pub(super) fn keep(
    keeper: &mut StateKeeper,
    now: Instant,
    group: u64,
    key: &str,
    value: Option<&str>,
) -> Result<(), String> {
    let mut changes = changes::Changes::default();
    changes.add(GroupKey(group), [change(key, value)]);
    keeper.keep(changes, now);
    keeper.outcome(GroupKey(group))
}

pub(super) fn put(
    keeper: &mut StateKeeper,
    group: u64,
    key: &str,
    value: &str,
) -> Result<(), String> {
    keep(keeper, Instant::now(), group, key, Some(value))
}

#[test]
fn kept_state_comes_back_and_has_a_file_of_its_own() {
    let dir = folder();
    let (storage, _) = Storage::open(dir.path()).expect("opens");
    let (out, outcomes) = mpsc::channel();
    let done = Arc::new(move |stored| out.send(stored).expect("the test listens"));
    let handle = storage.start(done).expect("threads");
    let request = |token, group, changes| StoreRequest {
        token,
        record: StoreRecord::State {
            group: GroupKey(group),
            changes,
        },
        sync: true,
    };
    let requests = [
        request(1, 7, vec![change("a", Some("1")), change("b", Some("2"))]),
        request(2, 9, vec![change("a", Some("other"))]),
        request(
            3,
            7,
            vec![
                change("a", None),
                change("c", Some("")),
                change("none", None),
            ],
        ),
        request(4, u64::MAX, vec![]),
    ];
    for request in requests {
        handle.submit(request).expect("there is room");
    }
    drop(handle);
    let outcomes: Vec<_> = outcomes.try_iter().map(|o| (o.token, o.result)).collect();
    assert_eq!(outcomes, (1..=4).map(|n| (n, Ok(()))).collect::<Vec<_>>());
    let (_, remembered) = Storage::open(dir.path()).expect("opens again");
    assert_eq!(remembered.boot_counter, 2);
    assert_eq!(
        contents(&remembered.state),
        expected(&[
            (7, &[("b", "2"), ("c", "")]),
            (9, &[("a", "other")]),
            (u64::MAX, &[])
        ])
    );
}

#[test]
fn a_device_that_keeps_nothing_has_no_file() {
    let dir = folder();
    let (storage, _) = Storage::open(dir.path()).expect("opens");
    drop(storage.start(Arc::new(|_| {})).expect("threads"));
    assert!(!dir.path().join("state.redb").exists());
}

#[test]
fn damage_is_put_aside_and_never_read() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let (mut keeper, _) = open(&path);
    for key in 0..50 {
        put(&mut keeper, 7, &format!("key {key}"), &"value".repeat(40)).expect("kept");
    }
    drop(keeper);
    let whole = fs::read(&path).expect("the file");
    let (_, sound) = open(&path);
    assert_eq!(sound[&7].len(), 50);
    let (mut random, mut put_aside) = (Random(1), 0);
    for damage in 0..60 {
        let mut bytes = whole.clone();
        match damage {
            0 => bytes = b"not a store at all".repeat(1000),
            1 => bytes.truncate(bytes.len() / 3),
            2 => bytes.fill(0),
            3 => bytes[4096..].fill(0),
            4 => bytes
                .iter_mut()
                .for_each(|byte| *byte = random.below(256) as u8),
            // A flipped byte anywhere, most of them where something is.
            _ => {
                let used = 4096 * (1 + random.below(12));
                let at = used + random.below(4096);
                bytes[at] ^= 1 << random.below(8);
            }
        }
        let dir = folder();
        let path = dir.path().join("state.redb");
        fs::write(&path, bytes).expect("written");
        let (mut keeper, found) = open(&path);
        if path.with_extension("redb.corrupt-1").exists() {
            put_aside += 1;
            assert_eq!(found, Contents::new(), "damage {damage}");
        } else {
            // The flipped byte belongs to nothing, or redb went back to an earlier write.
            let sound = sound[&7].iter();
            let sound: Vec<_> = sound.collect();
            let found = found.get(&7).into_iter().flatten();
            assert!(
                found.clone().all(|record| sound.contains(&record)),
                "damage {damage}"
            );
            assert!(damage > 4 && found.count() >= 49, "damage {damage}");
        }
        put(&mut keeper, 7, "goes", "on").expect("a new file");
        drop(keeper);
        let (_, again) = open(&path);
        assert_eq!(again[&7]["goes"], "on", "damage {damage}");
    }
    println!("{put_aside} of 60 damaged files were put aside");
    assert!(put_aside >= 10, "{put_aside}");
}

#[test]
fn damaged_files_put_aside_are_bounded() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    for _ in 0..12 {
        fs::write(&path, b"x".repeat(9000)).expect("written");
        let (_, found) = open(&path);
        assert_eq!(found, Contents::new());
    }
    let files = fs::read_dir(dir.path()).expect("the folder").count();
    assert_eq!(files, 8);
}

#[test]
fn a_file_of_a_newer_program_is_put_aside_whole() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let (mut keeper, _) = open(&path);
    put(&mut keeper, 7, "a", "1").expect("kept");
    drop(keeper);
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let set_format = |path: &Path, format: u64| {
        let database = open_file(path).expect("opens");
        let transaction = database.begin_write().expect("a transaction");
        let mut table = transaction.open_table(meta).expect("a table");
        table.insert("format", format).expect("inserted");
        drop(table);
        transaction.commit().expect("committed");
    };
    set_format(&path, FORMAT + 1);
    let log = Log::default();
    let (mut keeper, found) = log.during(|| open(&path));
    assert_eq!(found, Contents::new());
    let said = log.text();
    assert!(
        said.contains("WARN") && said.contains("has format 2, this program reads up to 1"),
        "{said}"
    );
    put(&mut keeper, 7, "b", "2").expect("kept in a new file");
    let aside = dir.path().join("state.redb.newer-1");
    set_format(&aside, FORMAT);
    let (_, found) = open(&aside);
    assert_eq!(found, expected(&[(7, &[("a", "1")])]));
}

#[test]
fn groups_beyond_the_bound_lose_the_one_away_the_longest() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let (mut keeper, _) = open(&path);
    put(&mut keeper, 1000, "old", "1").expect("kept");
    drop(keeper);
    let (mut keeper, _) = open(&path);
    for group in 0..GROUPS_MAX as u64 {
        put(&mut keeper, group, "a", "1").expect("kept");
    }
    drop(keeper);
    let (mut keeper, found) = open(&path);
    let groups: Vec<u64> = found.keys().copied().collect();
    assert_eq!(groups, (0..GROUPS_MAX as u64).collect::<Vec<_>>());
    let refused = (2000..2100).find(|group| put(&mut keeper, *group, "a", "1").is_err());
    assert_eq!(refused, Some(2064), "a run adds as many again");
    put(&mut keeper, 1, "b", "2").expect("the others go on");
    drop(keeper);
    let (_, found) = open(&path);
    assert_eq!(found.len(), GROUPS_MAX);
    assert_eq!(found[&1]["b"], "2", "it was written last");
}

#[test]
fn a_group_that_is_too_large_stays_as_it_was() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let (mut keeper, _) = open(&path);
    put(&mut keeper, 7, "a", "1").expect("kept");
    let mut changes = changes::Changes::default();
    let large = Bytes::from(vec![0; usize::try_from(GROUP_BYTES_MAX).expect("it fits")]);
    changes.add(GroupKey(7), [(Bytes::from_static(b"large"), Some(large))]);
    changes.add(GroupKey(8), [change("b", Some("2"))]);
    keeper.keep(changes, Instant::now());
    let refused = keeper.outcome(GroupKey(7)).expect_err("too large");
    assert!(
        refused.contains("41943047 bytes are more than 41943040"),
        "{refused}"
    );
    assert_eq!(keeper.outcome(GroupKey(8)), Ok(()));
    // A later request may build upon the one that was refused.
    put(&mut keeper, 7, "c", "3").expect_err("until the next start");
    drop(keeper);
    let (mut keeper, found) = open(&path);
    assert_eq!(found, expected(&[(7, &[("a", "1")]), (8, &[("b", "2")])]));
    put(&mut keeper, 7, "c", "3").expect("kept again");
}

#[test]
fn what_could_not_be_read_at_the_start_is_not_mixed_with_what_came_later() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let (mut keeper, _) = open(&path);
    put(&mut keeper, 7, "before", "1").expect("kept");
    drop(keeper);
    let disk = Disk::default();
    disk.set_unreadable(true);
    let (mut keeper, found) = open_on(&path, disk.opener());
    assert_eq!(found, Contents::new());
    disk.set_unreadable(false);
    let later = Instant::now() + RETRY_AFTER * 2;
    keep(&mut keeper, later, 7, "after", Some("2")).expect("kept");
    drop(keeper);
    let (_, found) = open(&path);
    assert_eq!(found, expected(&[(7, &[("after", "2")])]));
    let (_, aside) = open(&dir.path().join("state.redb.corrupt-1"));
    assert_eq!(aside, expected(&[(7, &[("before", "1")])]));
}

#[test]
fn a_file_that_was_swapped_under_a_running_device_is_not_written() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let disk = Disk::default();
    let (mut keeper, _) = open_on(&path, disk.opener());
    let now = Instant::now();
    keep(&mut keeper, now, 7, "a", Some("1")).expect("kept");
    disk.set_full(true);
    keep(&mut keeper, now, 7, "b", Some("2")).expect_err("full");
    disk.set_full(false);
    fs::remove_file(&path).expect("removed");
    let (mut other, _) = open(&path);
    put(&mut other, 9, "of another", "1").expect("kept");
    drop(other);
    let later = now + RETRY_AFTER;
    keep(&mut keeper, later, 7, "c", Some("3")).expect_err("part of the state would be lacking");
    keep(&mut keeper, later + RETRY_AFTER, 7, "d", Some("4")).expect_err("until the next start");
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_any_point() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let disk = Disk::default();
    disk.record();
    let (mut keeper, _) = open_on(&path, disk.opener());
    // What holds after each request.
    let mut snapshots = vec![Contents::new()];
    for round in 0..12_u64 {
        let mut contents = snapshots.last().expect("the first").clone();
        let group = contents.entry(round % 3).or_default();
        let (key, value) = (
            format!("key {}", round % 5),
            "v".repeat(500 * round as usize),
        );
        group.insert(key.clone(), value.clone());
        put(&mut keeper, round % 3, &key, &value).expect("kept");
        disk.acknowledge();
        snapshots.push(contents);
    }
    drop(keeper);
    let ops = disk.recorded();
    let mut random = Random(3);
    let mut images = 0;
    for end in 0..=ops.len() {
        for _ in 0..2 {
            images += 1;
            let (image, acknowledged) = crash(&ops[..end], &mut random);
            let dir = folder();
            let path = dir.path().join("state.redb");
            fs::write(&path, image).expect("written");
            let (_, found) = open(&path);
            let place = snapshots.iter().rposition(|snapshot| *snapshot == found);
            let place = place.expect("one of the states there were");
            assert!(
                place >= acknowledged,
                "crash after {end} of {} steps: {acknowledged} acknowledged, {place} found",
                ops.len()
            );
        }
    }
    println!("{} steps on the disk, {images} crashes", ops.len());
}

/// What the disk may hold after a crash: all that was synchronised, and any part of what came
/// after; also how many requests were acknowledged before.
fn crash(ops: &[Op], random: &mut Random) -> (Vec<u8>, usize) {
    let synced = ops
        .iter()
        .rposition(|op| matches!(op, Op::Sync))
        .unwrap_or(0);
    let (mut image, mut acknowledged) = (Vec::new(), 0);
    for (place, op) in ops.iter().enumerate() {
        let lost = place > synced && random.below(2) == 0;
        match op {
            Op::Sync => {}
            Op::Acknowledged => acknowledged += 1,
            Op::SetLen(_) | Op::Write(..) if lost => {}
            Op::SetLen(len) => image.resize(*len, 0),
            Op::Write(at, bytes) => {
                if image.len() < at + bytes.len() {
                    image.resize(at + bytes.len(), 0);
                }
                image[*at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }
    (image, acknowledged)
}

/// A generator that gives the same numbers each time (xorshift64*, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(usize, Vec<u8>),
    SetLen(usize),
    Sync,
    Acknowledged,
}

/// A disk that can be full or unreadable, and can tell what was done to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Condition>>);

#[derive(Debug, Default)]
struct Condition {
    full: bool,
    unreadable: bool,
    ops: Option<Vec<Op>>,
}

impl Disk {
    pub(super) fn opener(&self) -> state_file::Opener {
        let disk = self.clone();
        Box::new(move |path| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let file = FileBackend::new(options.open(path)?)?;
            let disk = disk.clone();
            Builder::new().create_with_backend(OnDisk { file, disk })
        })
    }

    fn with<T>(&self, what: impl FnOnce(&mut Condition) -> T) -> T {
        what(&mut self.0.lock().expect("no test panics with it"))
    }

    pub(super) fn set_full(&self, full: bool) {
        self.with(|condition| condition.full = full);
    }

    fn set_unreadable(&self, unreadable: bool) {
        self.with(|condition| condition.unreadable = unreadable);
    }

    fn record(&self) {
        self.with(|condition| condition.ops = Some(Vec::new()));
    }

    fn acknowledge(&self) {
        self.note(Op::Acknowledged);
    }

    fn recorded(&self) -> Vec<Op> {
        self.with(|condition| condition.ops.take().unwrap_or_default())
    }

    fn note(&self, op: Op) {
        self.with(|condition| {
            condition
                .ops
                .iter_mut()
                .for_each(|ops| ops.push(op.clone()))
        });
    }

    fn room(&self) -> io::Result<()> {
        if self.with(|condition| condition.full) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "no space left on device",
            ));
        }
        Ok(())
    }
}

#[derive(Debug)]
struct OnDisk {
    file: FileBackend,
    disk: Disk,
}

impl StorageBackend for OnDisk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if self.disk.with(|condition| condition.unreadable) {
            return Err(io::Error::other("input/output error"));
        }
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.room()?;
        self.disk
            .note(Op::SetLen(usize::try_from(len).expect("small")));
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.note(Op::Sync);
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.room()?;
        let at = usize::try_from(offset).expect("small");
        self.disk.note(Op::Write(at, data.to_vec()));
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}
