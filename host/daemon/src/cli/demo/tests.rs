//! The demonstration over stand-ins for the daemon: shell scripts that log as the heartbeat plugin
//! does. They show that the parent reads, kills, counts and clears away.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::*;

/// Says who leads and what is sent, once a second-tenth, until standard input ends. `device-1`
/// leads, and `device-2` after it; the leader's messages go to the others over a file.
const DEVICE: &str = r#"#!/bin/sh
dir=$(dirname "$3"); root=$(dirname "$dir"); name=$(basename "$dir")
echo $$ > "$dir/pid"; echo $$ > "@PIDS@/$name"
say() { printf '{"level":"INFO","plugin":"heartbeat","message":"%s"}\n' "$1" >&2; }
id() { sed -n "${1#device-}p" "@PIDS@/ids"; }
exec 3<&0
( cat <&3 >/dev/null; kill $$ ) 2>/dev/null &
while [ ! -e "$root/device-1/pid" ] || [ ! -e "@PIDS@/ids" ]; do sleep 0.02; done
leader=device-1; term=1; n=0; heard=0
view() {
  if [ $name = $leader ]; then say "promoted leader term=$term"
  else say "following $(id $leader) term=$term"; fi
}
view
while :; do
  sleep 0.1
  if [ $leader = device-1 ] && ! kill -0 $(cat "$root/device-1/pid") 2>/dev/null; then
    say "lost leader"; leader=device-2; term=2; n=0; heard=0; view
  fi
  if [ $name = $leader ]; then
    n=$((n+1)); say "broadcast n=$n term=$term"; echo $n > "$root/bus-$term"
  fi
  last=$(cat "$root/bus-$term" 2>/dev/null || echo 0)
  while [ $heard -lt ${last:-0} ]; do
    heard=$((heard+1)); say "heard n=$heard term=$term from=$(id $leader) at=0"
  done
done
"#;

struct Stand {
    folder: tempfile::TempDir,
    program: PathBuf,
    plugins: PathBuf,
}

impl Stand {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let pids = folder.path().to_str().expect("text");
        let program = folder.path().join("program");
        fs::write(&program, script.replace("@PIDS@", pids)).expect("written");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("set");
        let plugins = folder.path().join("plugins");
        fs::create_dir(&plugins).expect("made");
        fs::write(plugins.join("heartbeat.wasm"), "").expect("written");
        Self {
            folder,
            program,
            plugins,
        }
    }

    fn fleet(&self, nodes: usize) -> (Fleet, PathBuf) {
        let (fleet, plugins) =
            Fleet::prepare(nodes, &Plugins::Copied(&self.plugins)).expect("prepared");
        assert_eq!(plugins, ["heartbeat"]);
        let ids: Vec<String> = fleet.ids().iter().map(ToString::to_string).collect();
        fs::write(self.folder.path().join("ids"), ids.join("\n") + "\n").expect("written");
        let root = fleet.root().to_owned();
        (fleet, root)
    }

    async fn show(&self, args: &Args, fleet: Fleet) -> Result<Outcome, DemoError> {
        let narrator = Narrator::new(fleet.names(), true);
        show(args, &self.program, fleet, narrator, Stop::new()?).await
    }

    fn assert_nothing_is_left(&self, nodes: usize, root: &Path) {
        assert!(!root.exists(), "{} is left", root.display());
        for device in 1..=nodes {
            let pid = fs::read_to_string(self.folder.path().join(format!("device-{device}")));
            let pid = pid.expect("it ran").trim().parse().expect("a number");
            assert_eq!(
                kill(Pid::from_raw(pid), None),
                Err(Errno::ESRCH),
                "device-{device} is left"
            );
        }
    }
}

fn args(nodes: u16, duration: Duration, kill_leader: bool) -> Args {
    Args {
        nodes,
        duration,
        kill_leader,
        json: true,
        plugins: None,
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(future)
}

#[test]
fn a_group_is_shown_and_cleared_away() {
    let stand = Stand::new(DEVICE);
    let (fleet, root) = stand.fleet(3);
    let args = args(3, Duration::from_secs(4), true);
    let second = fleet.ids()[1];
    let outcome = block_on(stand.show(&args, fleet)).expect("shown");
    let summary = &outcome.summary;
    assert_eq!(summary.nodes, 3);
    assert_eq!(summary.leader, Some(second.to_string()), "{summary:?}");
    assert_eq!(
        (summary.term, summary.promotions),
        (Some(2), 2),
        "{summary:?}"
    );
    assert!(summary.broadcasts >= 6, "{summary:?}");
    assert_eq!(summary.duplicates, 0, "{summary:?}");
    assert!(
        summary.deliveries_expected <= 3 * summary.broadcasts,
        "{summary:?}"
    );
    // The killed device may have missed its last message, and another may have read late.
    assert!(
        summary.deliveries + 4 >= summary.deliveries_expected,
        "{summary:?}"
    );
    assert!(
        summary.failover_ms.is_some_and(|millis| millis < 2000),
        "{summary:?}"
    );
    assert!(summary.cold_start_ms.is_some(), "{summary:?}");
    outcome.judge(&args).expect("as it should be");
    stand.assert_nothing_is_left(3, &root);
}

#[test]
fn a_device_that_ends_is_reported_with_its_last_words() {
    let script = "#!/bin/sh\necho $$ > \"@PIDS@/$(basename $(dirname $3))\"\n\
                  case $3 in */device-2/*) sleep 0.3; echo 'no room' >&2; exit 4;; esac\n\
                  exec cat >/dev/null\n";
    let stand = Stand::new(script);
    let (fleet, root) = stand.fleet(2);
    let args = args(2, Duration::from_secs(20), false);
    let error = block_on(stand.show(&args, fleet)).expect_err("a device ended");
    let text = error.to_string();
    assert!(
        text.contains("device-2") && text.contains("exit status: 4"),
        "{text}"
    );
    assert!(text.contains("no room"), "{text}");
    stand.assert_nothing_is_left(2, &root);
}

#[test]
fn the_devices_share_their_compiled_code() {
    let stand = Stand::new(DEVICE);
    let (_fleet, root) = stand.fleet(3);
    let cache = |n: usize| root.join(format!("device-{n}/data/cache"));
    let folders = (1..=3).map(|n| cache(n).canonicalize().expect("it is there"));
    let shared = root.canonicalize().expect("it is there").join("cache");
    assert!(folders.into_iter().all(|folder| folder == shared));
}

#[test]
fn devices_that_do_not_stop_are_killed() {
    let script = "#!/bin/sh\necho $$ > \"@PIDS@/$(basename $(dirname $3))\"\n\
                  trap '' TERM INT HUP\nexec sleep 60\n";
    let stand = Stand::new(script);
    let (fleet, root) = stand.fleet(2);
    let args = args(2, Duration::from_secs(1), false);
    let outcome = block_on(stand.show(&args, fleet)).expect("shown");
    assert_eq!(outcome.summary.cold_start_ms, None);
    let unmet = outcome.judge(&args).expect_err("there was no leader");
    assert_eq!(unmet.exit_code(), ExitCode::ExpectationNotMet);
    stand.assert_nothing_is_left(2, &root);
}

#[test]
fn a_fleet_that_is_dropped_takes_its_processes_along() {
    let stand =
        Stand::new("#!/bin/sh\necho $$ > \"@PIDS@/$(basename $(dirname $3))\"\nexec sleep 60\n");
    let (mut fleet, root) = stand.fleet(2);
    block_on(async {
        let mut heard = fleet.start(&stand.program, None).expect("started");
        while (1..=2).any(|device| {
            !stand
                .folder
                .path()
                .join(format!("device-{device}"))
                .exists()
        }) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            heard.try_recv().expect_err("nothing is said");
        }
        drop(fleet);
    });
    stand.assert_nothing_is_left(2, &root);
}
