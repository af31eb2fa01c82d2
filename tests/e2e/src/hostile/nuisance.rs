//! Bad plugins at work: installed, and kept going.
//!
//! What ends by itself is dropped in again, as a person would who saves a file that does not work: not
//! before the log has named it, and at most once a second. Each time it is another content, so that
//! nothing is known of it.

use std::fs;
use std::time::{Duration, Instant};

use super::{Again, File, Hostile};
use crate::{Device, Group, programs};

/// How long a content lies there before it is replaced.
const PACE: Duration = Duration::from_secs(1);
/// How long a part of a file lies there that is saved in parts: too short for it to be taken.
const PIECE: Duration = Duration::from_millis(50);
/// Of so many such times, the file is saved in all but the last ones, in which it stands still for long
/// enough to be taken.
const PIECES: u32 = 20;
const SAVED_PIECES: u32 = 12;

/// Bad plugins on every device of a group.
#[derive(Debug)]
pub struct Nuisance {
    kinds: Vec<Kind>,
    /// How many parts of a file that is saved in parts have been its turn, and since when the last is.
    pieces: u32,
    piece_since: Instant,
}

#[derive(Debug)]
struct Kind {
    hostile: Hostile,
    /// Its file, or the versions of it.
    files: Vec<Vec<u8>>,
    /// By device.
    dropped: Vec<Dropped>,
}

/// When it was dropped in last.
#[derive(Debug)]
struct Dropped {
    round: u32,
    at: Instant,
    mark: usize,
}

impl Nuisance {
    /// Installs them on all devices.
    ///
    /// # Panics
    /// The files cannot be made or written.
    #[must_use]
    pub fn begin(group: &Group, kinds: &[Hostile]) -> Self {
        let kinds = kinds.iter().map(|hostile| {
            let mut kind = Kind::new(*hostile);
            for device in &group.devices {
                let dropped = kind.drop_in(device, 0);
                kind.dropped.push(dropped);
            }
            kind
        });
        Self {
            kinds: kinds.collect(),
            pieces: 0,
            piece_since: Instant::now(),
        }
    }

    /// Keeps them going; to be called several times a second.
    ///
    /// # Panics
    /// A file cannot be written.
    pub fn go_on(&mut self, group: &Group) {
        if self.piece_since.elapsed() >= PIECE {
            self.pieces += 1;
            self.piece_since = Instant::now();
        }
        for kind in &mut self.kinds {
            for (place, device) in group.devices.iter().enumerate() {
                kind.go_on(place, device, self.pieces);
            }
        }
    }

    /// Keeps them going for so long.
    ///
    /// # Panics
    /// A file cannot be written.
    pub fn last(&mut self, group: &Group, lasting: Duration) {
        let end = Instant::now() + lasting;
        while Instant::now() < end {
            self.go_on(group);
            std::thread::sleep(PIECE / 2);
        }
    }

    /// Those that a device's log has not named since they were installed, with the devices.
    #[must_use]
    pub fn not_named(&self, group: &Group, marks: &[usize]) -> Vec<String> {
        let mut missing = Vec::new();
        for (device, mark) in group.devices.iter().zip(marks) {
            for kind in &self.kinds {
                if !kind.hostile.is_named(device.log(), *mark) {
                    missing.push(format!("{} on {}", kind.hostile.id(), device.name()));
                }
            }
        }
        missing
    }

    /// Removes them, and waits until they are unloaded.
    ///
    /// # Panics
    /// They are not.
    #[track_caller]
    pub fn end(self, group: &Group) {
        for kind in &self.kinds {
            let id = kind.hostile.id();
            for device in &group.devices {
                device.run_with(&["plugin", "disable", &id], "");
                fs::remove_dir_all(device.plugin_file(&id)).expect("it is removed");
            }
        }
    }
}

impl Kind {
    fn new(hostile: Hostile) -> Self {
        let read = |name: &str| fs::read(programs::guest(name)).expect("it is built");
        let files = match hostile.file {
            File::Hostile => vec![read("hostile")],
            File::Made(make) => vec![make()],
            File::Torn => ["counter_v1", "counter_v2"].map(read).into(),
        };
        Self {
            hostile,
            files,
            dropped: Vec::new(),
        }
    }

    /// Puts it into a device's plugins folder, over what is there.
    fn drop_in(&self, device: &Device, round: u32) -> Dropped {
        let dropped = Dropped {
            round,
            at: Instant::now(),
            mark: device.log().mark(),
        };
        let folder = device.plugin_file(&self.hostile.id());
        fs::create_dir_all(&folder).expect("a folder for the plugin");
        let manifest = self.hostile.manifest(round);
        fs::write(folder.join("plugin.toml"), manifest).expect("the manifest is written");
        let file = &self.files[0];
        match self.hostile.file {
            // Its code is known, as that of a plugin is which is configured anew.
            File::Hostile if round > 0 => {}
            File::Hostile | File::Torn => self.save(device, file),
            File::Made(_) => self.save(device, &numbered(file, round)),
        }
        dropped
    }

    fn save(&self, device: &Device, bytes: &[u8]) {
        let file = device.plugin_file(&self.hostile.id()).join("plugin.wasm");
        fs::write(file, bytes).expect("the plugin is written");
    }

    fn go_on(&mut self, place: usize, device: &Device, pieces: u32) {
        let Dropped { round, at, mark } = self.dropped[place];
        let again = match self.hostile.again {
            Again::ByItself => false,
            Again::EverySecond => at.elapsed() >= PACE,
            Again::OnceNamed => at.elapsed() >= PACE && self.hostile.is_named(device.log(), mark),
            Again::Saves => {
                if pieces > round {
                    self.save_piece(device, pieces);
                    self.dropped[place].round = pieces;
                }
                false
            }
        };
        if again {
            self.dropped[place] = self.drop_in(device, round + 1);
        }
    }

    /// Saves a version in three parts, then the other one; at the end of it either half of one is left
    /// for a while, or one as a whole.
    fn save_piece(&self, device: &Device, piece: u32) {
        let (cycle, step) = (piece / PIECES, piece % PIECES);
        let (parts, of, version) = match step {
            0..SAVED_PIECES => (step % 3 + 1, 3, step / 3),
            SAVED_PIECES if cycle % 2 == 0 => (1, 2, cycle / 2),
            SAVED_PIECES => (1, 1, cycle / 2),
            _ => return,
        };
        let bytes = &self.files[version as usize % self.files.len()];
        self.save(device, &bytes[..bytes.len() / of as usize * parts as usize]);
    }
}

/// The same code as another content: with a section at its end that nobody looks at.
fn numbered(file: &[u8], round: u32) -> Vec<u8> {
    // A section of 7 bytes with a name of 2.
    let section = [&[0, 7, 2], b"no".as_slice(), &round.to_be_bytes()].concat();
    [file, &section].concat()
}
