//! When to look at the interfaces: at once when the system tells of a change, else now and then.
//!
//! Where the system cannot be listened to, they are looked at every two seconds. Changes that
//! follow each other closely are looked at together, so that an interface that flaps, or a machine
//! that starts a hundred containers, costs ten looks a second at most.

use std::task::{Context, Poll};
use std::time::Duration;

use consort_proto::Time;

#[cfg(target_os = "linux")]
use super::netlink;

/// How often interfaces are looked at that nobody tells of.
const POLL_PERIOD: Duration = Duration::from_secs(2);
/// How often they are looked at all the same where the system tells: what could not be joined is
/// tried again then.
const CHECK_PERIOD: Duration = Duration::from_secs(30);
/// Between two looks.
const GAP: Duration = Duration::from_millis(100);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Watch {
    #[cfg(target_os = "linux")]
    netlink: Option<netlink::Watch>,
    looked: Time,
    due: Time,
}

impl Watch {
    /// Begins to watch; the first look is due at once. Must be called within the runtime.
    pub(super) fn open() -> Self {
        let mut watch = Self::default();
        watch.listen();
        watch
    }

    /// Whether the system tells of changes.
    #[must_use]
    pub(super) const fn is_told(&self) -> bool {
        #[cfg(target_os = "linux")]
        {
            self.netlink.is_some()
        }
        #[cfg(not(target_os = "linux"))]
        {
            false
        }
    }

    /// When the next look is due.
    #[must_use]
    pub(super) const fn due(&self) -> Time {
        self.due
    }

    /// Whether a change may have been told.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        #[cfg(target_os = "linux")]
        if let Some(netlink) = &self.netlink {
            return netlink.poll_ready(cx);
        }
        let _ = cx;
        Poll::Pending
    }

    /// Takes what was told, which may make the next look due sooner.
    pub(super) fn take(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some(netlink) = &self.netlink {
            match netlink.take() {
                Ok(false) => {}
                Ok(true) => self.due = self.due.min(self.looked + GAP),
                Err(error) => {
                    tell_of_polling(&error);
                    self.netlink = None;
                    self.due = self.due.min(self.looked + POLL_PERIOD);
                }
            }
        }
    }

    /// The interfaces are looked at.
    pub(super) fn looked(&mut self, now: Time) {
        let period = if self.is_told() {
            CHECK_PERIOD
        } else {
            POLL_PERIOD
        };
        self.looked = now;
        self.due = now + period;
    }

    #[cfg(target_os = "linux")]
    fn listen(&mut self) {
        match netlink::Watch::open() {
            Ok(netlink) => self.netlink = Some(netlink),
            Err(error) => tell_of_polling(&error),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn listen(&mut self) {
        tracing::info!("interfaces are looked at every {} s", POLL_PERIOD.as_secs());
    }
}

#[cfg(target_os = "linux")]
fn tell_of_polling(error: &std::io::Error) {
    tracing::warn!(
        %error,
        "the system does not tell of changes of the network; interfaces are looked at every {} s",
        POLL_PERIOD.as_secs()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_word_from_the_system_looks_are_two_seconds_apart() {
        let mut watch = Watch::default();
        assert_eq!(watch.due(), Time::ZERO, "the first at once");
        let now = Time::from_micros(7_000_000);
        watch.looked(now);
        watch.take();
        assert_eq!(watch.due(), now + POLL_PERIOD);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn where_the_system_tells_looks_are_seldom() {
        let mut watch = Watch::open();
        assert!(watch.is_told());
        let now = Time::from_micros(7_000_000);
        watch.looked(now);
        assert_eq!(watch.due(), now + CHECK_PERIOD);
    }
}
