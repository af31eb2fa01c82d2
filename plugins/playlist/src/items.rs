//! The items of the playlist and their text form, `name:seconds,name:seconds,…`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What plays unless the operator says otherwise.
pub(crate) const DEFAULT: &str = "intro:10,clip:20,credits:5";

/// The shortest item, in seconds: the switch to the next one is decided that long before its end.
pub(crate) const SECONDS_MIN: u64 = 2;
const SECONDS_MAX: u64 = 86_400;
const ITEMS_MAX: usize = 1000;
const NAME_MAX: usize = 64;

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) length: Duration,
}

/// At least one item, in the order they play.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Items(Vec<Item>);

impl Items {
    /// The item at `index`, counted round and round.
    pub(crate) fn at(&self, index: u32) -> (u32, &Item) {
        let index = index as usize % self.0.len();
        (index as u32, &self.0[index])
    }
}

impl Default for Items {
    fn default() -> Self {
        DEFAULT.parse().expect("the default is a playlist")
    }
}

impl FromStr for Items {
    type Err = ParseItemsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let items = text
            .split(',')
            .map(parse_item)
            .collect::<Result<Vec<_>, _>>()?;
        if items.len() > ITEMS_MAX {
            return Err(ParseItemsError::TooMany(items.len()));
        }
        Ok(Self(items))
    }
}

fn parse_item(text: &str) -> Result<Item, ParseItemsError> {
    let text = text.trim();
    let invalid = || ParseItemsError::Item(text.chars().take(80).collect());
    let (name, seconds) = text.rsplit_once(':').ok_or_else(invalid)?;
    let name = name.trim();
    let seconds: u64 = seconds.trim().parse().map_err(|_| invalid())?;
    if name.is_empty() || name.len() > NAME_MAX || !(SECONDS_MIN..=SECONDS_MAX).contains(&seconds) {
        return Err(invalid());
    }
    Ok(Item {
        name: name.to_owned(),
        length: Duration::from_secs(seconds),
    })
}

/// Why a text is no playlist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParseItemsError {
    /// One part is no item.
    Item(String),
    /// More items than fit.
    TooMany(usize),
}

impl fmt::Display for ParseItemsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Item(part) => write!(
                f,
                "{part:?} is no item: write name:seconds, with 1 to {NAME_MAX} bytes of name and \
                 {SECONDS_MIN} to {SECONDS_MAX} seconds"
            ),
            Self::TooMany(count) => write!(f, "{count} items, at most {ITEMS_MAX} are allowed"),
        }
    }
}

impl std::error::Error for ParseItemsError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_have_a_text_form() {
        let items: Items = " intro:10, a:b : 20 ".parse().unwrap();
        let lengths = [0, 1, 2].map(|i| {
            let (index, item) = items.at(i);
            (index, item.name.as_str(), item.length.as_secs())
        });
        assert_eq!(
            lengths,
            [(0, "intro", 10), (1, "a:b", 20), (0, "intro", 10)]
        );
        assert_eq!(Items::default(), DEFAULT.parse().unwrap());
    }

    #[test]
    fn other_texts_are_refused() {
        for bad in [
            "", "intro", "intro:", "intro:x", ":5", "a:1", "a:2,", "a:86401", "a:-1",
        ] {
            assert!(
                matches!(bad.parse::<Items>(), Err(ParseItemsError::Item(_))),
                "{bad:?}"
            );
        }
        let many = vec!["a:2"; 1001].join(",");
        assert_eq!(many.parse::<Items>(), Err(ParseItemsError::TooMany(1001)));
        assert!(format!("{}:2", "n".repeat(65)).parse::<Items>().is_err());
    }
}
