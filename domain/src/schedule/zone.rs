//! Time zones, by the names of the IANA database.

use jiff::tz::{self, TimeZone};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The name of a time zone that is known here, in its usual spelling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Zone(String);

/// Why a text names no time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone {name:?}")]
pub struct ZoneError {
    /// The text, cut to 64 characters.
    pub name: String,
    /// A zone that it may mean.
    pub near: Option<String>,
}

impl ZoneError {
    /// What the writer can do.
    pub fn hint(&self) -> String {
        match &self.near {
            Some(near) => format!("Did you mean {near:?}?"),
            None => "Write a name of the IANA database, as in \"Asia/Taipei\", \"Europe/Berlin\" or \"UTC\"."
                .to_owned(),
        }
    }
}

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self("UTC".to_owned())
    }

    /// Looks a zone up, whatever the case of its letters.
    pub fn new(name: &str) -> Result<Self, ZoneError> {
        let unknown = || ZoneError { name: name.chars().take(64).collect(), near: near(name) };
        // These count leap seconds, or are the same again.
        if name.starts_with("right/") || name.starts_with("posix/") {
            return Err(unknown());
        }
        let zone = TimeZone::get(name).map_err(|_| unknown())?;
        zone.iana_name().map(|name| Self(name.to_owned())).ok_or_else(unknown)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The zone's rules. None when the database of this machine does not know it any more.
    pub fn rules(&self) -> Option<TimeZone> {
        TimeZone::get(&self.0).ok()
    }
}

/// A zone whose last part is the text: people write cities.
fn near(text: &str) -> Option<String> {
    let wanted = text.rsplit('/').next().unwrap_or_default().trim().replace(' ', "_");
    let is_wanted =
        |name: &str| name.rsplit('/').next().is_some_and(|city| city.eq_ignore_ascii_case(&wanted));
    tz::db()
        .available()
        .map(|name| name.as_str().to_owned())
        .find(|name| name.contains('/') && is_wanted(name))
}

impl std::str::FromStr for Zone {
    type Err = ZoneError;

    fn from_str(name: &str) -> Result<Self, ZoneError> {
        Self::new(name)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_their_names_alone() {
        for (text, name) in [
            ("Asia/Taipei", "Asia/Taipei"),
            ("europe/berlin", "Europe/Berlin"),
            ("UTC", "UTC"),
            ("Australia/Lord_Howe", "Australia/Lord_Howe"),
        ] {
            assert_eq!(Zone::new(text).unwrap().as_str(), name);
            assert!(Zone::new(text).unwrap().rules().is_some());
        }
        for bad in [
            "",
            " ",
            "Mars/Olympus",
            "+08:00",
            "../../etc/passwd",
            "EST5EDT4,M3.2.0,M11.1.0",
            "right/UTC",
            "x\0y",
        ] {
            assert!(Zone::new(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Zone::new("Taipei").unwrap_err().hint(), "Did you mean \"Asia/Taipei\"?");
        assert_eq!(Zone::new("new york").unwrap_err().hint(), "Did you mean \"America/New_York\"?");
    }
}
