//! Guards that a test can switch off, one at a time, to show that a test notices.
//!
//! Without the feature `mutants`, which no other crate's default enables, [`is`] is the constant
//! `false` and nothing of this is left in the program. docs/mutants.md lists each guard, what goes
//! wrong without it, and the test that notices; `cargo xtask mutants` runs that list.

macro_rules! mutants {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A guard that is missing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Mutant {
            $($(#[$doc])* $variant,)*
        }

        /// What the mutants are called, in the order in which they are declared.
        pub const NAMES: &[&str] = &[$($name),*];

        #[cfg(feature = "mutants")]
        const ALL: &[Mutant] = &[$(Mutant::$variant),*];
    };
}

mutants! {
    /// A data packet's number is not marked as seen.
    WindowNotCommitted = "window-not-committed",
    /// A data packet's number is marked as seen before the packet is known to be genuine.
    WindowBeforeOpening = "window-before-opening",
    /// Any packet of the current session moves the peer's address, not just the newest.
    EndpointByAnyPacket = "endpoint-by-any-packet",
    /// A session is used for sending before its peer has proved to hold the keys.
    SessionUnconfirmed = "session-unconfirmed",
    /// A renewed session takes the place of the one before at once.
    RekeyDropsPrevious = "rekey-drops-previous",
    /// Neither the codes nor the counters of earlier Inits count.
    InitsForgotten = "inits-forgotten",
    /// Under load an Init is answered without its cookie.
    CookieUnchecked = "cookie-unchecked",
    /// A newer boot of a key always takes over from the one before.
    ClonesTakeTurns = "clones-take-turns",
    /// The time in which this device's own loop stood still counts as others' silence.
    StallCounts = "stall-counts",
    /// The group's word that a member is down is believed without a probe.
    DownBelieved = "down-believed",
    /// A membership packet may name any sender.
    MembershipUnbound = "membership-unbound",
    /// A device is not told that its membership number is of no use.
    NoDownNotice = "no-down-notice",
    /// A record counts from third devices, also while its own device is connected.
    RecordFromAnyone = "record-from-anyone",
    /// A relayed broadcast counts while the leader itself is heard.
    RelayAlways = "relay-always",
    /// A message is delivered as often as it arrives.
    DuplicatesDelivered = "duplicates-delivered",
    /// The ceiling of epochs is not stored.
    CeilingNotStored = "ceiling-not-stored",
    /// A leader that hears none of its followers goes on as if it did.
    IsolationIgnored = "isolation-ignored",
    /// Of two claims that outlast each other the larger epoch wins, whoever follows.
    TieByEpochAlone = "tie-by-epoch-alone",
    /// A leader does not exceed epochs that others were told of.
    ReaffirmationSkipped = "reaffirmation-skipped",
    /// Leader state beyond its cut stays.
    CutsIgnored = "cuts-ignored",
    /// A deletion is forgotten at once.
    TombstonesForgotten = "tombstones-forgotten",
    /// The hybrid logical clock does not take over what it sees.
    ClockUnmoved = "clock-unmoved",
    /// Others may continue a device's own streams.
    OwnStreamOpen = "own-stream-open",
    /// Anyone may push another's entries.
    PushByAnyone = "push-by-anyone",
    /// A replica that was away for too long keeps what it has.
    ResetSkipped = "reset-skipped",
    /// What a reset replica has written before is taken for superseded.
    ResetInPlace = "reset-in-place",
    /// Group time runs at the device's own rate between samples of the reference.
    DriftIgnored = "drift-ignored",
    /// The bound on group time's error is that of the last sample, however old.
    BoundStandsStill = "bound-stands-still",
    /// Devices on the deny-list are admitted.
    DenyListIgnored = "deny-list-ignored",
    /// Under load an address gets as many answers as it sends Inits.
    BucketsEndless = "buckets-endless",
    /// A device may begin as many long messages as it likes.
    ReassemblyUnbounded = "reassembly-unbounded",
    /// A fresh secret is used before all members hold it.
    UseUnready = "use-unready",
    /// What others heard of a leader that is silent here makes no difference.
    VouchingIgnored = "vouching-ignored",
    /// Whoever starts claims at once.
    StartUnheard = "start-unheard",
    /// Any epoch is believed, however far above all seen.
    LeapAdmitted = "leap-admitted",
    /// Losses of leadership leave no trace.
    LossesForgotten = "losses-forgotten",
    /// Devices that are not on the allow-list are admitted.
    AllowListIgnored = "allow-list-ignored",
    /// A larger table of any tenure replaces the one that is held.
    TableOfAnyone = "table-of-anyone",
    /// A replica that starts over reports all its leader state as superseded.
    ResetReportsAll = "reset-reports-all",
    /// What ends at a time of the future ends there, also when group time is set back.
    EndsInTheFuture = "ends-in-the-future",
    /// Nobody is asked for a member that has moved while it is dialled.
    MovedUnasked = "moved-unasked",
    /// Nobody is asked for a missing device.
    MissingUnasked = "missing-unasked",
    /// Nobody is asked for a member whose session is silent.
    SilentUnasked = "silent-unasked",
    /// A device that a session opened with is asked to join once.
    AskedOnce = "asked-once",
}

/// Whether this guard is off.
#[cfg(not(feature = "mutants"))]
pub(crate) const fn is(_: Mutant) -> bool {
    false
}

/// Whether this guard is off.
#[cfg(feature = "mutants")]
pub(crate) fn is(mutant: Mutant) -> bool {
    switch::current() == Some(mutant)
}

#[cfg(feature = "mutants")]
pub use switch::set;

#[cfg(feature = "mutants")]
mod switch {
    use core::sync::atomic::{AtomicUsize, Ordering};

    use super::{ALL, Mutant, NAMES};

    /// One more than the place in [`ALL`] of the guard that is off.
    static OFF: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn current() -> Option<Mutant> {
        let place = OFF.load(Ordering::Relaxed).checked_sub(1)?;
        ALL.get(place).copied()
    }

    /// Switches this guard off in the whole process. Returns whether there is one of that name.
    pub fn set(name: &str) -> bool {
        let place = NAMES.iter().position(|known| *known == name);
        OFF.store(place.map_or(0, |at| at + 1), Ordering::Relaxed);
        place.is_some()
    }
}
