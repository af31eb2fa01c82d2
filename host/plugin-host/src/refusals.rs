//! What a plugin asked for and did not get since its limits are reached. The plugin learns it at the
//! call; its operator from the counts in its status, and once for each kind and generation from the log.

/// Of what a plugin asked for too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Messages to the group.
    Messages,
    /// Writes of replicated state.
    Writes,
    /// Messages for programs on this device.
    Publishes,
}

impl Asked {
    pub(crate) const ALL: [Self; 3] = [Self::Messages, Self::Writes, Self::Publishes];

    /// What the log calls it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Writes => "writes of state",
            Self::Publishes => "messages for local programs",
        }
    }
}

/// What was refused of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// How many.
    pub count: u64,
    /// Why the first one was; none if there are none.
    pub why: Option<String>,
}

impl Refused {
    fn extend(&mut self, later: Self) {
        self.count += later.count;
        self.why = self.why.take().or(later.why);
    }
}

/// What callbacks were refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// Messages to the group: too large, or beyond the quota.
    pub messages: Refused,
    /// Writes of replicated state: too large, or beyond a quota.
    pub writes: Refused,
    /// Messages for local programs: without the capability, too large, or beyond the quota.
    pub publishes: Refused,
}

impl Refusals {
    pub(crate) fn note(&mut self, asked: Asked, why: impl FnOnce() -> String) {
        let refused = self.of_mut(asked);
        refused.count += 1;
        refused.why.get_or_insert_with(why);
    }

    /// Adds those of later callbacks.
    pub(crate) fn extend(&mut self, later: Self) {
        self.messages.extend(later.messages);
        self.writes.extend(later.writes);
        self.publishes.extend(later.publishes);
    }

    pub(crate) const fn of(&self, asked: Asked) -> &Refused {
        match asked {
            Asked::Messages => &self.messages,
            Asked::Writes => &self.writes,
            Asked::Publishes => &self.publishes,
        }
    }

    const fn of_mut(&mut self, asked: Asked) -> &mut Refused {
        match asked {
            Asked::Messages => &mut self.messages,
            Asked::Writes => &mut self.writes,
            Asked::Publishes => &mut self.publishes,
        }
    }
}
