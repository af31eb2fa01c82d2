use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::*;
use crate::config::LocalConfig;

/// A bridge over a plugin that echoes what it is asked, and nothing else.
struct World {
    folder: tempfile::TempDir,
    bridge: Bridge,
    id: PluginId,
}

fn echo(_: &PluginId, request: LocalRequest) -> Result<(), LocalRequestError> {
    match request.topic() {
        "busy" => Err(LocalRequestError::Busy),
        "lost" => Ok(()),
        _ => {
            let payload = request.payload().clone();
            request.answer(Ok(payload));
            Ok(())
        }
    }
}

impl World {
    fn new() -> Self {
        Self::with(
            tempfile::tempdir().expect("a folder"),
            &LocalConfig::default(),
        )
    }

    fn with(folder: tempfile::TempDir, config: &LocalConfig) -> Self {
        let places = Places::new(folder.path(), config);
        let world = Self {
            bridge: Bridge::new(places, Arc::new(echo), Handle::current()),
            id: PluginId::new("app").expect("valid"),
            folder,
        };
        world.hold(true);
        world
    }

    fn hold(&self, held: bool) {
        let id = self.id.clone();
        let rest = self.bridge.take(HostEvent::Local { id, held });
        assert_eq!(rest, None);
    }

    fn publish(&self, topic: &str, payload: &[u8], retain: bool) {
        let messages = vec![LocalMessage {
            topic: topic.to_owned(),
            payload: Bytes::copy_from_slice(payload),
            retain,
        }];
        let id = self.id.clone();
        self.bridge.take(HostEvent::Published { id, messages });
    }

    fn path(&self) -> PathBuf {
        self.bridge.path(&self.id).expect("open")
    }

    async fn connect(&self) -> Program {
        let stream = UnixStream::connect(self.path()).await.expect("connects");
        Program(BufReader::new(stream))
    }
}

/// A local program.
struct Program(BufReader<UnixStream>);

impl Program {
    async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.0.write_all(line.as_bytes()).await.expect("written");
    }

    /// The next line, or none at the end.
    async fn hear(&mut self) -> Option<Value> {
        let mut line = String::new();
        let reading = self.0.read_line(&mut line);
        let read = tokio::time::timeout(Duration::from_secs(20), reading).await;
        match read.expect("in time") {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(serde_json::from_str(&line).expect(&line)),
        }
    }

    async fn ask(&mut self, line: &str) -> Value {
        self.say(line).await;
        self.hear().await.expect("an answer")
    }
}

#[tokio::test]
async fn a_program_subscribes_and_asks() {
    let world = World::new();
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(world.path(), world.folder.path().join("local/app.sock"));
    assert_eq!(
        (
            mode(&world.path()),
            mode(&world.folder.path().join("local"))
        ),
        (0o600, 0o700)
    );

    world.publish("volume", b"40", true);
    let mut program = world.connect().await;
    let said = program
        .ask(r#"{"op":"subscribe","topic":"volume","id":"a"}"#)
        .await;
    assert_eq!(
        said,
        json!({"event":"subscribed","id":"a","topic":"volume"})
    );
    let retained = json!({"event":"message","topic":"volume","text":"40","retained":true});
    assert_eq!(program.hear().await, Some(retained));
    world.publish("other", b"x", false);
    world.publish("volume", b"\xff", false);
    let live = json!({"event":"message","topic":"volume","base64":"/w==","retained":false});
    assert_eq!(program.hear().await, Some(live));

    let answer = program
        .ask(r#"{"op":"request","topic":"echo","text":"é","id":1}"#)
        .await;
    assert_eq!(answer, json!({"event":"answer","id":1,"text":"é"}));
    let busy = program.ask(r#"{"op":"request","topic":"busy"}"#).await;
    assert_eq!(
        (&busy["event"], &busy["code"]),
        (&json!("error"), &json!("busy"))
    );
    let lost = program.ask(r#"{"op":"request","topic":"lost"}"#).await;
    assert_eq!(lost["code"], "unknown-plugin");
    for wrong in [
        "volume 40",
        r#"{"op":"request","topic":""}"#,
        r#"{"op":"sub"}"#,
    ] {
        let error = program.ask(wrong).await;
        assert_eq!(error["event"], "error", "{wrong}");
        assert!(!error["error"].as_str().expect("text").is_empty());
    }
    program.say("").await;
    let answer = program.ask(r#"{"op":"unsubscribe"}"#).await;
    assert_eq!(answer["event"], "unsubscribed");
}

#[tokio::test]
async fn a_line_that_is_too_long_is_skipped_and_the_next_one_counts() {
    let world = World::new();
    let mut program = world.connect().await;
    let (longest, beyond) = (line::LINE_MAX, line::LINE_MAX + 1);
    for bytes in [beyond, 10 * longest] {
        let error = program.ask(&"x".repeat(bytes)).await;
        assert_eq!(error["code"], "line-too-long", "{bytes} bytes");
    }
    let error = program.ask(&"x".repeat(longest)).await;
    assert_eq!(error["code"], "not-understood", "it was looked at");
    let answer = program
        .ask(r#"{"op":"request","topic":"echo","text":"on"}"#)
        .await;
    assert_eq!(answer["text"], "on");
}

#[tokio::test]
async fn a_program_that_has_ended_its_side_is_still_told() {
    let world = World::new();
    let mut asks = world.connect().await;
    // The last line may lack its end, as with `printf`.
    let line = br#"{"op":"request","topic":"echo","text":"last"}"#;
    asks.0.write_all(line).await.expect("written");
    asks.0.shutdown().await.expect("shut down");
    assert_eq!(asks.hear().await.expect("an answer")["text"], "last");
    assert_eq!(asks.hear().await, None, "it is done with");

    let mut listens = world.connect().await;
    listens.say(r#"{"op":"subscribe"}"#).await;
    listens.0.shutdown().await.expect("shut down");
    assert_eq!(
        listens.hear().await.expect("confirmed")["event"],
        "subscribed"
    );
    world.publish("t", b"x", false);
    assert_eq!(listens.hear().await.expect("told")["text"], "x");
}

#[tokio::test]
async fn programs_that_have_gone_make_room() {
    let world = World::new();
    let mut all = Vec::new();
    for _ in 0..hub::CLIENTS_MAX {
        let mut program = world.connect().await;
        program.ask(r#"{"op":"subscribe"}"#).await;
        all.push(program);
    }
    let refused = world.connect().await.hear().await.expect("told");
    assert_eq!(refused["code"], "too-many-clients");
    drop(all);
    let start = std::time::Instant::now();
    loop {
        let mut program = world.connect().await;
        program.say(r#"{"op":"subscribe"}"#).await;
        if program
            .hear()
            .await
            .is_some_and(|said| said["event"] == "subscribed")
        {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no room");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_program_that_does_not_read_is_sent_away_and_told_why() {
    let world = World::new();
    let (mut slow, mut good) = (world.connect().await, world.connect().await);
    slow.ask(r#"{"op":"subscribe"}"#).await;
    good.ask(r#"{"op":"subscribe","topic":"end"}"#).await;
    for _ in 0..400 {
        world.publish("many", &[b'x'; 60 << 10], false);
        // Lets the client's task write what the socket takes.
        tokio::task::yield_now().await;
    }
    world.publish("end", b"x", false);
    assert_eq!(
        good.hear().await.expect("told")["topic"],
        "end",
        "nobody waits for the slow one"
    );
    let mut last = Value::Null;
    while let Some(said) = slow.hear().await {
        last = said;
    }
    assert_eq!(last["code"], "too-slow", "{last}");
}

#[tokio::test]
async fn a_socket_ends_with_the_capability() {
    let world = World::new();
    let path = world.path();
    let mut program = world.connect().await;
    program.ask(r#"{"op":"subscribe"}"#).await;
    world.publish("t", b"last", false);
    world.hold(false);
    assert!(!path.exists() && world.bridge.path(&world.id).is_none());
    assert_eq!(program.hear().await.expect("told")["text"], "last");
    assert_eq!(program.hear().await.expect("told")["code"], "closed");
    assert_eq!(program.hear().await, None);
    world.hold(true);
    let answer = world
        .connect()
        .await
        .ask(r#"{"op":"request","topic":"echo"}"#)
        .await;
    assert_eq!(answer["text"], "");
    let down = world.bridge.take(HostEvent::Down(world.id.clone()));
    assert!(matches!(down, Some(HostEvent::Down(_))) && !path.exists());
}

#[tokio::test]
async fn places_are_private_short_and_no_other_daemon_s() {
    let id = PluginId::new("p".repeat(64)).expect("valid");
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("d".repeat(60));
    let places = |dir: Option<&Path>| {
        let config = LocalConfig {
            dir: dir.map(Path::to_owned),
            group: None,
        };
        Places::new(&deep, &config)
    };
    let (listener, path) = places(None).listen(&id).expect("elsewhere");
    assert!(path.as_os_str().len() <= 100 && path.exists());
    let other = places(None).listen(&id).expect_err("it is listened on");
    assert!(other.to_string().contains("another daemon"), "{other}");
    drop(listener);
    let (_listener, again) = places(None).listen(&id).expect("a dead one is removed");
    assert_eq!(again, path);
    place::remove(&path);

    let long = places(Some(&deep)).listen(&id).expect_err("too long");
    assert!(long.to_string().contains("local.dir"), "{long}");
    let short = PluginId::new("a").expect("valid");
    let open = folder.path().join("open");
    std::fs::create_dir(&open).expect("made");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).expect("set");
    let refused = places(Some(&open))
        .listen(&short)
        .expect_err("others can write");
    assert!(
        refused.to_string().contains("others can write"),
        "{refused}"
    );
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).expect("set");
    let (_listener, path) = places(Some(&open)).listen(&short).expect("fine");
    assert_eq!(path, open.join("a.sock"));
    let config = LocalConfig {
        dir: Some(open),
        group: Some("no-such-group".to_owned()),
    };
    let none = Places::new(&deep, &config)
        .listen(&short)
        .expect_err("no group");
    assert!(none.to_string().contains("no-such-group"), "{none}");
}

/// A group whose members' sockets this process may make: for root one that is not its own.
fn some_group() -> nix::unistd::Group {
    let own = nix::unistd::getegid();
    let other = nix::unistd::Gid::from_raw(1);
    let gid = if nix::unistd::geteuid().is_root() {
        other
    } else {
        own
    };
    let found = nix::unistd::Group::from_gid(gid).expect("readable");
    found.expect("a group with a name")
}

#[tokio::test]
async fn the_members_of_a_group_may_open_the_sockets_where_it_is_set() {
    use std::os::unix::fs::MetadataExt as _;

    let folder = tempfile::tempdir().expect("a folder");
    let (dir, group) = (folder.path().join("run"), some_group());
    let config = LocalConfig {
        dir: Some(dir.clone()),
        group: Some(group.name.clone()),
    };
    let world = World::with(folder, &config);
    assert_eq!(world.path(), dir.join("app.sock"));
    for (path, mode) in [(world.path(), 0o660), (dir, 0o750)] {
        let found = std::fs::metadata(&path).expect("there");
        assert_eq!(
            found.permissions().mode() & 0o777,
            mode,
            "{}",
            path.display()
        );
        assert_eq!(found.gid(), group.gid.as_raw(), "{}", path.display());
    }
    let mut program = world.connect().await;
    let said = program.ask(r#"{"op":"subscribe","topic":"volume"}"#).await;
    assert_eq!(said["event"], "subscribed");
}

#[tokio::test]
async fn a_group_that_is_none_or_a_folder_of_others_opens_no_socket() {
    let listen = |folder: &Path, config: &LocalConfig| {
        let id = PluginId::new("app").expect("valid");
        let refused = Places::new(folder, config).listen(&id);
        refused.expect_err("it is refused").to_string()
    };
    let folder = tempfile::tempdir().expect("a folder");
    let unknown = LocalConfig {
        dir: Some(folder.path().join("run")),
        group: Some("no-such-group".to_owned()),
    };
    let said = listen(folder.path(), &unknown);
    assert!(
        said.contains("no-such-group") && said.contains("local.group"),
        "{said}"
    );
    let open = folder.path().join("open");
    std::fs::create_dir(&open).expect("made");
    let everyone = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&open, everyone).expect("set");
    let config = LocalConfig {
        dir: Some(open.clone()),
        group: None,
    };
    let said = listen(folder.path(), &config);
    assert!(said.contains("others can write to it"), "{said}");
    assert!(std::fs::read_dir(&open).expect("there").next().is_none());
}
