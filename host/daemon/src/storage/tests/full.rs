//! Disks that are full, for a while.

use std::time::Instant;

use super::super::state_keeper::{RETRY_AFTER, RETRY_MAX};
use super::super::*;
use super::log::Log;
use super::state::{Contents, Disk, expected, folder, keep, open, open_on, put};

#[test]
fn a_full_disk_is_said_once_and_nothing_is_lost_when_it_has_room_again() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let disk = Disk::default();
    let (mut keeper, _) = open_on(&path, disk.opener());
    let log = Log::default();
    let mut now = Instant::now();
    log.during(|| {
        keep(&mut keeper, now, 7, "a", Some("1")).expect("kept");
        disk.set_full(true);
        for round in 0..20 {
            let key = format!("while full {round}");
            let refused = keep(&mut keeper, now, 7, &key, Some("2")).expect_err("full");
            assert!(refused.contains("no space left"), "{refused}");
            now += RETRY_AFTER / 2;
        }
        keep(&mut keeper, now, 7, "a", None).expect_err("full");
        assert!(keeper.retry_at().is_some());
        disk.set_full(false);
        keep(&mut keeper, now + RETRY_MAX, 7, "after", Some("3")).expect("kept again");
        assert_eq!(keeper.retry_at(), None);
    });
    drop(keeper);
    let said = log.text();
    assert_eq!(said.matches("WARN").count(), 1, "{said}");
    assert_eq!(said.matches("kept again").count(), 1, "{said}");
    assert!(!said.contains("ERROR"), "{said}");
    let (_, found) = open(&path);
    assert_eq!(found[&7].len(), 21, "{found:?}");
    assert!(!found[&7].contains_key("a"));
}

#[test]
fn a_full_disk_is_tried_less_and_less_often() {
    let dir = folder();
    let disk = Disk::default();
    let (mut keeper, _) = open_on(&dir.path().join("state.redb"), disk.opener());
    let start = Instant::now();
    keep(&mut keeper, start, 7, "a", Some("1")).expect("kept");
    disk.set_full(true);
    keep(&mut keeper, start, 7, "a", Some("2")).expect_err("full");
    let mut pauses = Vec::new();
    let mut now = start;
    for _ in 0..6 {
        let retry = keeper.retry_at().expect("something waits");
        pauses.push((retry - now).as_secs());
        now = retry;
        keeper.keep(changes::Changes::default(), now);
    }
    assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
    disk.set_full(false);
    keeper.keep(changes::Changes::default(), now + RETRY_MAX);
    assert_eq!(keeper.retry_at(), None, "it is kept");
    disk.set_full(true);
    keep(&mut keeper, now, 7, "a", Some("3")).expect_err("full again");
    assert_eq!(
        keeper.retry_at(),
        Some(now + RETRY_AFTER),
        "from the beginning"
    );
}

#[test]
fn a_file_that_a_full_disk_leaves_damaged_is_put_aside() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let disk = Disk::default();
    let (mut keeper, _) = open_on(&path, disk.opener());
    let now = Instant::now();
    keep(&mut keeper, now, 7, "a", Some("1")).expect("kept");
    disk.set_full(true);
    keep(&mut keeper, now, 7, "b", Some("2")).expect_err("full");
    let damaged = b"half a write".repeat(2000);
    fs::write(&path, &damaged).expect("written");
    disk.set_full(false);
    let log = Log::default();
    let later = now + RETRY_MAX;
    log.during(|| {
        keep(&mut keeper, later, 7, "c", Some("3")).expect_err("damaged");
        keep(&mut keeper, later + RETRY_MAX, 7, "d", Some("4")).expect_err("until the next start");
    });
    let said = log.text();
    assert_eq!(said.matches("WARN").count(), 1, "{said}");
    assert!(
        said.contains("put aside") && said.contains("from its peers"),
        "{said}"
    );
    let aside = fs::read(dir.path().join("state.redb.corrupt-1")).expect("put aside");
    assert_eq!(aside, damaged);
    drop(keeper);
    let (mut keeper, found) = open(&path);
    assert_eq!(found, Contents::new());
    put(&mut keeper, 7, "e", "5").expect("a new file");
}

/// What tells the process that [`a_file_that_may_not_grow_stays_whole`] starts what to do.
const LIMITED: &str = "CONSORT_TEST_LIMITED_FOLDER";

/// The system's own refusal, in a process whose files may not grow beyond what is there.
#[test]
fn a_file_that_may_not_grow_stays_whole() {
    if let Some(folder) = std::env::var_os(LIMITED) {
        return write_until_refused(Path::new(&folder));
    }
    let dir = folder();
    let path = dir.path().join("state.redb");
    let (mut keeper, _) = open(&path);
    put(&mut keeper, 7, "first", "1").expect("kept");
    drop(keeper);
    let blocks = fs::metadata(&path).expect("the file").len().div_ceil(512);
    let name = "storage::tests::full::a_file_that_may_not_grow_stays_whole";
    let script = "trap '' XFSZ; ulimit -f \"$0\"; exec \"$@\"";
    let program = std::env::current_exe().expect("this program");
    let output = std::process::Command::new("sh")
        .args(["-c", script, &blocks.to_string()])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .env(LIMITED, dir.path())
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let kept = text.lines().find_map(|line| line.strip_prefix("kept "));
    let kept: usize = kept.and_then(|kept| kept.parse().ok()).expect("a number");
    // With room again, what was acknowledged is there, and it goes on.
    let (mut keeper, found) = open(&path);
    assert_eq!(found[&7].len(), kept + 1, "{kept} were acknowledged");
    put(&mut keeper, 7, "after", "2").expect("kept");
    assert!(!dir.path().join("state.redb.corrupt-1").exists());
}

fn write_until_refused(folder: &Path) {
    let (mut keeper, found) = open(&folder.join("state.redb"));
    assert_eq!(found[&7].len(), 1);
    let log = Log::default();
    let start = Instant::now();
    let value = "v".repeat(100_000);
    let mut write = |place: usize| {
        let key = format!("large {place}");
        // Late enough for another attempt each time.
        let now = start + RETRY_MAX * u32::try_from(place).expect("small");
        keep(&mut keeper, now, 7, &key, Some(&value))
    };
    let kept = log.during(|| {
        let refused = (0..400).find(|place| write(*place).is_err());
        let refused = refused.expect("the file may not grow");
        for place in refused..refused + 20 {
            write(place).expect_err("no room yet");
        }
        refused
    });
    let said = log.text();
    assert_eq!(said.matches("WARN").count(), 1, "{said}");
    assert!(said.contains("not kept for now"), "{said}");
    println!("\nkept {kept}");
}

#[test]
fn a_disk_that_is_full_at_the_start_is_no_reason_not_to_start() {
    let dir = folder();
    let path = dir.path().join("state.redb");
    let disk = Disk::default();
    disk.set_full(true);
    let (mut keeper, found) = open_on(&path, disk.opener());
    assert_eq!(found, Contents::new());
    let now = Instant::now();
    keep(&mut keeper, now, 7, "a", Some("1")).expect_err("full");
    disk.set_full(false);
    keep(&mut keeper, now + RETRY_AFTER * 2, 7, "b", Some("2")).expect("kept");
    drop(keeper);
    let (_, found) = open(&path);
    assert_eq!(found, expected(&[(7, &[("a", "1"), ("b", "2")])]));
    assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 1);
}
