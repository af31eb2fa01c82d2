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
    /// An Init counts whatever its code says.
    CodeUnchecked = "code-unchecked",
    /// Of two devices that dial each other at once neither gives way.
    BothDial = "both-dial",
    /// A session is used for sending before its peer has proved to hold the keys.
    SessionUnconfirmed = "session-unconfirmed",
    /// A renewed session takes the place of the one before at once.
    RekeyDropsPrevious = "rekey-drops-previous",
    /// A session is good for as long as both devices run.
    SessionAgeless = "session-ageless",
    /// A session is not renewed for having sent many packets.
    PacketsUncounted = "packets-uncounted",
    /// A session sends on when its counter is used up.
    CounterEndless = "counter-endless",
    /// The codes of earlier Inits do not count.
    InitCopiesForgotten = "init-copies-forgotten",
    /// The counters of earlier Inits do not count.
    InitCountersForgotten = "init-counters-forgotten",
    /// An Init for another boot of this device is answered.
    BootUnchecked = "boot-unchecked",
    /// A handshake does not depend on what its responder's beacon says.
    FlagsUnbound = "flags-unbound",
    /// Under load an Init is answered without its cookie.
    CookieUnchecked = "cookie-unchecked",
    /// A cookie is good at any address.
    CookieForAnyone = "cookie-for-anyone",
    /// A cookie is good for as long as the device runs.
    CookieForever = "cookie-forever",
    /// A newer boot of a key always takes over from the one before.
    ClonesTakeTurns = "clones-take-turns",
    /// What a boot of a device says that is not the one in use counts.
    QuarantinedCounts = "quarantined-counts",
    /// The time in which this device's own loop stood still counts as others' silence.
    StallCounts = "stall-counts",
    /// A device whose loop comes late is no more patient than others.
    OwnSlownessIgnored = "own-slowness-ignored",
    /// Membership's timers run on while this device's loop is late.
    TimersNotPutOff = "timers-not-put-off",
    /// The group's word that a member is down is believed without a probe.
    DownBelieved = "down-believed",
    /// One unanswered probe shows that a device is lost.
    ProbesSkipped = "probes-skipped",
    /// A device is a member by the word of one that does not hear it.
    IntroducedUnheard = "introduced-unheard",
    /// A membership packet may name any sender.
    MembershipUnbound = "membership-unbound",
    /// A membership packet counts though broadcast items follow its members.
    ItemsAdmitted = "items-admitted",
    /// A device is not told that its membership number is of no use.
    NoDownNotice = "no-down-notice",
    /// A missing device that is heard over its session is not asked to join.
    MissingNotRejoined = "missing-not-rejoined",
    /// A record counts from third devices, also while its own device is connected.
    RecordFromAnyone = "record-from-anyone",
    /// A relayed broadcast counts while the leader itself is heard.
    RelayAlways = "relay-always",
    /// A broadcast counts whoever leads.
    BroadcastOfAnyone = "broadcast-of-anyone",
    /// A leader that lost touch with its followers broadcasts all the same.
    HeldBroadcast = "held-broadcast",
    /// A payload from another member counts without its sender's notice.
    TreeUnannounced = "tree-unannounced",
    /// Any payload counts for the one that its sender's notice told of.
    DigestUnchecked = "digest-unchecked",
    /// Who asks for parts of a message gets them, whomever it was for.
    AskedByAnyone = "asked-by-anyone",
    /// The sender of a message in the tree gives its payload to all who ask, whatever waits.
    BusySenderAnswers = "busy-sender-answers",
    /// Parts are sent again as often as they are asked for.
    SentAgainEndlessly = "sent-again-endlessly",
    /// What the protocol says waits behind what plugins send.
    ControlWaits = "control-waits",
    /// A plugin may send as much as it likes.
    QuotaEndless = "quota-endless",
    /// The node does not look at its plugins' quotas itself.
    QuotaAtTheHostAlone = "quota-at-the-host-alone",
    /// A message is delivered as often as it arrives.
    DuplicatesDelivered = "duplicates-delivered",
    /// The ceiling of epochs is not stored.
    CeilingNotStored = "ceiling-not-stored",
    /// A leader that hears none of its followers goes on as if it did.
    IsolationIgnored = "isolation-ignored",
    /// A leader that hears none of its followers sends heartbeats on.
    HeldBeats = "held-beats",
    /// A leader that was away counts followers by what waited in its socket.
    StaleFollowCounts = "stale-follow-counts",
    /// Of two claims that outlast each other the larger epoch wins, whoever follows.
    TieByEpochAlone = "tie-by-epoch-alone",
    /// A third device's claim counts though its device was lost since.
    ReportBeforeLoss = "report-before-loss",
    /// A leader does not exceed epochs that others were told of.
    ReaffirmationSkipped = "reaffirmation-skipped",
    /// Nobody tells others what keeps it from following a leader.
    ObstacleUntold = "obstacle-untold",
    /// A device follows tenures older than one that it was told of.
    OlderTenureFollowed = "older-tenure-followed",
    /// A bulletin counts though a later one of its sender has come.
    BulletinsOutOfOrder = "bulletins-out-of-order",
    /// A device claims whose instance is being restarted.
    UnfitClaims = "unfit-claims",
    /// Nobody waits for the successor that a leader named.
    SuccessorUnprotected = "successor-unprotected",
    /// A better device takes over as soon as it is there.
    PreemptionHasty = "preemption-hasty",
    /// All versions of a plugin are one group.
    VersionsMixed = "versions-mixed",
    /// Leader state beyond its cut stays.
    CutsIgnored = "cuts-ignored",
    /// A deletion is forgotten at once.
    TombstonesForgotten = "tombstones-forgotten",
    /// Kept records count though a disk has changed them.
    DamageUnnoticed = "damage-unnoticed",
    /// A device folds its earlier counts though others may not have them.
    FoldEarly = "fold-early",
    /// The hybrid logical clock does not take over what it sees.
    ClockUnmoved = "clock-unmoved",
    /// A write counts however far ahead of group time it lies.
    QuarantineIgnored = "quarantine-ignored",
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
    /// Group time is taken from any member that tells one.
    TimeOfAnyone = "time-of-anyone",
    /// Devices on the deny-list are admitted.
    DenyListIgnored = "deny-list-ignored",
    /// Under load an address gets as many answers as it sends Inits.
    BucketsEndless = "buckets-endless",
    /// All beacons of a source are opened, however many.
    BeaconsEndless = "beacons-endless",
    /// A device is dialled at every address that a beacon of it came from.
    AddressesEndless = "addresses-endless",
    /// A device may begin as many long messages as it likes.
    ReassemblyUnbounded = "reassembly-unbounded",
    /// A fresh secret is used before all members hold it.
    UseUnready = "use-unready",
    /// Secrets are removed while members still send under them.
    RemoveUnready = "remove-unready",
    /// A keyring is in force though it could not be stored.
    KeyringUnstored = "keyring-unstored",
    /// A stolen secret may be replaced where no list says for whom.
    CompromisedUnlisted = "compromised-unlisted",
    /// A restricted secret is offered to whoever lacks it.
    RestrictedToAnyone = "restricted-to-anyone",
    /// Sessions under a stolen secret go on as under any that is replaced.
    StolenInGrace = "stolen-in-grace",
    /// Handshakes under a secret that is gone are accepted.
    RemovedAccepted = "removed-accepted",
    /// What others heard of a leader that is silent here makes no difference.
    VouchingIgnored = "vouching-ignored",
    /// Who is vouched for was heard just now, whenever that was.
    VouchAgeless = "vouch-ageless",
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
    /// A leader's deletion that is over is not reported when a table leaves it out.
    EndedUnreported = "ended-unreported",
    /// What ends at a time of the future ends there, also when group time is set back.
    EndsInTheFuture = "ends-in-the-future",
    /// What a leap of group time ends is forgotten before it is passed on.
    LeapForgets = "leap-forgets",
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
