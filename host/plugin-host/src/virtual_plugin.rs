//! A plugin on one device in virtual time: what a host runs on a thread, moved on step by step.
//!
//! It is the same supervisor, mailbox and instance: setup, replay after a fault, back-off,
//! quarantine, the group's state with the plugin's own writes over it. Only what comes from outside
//! differs. Time is what the caller says, and CPU budgets are counted in executed instructions. So
//! a run is a function of (code, settings, seed, what it is given and when).

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use consort_proto::{Peer, PluginEvent, Time};

use crate::engine::Runtime;
use crate::fence::Fence;
use crate::folder::ContentHash;
use crate::manifest::Settings;
use crate::metering::Work;
use crate::status::{Board, GroupClock, HostEvent};
use crate::supervisor::{Candidate, Control, PluginMailbox, Supervisor, Surroundings};
use crate::{
    ClockReading, Code, Fault, Level, LocalAnswer, LocalRequest, LocalRequestError, ShutdownReason,
};

/// What one step takes besides the plugin's own instructions: the hand-over to its thread. So time
/// passes for a plugin that wakes itself without end.
const HAND_OVER: Duration = Duration::from_micros(10);
/// For how long a program waits for an answer, as a daemon's clients do.
const REQUEST_MAX: Duration = Duration::from_secs(15);

/// What a plugin in virtual time is made with.
pub struct VirtualSettings {
    /// A [`Runtime::deterministic`].
    pub runtime: Runtime,
    /// Compiled by it.
    pub code: Code,
    /// What holds for it.
    pub settings: Settings,
    /// Its file, for messages.
    pub file: PathBuf,
    /// The device it runs on.
    pub this_device: Peer,
    /// Decides all that is random, with the device and the plugin; another one for each start of
    /// the device.
    pub seed: [u8; 32],
}

impl fmt::Debug for VirtualSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualSettings")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// What comes out of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// What a daemon would be told.
    Host(HostEvent),
    /// An instance was lost, or none starts, for this reason; the host's lines say so too.
    Fault(String),
    /// What came of [`VirtualPlugin::request`].
    Answer {
        /// Group time when it came, in microseconds.
        group_time_us: u64,
        /// What was asked about.
        topic: String,
        /// The plugin's answer, or why there is none.
        answer: LocalAnswer,
    },
    /// A line of its log.
    Line {
        /// Group time when it was written, in microseconds.
        group_time_us: u64,
        /// How serious.
        level: Level,
        /// Whether the host says it, not the plugin.
        by_host: bool,
        /// Without control characters.
        text: String,
    },
}

/// One step's work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// In order. It is known outside once the step is over.
    pub said: Vec<Said>,
    /// How long the plugin was busy with it; nothing if there was nothing to do.
    pub took: Duration,
}

/// A plugin on one device in virtual time.
pub struct VirtualPlugin {
    supervisor: Supervisor,
    mailbox: Arc<PluginMailbox>,
    board: Board,
    clock: Arc<VirtualClock>,
    said: Spoken,
    work: Work,
}

impl fmt::Debug for VirtualPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualPlugin").finish_non_exhaustive()
    }
}

impl VirtualPlugin {
    /// A plugin whose file has just been compiled; the first [`VirtualPlugin::turn`] sets it up.
    /// None if the code's runtime is not deterministic.
    #[must_use]
    pub fn new(given: VirtualSettings) -> Option<Self> {
        let VirtualSettings {
            runtime,
            code,
            settings,
            file,
            this_device,
            seed,
        } = given;
        let (counted, work) = code.counted()?;
        let id = settings.spec.id.clone();
        let clock = Arc::new(VirtualClock::new());
        let said = Spoken::default();
        let mailbox = Arc::new(PluginMailbox::new(settings.limits.mailbox));
        let board = Board::new(id.clone(), "discovered", 0);
        board.log().listen(said.listener(Arc::clone(&clock)));
        let out = said.clone();
        let surroundings = Arc::new(Surroundings {
            runtime,
            clock: Arc::<VirtualClock>::clone(&clock),
            out: Arc::new(move |event| out.lock().push(Said::Host(event))),
            this_device,
            seed,
            runs: AtomicU64::new(0),
        });
        mailbox.control(Control::Load(Box::new(Candidate {
            settings,
            code: counted,
            file,
            // There is one content only; nobody asks for its hash.
            hash: ContentHash::new(&[], None),
        })));
        Some(Self {
            supervisor: Supervisor::new(
                id,
                surroundings,
                Arc::clone(&mailbox),
                board.clone(),
                Fence::default(),
            ),
            board,
            mailbox,
            clock,
            said,
            work,
        })
    }

    /// Puts an event into its mailbox.
    pub fn deliver(&self, event: PluginEvent) {
        self.mailbox.push(event);
    }

    /// Puts a request of a program on the device into its mailbox. A [`Said::Answer`] of this or a
    /// later [`VirtualPlugin::turn`] says what came of it.
    pub fn request(&self, now: Time, reading: ClockReading, topic: &str, payload: Bytes) {
        self.clock.set(now, reading);
        let (said, clock, about) = (self.said.clone(), Arc::clone(&self.clock), topic.to_owned());
        let answer = move |answer| {
            said.lock().push(Said::Answer {
                group_time_us: clock.reading().group_time_us,
                topic: about,
                answer,
            });
        };
        let until = self.clock.instant() + REQUEST_MAX;
        match LocalRequest::new(topic.to_owned(), payload, until, answer.clone()) {
            Ok(request) => {
                if let Err(request) = self.mailbox.request(request) {
                    request.answer(Err(LocalRequestError::Busy));
                }
            }
            Err(error) => answer(Err(error)),
        }
    }

    /// Group time was set back: a new instance takes over.
    pub fn clock_set_back(&self) {
        self.mailbox.control(Control::SetBack);
    }

    /// Whether something waits in its mailbox.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.mailbox.is_empty()
    }

    /// When its next timer or its restart is due by the device's clock, as far as group time tells
    /// at `now`; at most a minute ahead.
    #[must_use]
    pub fn wake_at(&self, now: Time, reading: ClockReading) -> Option<Time> {
        self.clock.set(now, reading);
        let at = self.supervisor.wake_at()?;
        Some(self.clock.time(at))
    }

    /// Handles one thing that waits, and the timers that are due.
    pub fn turn(&mut self, now: Time, reading: ClockReading) -> Turn {
        self.clock.set(now, reading);
        let nothing_waits = self.mailbox.is_empty();
        self.supervisor.step();
        let (said, worked) = (self.take_said(), self.work.take());
        let idle = nothing_waits && said.is_empty() && worked.is_zero();
        Turn {
            said,
            took: if idle { worked } else { worked + HAND_OVER },
        }
    }

    /// Ends the instance, if one runs, as a fault of its own would.
    pub fn fault(&mut self, now: Time, reading: ClockReading, cause: &str) -> Vec<Said> {
        self.clock.set(now, reading);
        self.supervisor.lose(&Fault {
            callback: "scenario",
            cause: cause.to_owned(),
            backtrace: Vec::new(),
            core: None,
        });
        self.take_said()
    }

    fn take_said(&mut self) -> Vec<Said> {
        let mut said = self.said.take();
        said.extend(self.board.lock().last_fault.take().map(Said::Fault));
        said
    }

    /// Unloads it in order.
    pub fn stop(self, now: Time, reading: ClockReading, reason: ShutdownReason) -> Vec<Said> {
        self.clock.set(now, reading);
        self.supervisor.stop(reason);
        self.said.take()
    }

    /// Where it is in its life, as `consort plugin list` has it.
    #[must_use]
    pub fn state(&self) -> &'static str {
        self.board.lock().state
    }

    /// Messages that were dropped because it was too slow or not running.
    #[must_use]
    pub fn messages_dropped(&self) -> u64 {
        self.mailbox.messages_dropped()
    }
}

/// What was said and not yet taken.
#[derive(Clone, Default)]
struct Spoken(Arc<Mutex<Vec<Said>>>);

impl Spoken {
    fn lock(&self) -> MutexGuard<'_, Vec<Said>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<Said> {
        std::mem::take(&mut *self.lock())
    }

    fn listener(&self, clock: Arc<VirtualClock>) -> crate::log_ring::Listener {
        let said = self.clone();
        Box::new(move |level, by_host, text| {
            said.lock().push(Said::Line {
                group_time_us: clock.reading().group_time_us,
                level,
                by_host,
                text: text.to_owned(),
            });
        })
    }
}

/// Time as the caller says it is.
struct VirtualClock {
    /// The instant that stands for the device's time 0. Only distances to it count.
    origin: Instant,
    shown: Mutex<(Time, ClockReading)>,
}

impl VirtualClock {
    fn new() -> Self {
        Self {
            origin: Instant::now(),
            shown: Mutex::new((Time::ZERO, ClockReading::default())),
        }
    }

    fn set(&self, now: Time, reading: ClockReading) {
        *self.lock() = (now, reading);
    }

    fn lock(&self) -> MutexGuard<'_, (Time, ClockReading)> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The device's time at an instant, rounded up.
    fn time(&self, instant: Instant) -> Time {
        let passed = instant.saturating_duration_since(self.origin);
        let micros = passed.as_nanos().div_ceil(1_000);
        Time::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

impl GroupClock for VirtualClock {
    fn reading(&self) -> ClockReading {
        self.lock().1
    }

    fn instant(&self) -> Instant {
        self.origin + Duration::from_micros(self.lock().0.as_micros())
    }
}
