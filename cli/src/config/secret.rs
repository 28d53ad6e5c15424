//! Settings that are secrets, or hold one: shown masked, whoever prints them.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands for a secret.
pub(crate) const MASK: &str = "***";

/// A text that is never shown.
#[derive(Debug, Clone)]
pub(crate) struct Secret(pub(crate) SecretString);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// A URL in which a password may stand: shown without it.
#[derive(Debug, Clone)]
pub(crate) struct SecretUrl(pub(crate) SecretString);

impl SecretUrl {
    /// Whether the setting is this word instead of a URL.
    pub(crate) fn is(&self, word: &str) -> bool {
        self.0.expose_secret() == word
    }

    /// What stands before `://`; nothing when it is no URL.
    pub(crate) fn scheme(&self) -> Option<&str> {
        self.0.expose_secret().split_once("://").map(|(scheme, _)| scheme)
    }

    /// The URL with its password masked.
    pub(crate) fn masked(&self) -> String {
        mask_url(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(text.into()))
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

/// Masks the password of a URL. Not with a URL parser: a password with a character that ought to be escaped would be
/// read as something else, and shown.
fn mask_url(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        // Not a URL. If it nevertheless holds credentials, none of it is shown.
        return if text.contains('@') { MASK.to_owned() } else { text.to_owned() };
    };
    match rest.rsplit_once('@') {
        None => text.to_owned(),
        Some((credentials, place)) => match credentials.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:{MASK}@{place}"),
            None => format!("{scheme}://{MASK}@{place}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_masked() {
        for (url, shown) in [
            ("embedded", "embedded"),
            ("redis://cache:6379/0", "redis://cache:6379/0"),
            ("redis://:geheim@cache:6379/0", "redis://:***@cache:6379/0"),
            ("amqp://me:geheim@broker:5672/%2f", "amqp://me:***@broker:5672/%2f"),
            ("amqp://me:ge@he/im@broker/", "amqp://me:***@broker/"),
            ("amqp://geheim@broker/", "amqp://***@broker/"),
            ("me:geheim@broker", "***"),
        ] {
            assert_eq!(mask_url(url), shown);
        }
    }

    #[test]
    fn debug_and_json_show_no_secret() {
        let secret: Secret = serde_json::from_str("\"geheim\"").unwrap();
        let url: SecretUrl = serde_json::from_str("\"redis://:geheim@a\"").unwrap();
        let shown = format!("{secret:?} {url:?} {} {}", serde_json::json!(secret), serde_json::json!(url));
        assert!(!shown.contains("geheim"), "{shown}");
    }
}
