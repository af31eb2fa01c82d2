//! The table `[state]`: in a manifest what a plugin's replicated state may take and how it is kept,
//! in the operator's settings what holds on this device instead.

use std::time::Duration;

use consort_proto::StateConfig;
use serde::Deserialize;

use crate::limit_table::Within;

/// `[state]`; what is not in it stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    deny_unknown_fields,
    default,
    expecting = "a table with interval_ms, quota_kib, persist"
)]
pub struct StateTable {
    interval_ms: Option<Within<50, 3_600_000>>,
    quota_kib: Option<Within<1, 16_384>>,
    persist: Option<bool>,
}

impl StateTable {
    /// What a manifest with this table gets under an operator's table: the interval and the
    /// keeping that the operator names, and a quota of at most the operator's.
    pub(crate) fn resolve(&self, operator: &Self) -> StateConfig {
        let mut state = StateConfig::default();
        let interval = operator.interval_ms.or(self.interval_ms);
        if let Some(Within(millis)) = interval {
            state.interval = Duration::from_millis(u64::from(millis));
        }
        let bytes = |kib: Within<1, 16_384>| u64::from(kib.0) << 10;
        state.quota = self.quota_kib.map_or(state.quota, bytes);
        state.quota = operator
            .quota_kib
            .map_or(state.quota, |cap| bytes(cap).min(state.quota));
        let persist = operator.persist.or(self.persist);
        state.persist = persist.unwrap_or(state.persist);
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> StateTable {
        toml::from_str(text).expect("valid")
    }

    #[test]
    fn the_operator_sets_interval_and_keeping_and_caps_the_quota() {
        let asks = table("interval_ms = 200\nquota_kib = 2048\npersist = true");
        let gets = |operator: &str| {
            let state = asks.resolve(&table(operator));
            (state.interval.as_millis(), state.quota >> 10, state.persist)
        };
        assert_eq!(gets(""), (200, 2048, true));
        assert_eq!(
            gets("interval_ms = 5000\nquota_kib = 64\npersist = false"),
            (5000, 64, false)
        );
        assert_eq!(
            gets("quota_kib = 4096"),
            (200, 2048, true),
            "a cap grants nothing"
        );
        let default = StateTable::default();
        assert_eq!(default.resolve(&default), StateConfig::default());
        assert_eq!(default.resolve(&table("quota_kib = 8")).quota, 8 << 10);
        assert!(default.resolve(&table("persist = true")).persist);
    }
}
