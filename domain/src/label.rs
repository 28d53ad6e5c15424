//! Labels that people put on their containers, and selectors that choose containers by them.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Most labels of one container, and of one selector.
pub const LABELS_MAX: usize = 32;
/// Longest key, and longest value, in characters.
pub const LABEL_CHARS_MAX: usize = 63;

/// Labels: keys and values that mean nothing to Mothball.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(BTreeMap<String, String>);

/// Why texts are no labels. Its message states the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LabelError(String);

impl Labels {
    /// The rule in words.
    pub const RULE: &'static str = "at most 32 labels; a key is 1 to 63 characters: a lower-case letter, then lower-case letters, \
        digits, '.', '_', '-' or '/'; a value is at most 63 characters: letters, digits, '.', '_', '-' or ':'";

    /// Checks keys and values.
    pub fn new(labels: BTreeMap<String, String>) -> Result<Self, LabelError> {
        if labels.len() > LABELS_MAX {
            return Err(LabelError(format!("{} labels are too many: {}", labels.len(), Self::RULE)));
        }
        for (key, value) in &labels {
            if !is_key(key) || !is_value(value) {
                let cut = |text: &str| text.chars().take(64).collect::<String>();
                let what = format!("{}={}", cut(key), cut(value));
                return Err(LabelError(format!("label {what:?} is not valid: {}", Self::RULE)));
            }
        }
        Ok(Self(labels))
    }

    /// The labels by their keys.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a thing with the labels `of` is chosen: it has every one of these.
    pub fn choose(&self, of: &Self) -> bool {
        self.0.iter().all(|(key, value)| of.0.get(key) == Some(value))
    }
}

fn is_key(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'/');
    let bytes = text.as_bytes();
    (1..=LABEL_CHARS_MAX).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.iter().all(|b| rest(*b))
}

fn is_value(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
    text.len() <= LABEL_CHARS_MAX && text.bytes().all(good)
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = LabelError;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, LabelError> {
        Self::new(labels)
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        labels.0
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Result<Labels, LabelError> {
        Labels::new(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn labels_keep_their_bounds() {
        let long = "a".repeat(63);
        for good in [("team", "vision"), ("a", ""), ("org/team.x", "A-1_b:2"), (&long, &long)] {
            assert!(labels(&[good]).is_ok(), "{good:?}");
        }
        let longer = "a".repeat(64);
        for bad in [
            ("", "x"),
            ("Team", "x"),
            ("1a", "x"),
            ("a b", "x"),
            ("a", "x y"),
            ("a", "é"),
            (&longer, "x"),
            ("a", &longer),
        ] {
            assert!(labels(&[bad]).is_err(), "{bad:?}");
        }
        let many = (0..33).map(|i| (format!("k{i}"), String::new())).collect();
        assert!(Labels::new(many).is_err());
    }

    #[test]
    fn a_selector_chooses_what_has_all_of_it() {
        let thing = labels(&[("team", "vision"), ("night", "off")]).unwrap();
        assert!(labels(&[("team", "vision")]).unwrap().choose(&thing));
        assert!(labels(&[("team", "vision"), ("night", "off")]).unwrap().choose(&thing));
        assert!(!labels(&[("team", "audio")]).unwrap().choose(&thing));
        assert!(!labels(&[("gpu", "")]).unwrap().choose(&thing));
        assert!(Labels::default().choose(&thing));
        assert_eq!(thing.to_string(), "night=off,team=vision");
    }
}
