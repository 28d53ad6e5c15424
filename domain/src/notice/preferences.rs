//! What a user wants to be told of by e-mail, where, and in which language.

use super::Event;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A user's wishes. Without an address nothing is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Preferences {
    /// Where to.
    pub email: Option<EmailAddress>,
    /// In which language.
    pub language: Language,
    /// What of.
    pub events: BTreeSet<Event>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { email: None, language: Language::default(), events: Event::USUAL.into_iter().collect() }
    }
}

impl Preferences {
    /// The address that is told of `event`, if one is.
    pub fn address(&self, event: Event) -> Option<&EmailAddress> {
        self.email.as_ref().filter(|_| self.events.contains(&event))
    }
}

/// The languages there are words in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Language {
    /// English.
    #[default]
    #[serde(rename = "en")]
    English,
    /// Traditional Chinese, as written in Taiwan.
    #[serde(rename = "zh-TW")]
    Chinese,
}

impl Language {
    /// The language as a BCP 47 tag.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh-TW",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Language {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = [Self::English, Self::Chinese].into_iter().find(|l| l.as_str() == text);
        found.ok_or("language is en or zh-TW")
    }
}

/// An e-mail address: what RFC 5321 allows without quoting, in at most 254 characters, so that it can neither break a
/// header nor be taken for two.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("email is an address such as ann@example.org, in at most 254 characters")]
pub struct EmailError;

impl EmailAddress {
    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EmailAddress {
    type Err = EmailError;

    fn from_str(text: &str) -> Result<Self, EmailError> {
        let (local, domain) = text.rsplit_once('@').ok_or(EmailError)?;
        let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
        let dots = |part: &str| !part.starts_with('.') && !part.ends_with('.') && !part.contains("..");
        let local_good = (1..=64).contains(&local.len()) && local.bytes().all(atom) && dots(local);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let good = text.len() <= 254 && local_good && domain.split('.').all(label);
        if good { Ok(Self(text.to_owned())) } else { Err(EmailError) }
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = EmailError;

    fn try_from(text: String) -> Result<Self, EmailError> {
        text.parse()
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> String {
        address.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let long = format!("{}@example.org", "a".repeat(65));
        for good in ["ann@example.org", "a.b+mothball@gpu-lab.example", "root@localhost", "o'neil@x.y"] {
            assert_eq!(good.parse::<EmailAddress>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "ann",
            "@example.org",
            "ann@",
            "ann@-x.org",
            "ann@x..org",
            ".ann@x.org",
            "ann smith@x.org",
            "ann@x.org,bob@x.org",
            "ann@x.org\r\nBcc: bob@x.org",
            "\"ann\"@x.org",
            &long,
        ] {
            assert_eq!(bad.parse::<EmailAddress>(), Err(EmailError), "{bad:?}");
        }
    }

    #[test]
    fn nobody_is_told_without_an_address_or_of_what_they_did_not_choose() {
        let mut wishes = Preferences::default();
        assert_eq!(wishes.address(Event::JobFailed), None);
        wishes.email = Some("ann@example.org".parse().unwrap());
        assert!(wishes.address(Event::JobFailed).is_some());
        assert_eq!(wishes.address(Event::JobSucceeded), None);
        let old: Preferences = serde_json::from_str("{}").unwrap();
        assert_eq!(old, Preferences::default());
    }
}
