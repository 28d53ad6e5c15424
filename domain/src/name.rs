//! Names that people choose, and their bounds. They become paths, labels and repository names, so a
//! name that does not keep the rule never becomes a value of these types.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not a name of the wanted kind. Its message states the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {rule}")]
pub struct NameError {
    /// What kind of name was wanted: "tag", "container name", …
    pub what: &'static str,
    /// The text that was given, cut to 64 characters.
    pub text: String,
    /// The rule in words.
    pub rule: &'static str,
}

fn error(what: &'static str, text: &str, rule: &'static str) -> NameError {
    NameError { what, text: text.chars().take(64).collect(), rule }
}

fn matches(
    text: &str,
    first: fn(u8) -> bool,
    rest: fn(u8) -> bool,
    len: std::ops::RangeInclusive<usize>,
) -> bool {
    let bytes = text.as_bytes();
    len.contains(&bytes.len()) && first(bytes[0]) && bytes[1..].iter().all(|b| rest(*b))
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $len:expr, $first:expr, $rest:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The rule in words, for error messages and documents.
            pub const RULE: &'static str = $rule;

            /// Checks `text` against the rule.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                if matches(&text, $first, $rest, $len) {
                    Ok(Self(text))
                } else {
                    Err(error($what, &text, $rule))
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn lower_or_digit(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

fn lower_digit_dash(b: u8) -> bool {
    lower_or_digit(b) || b == b'_' || b == b'-'
}

name_type!(
    /// A container's name, unique among the project's containers that still exist.
    ContainerName, "container name",
    "2 to 63 characters: a lower-case letter, then lower-case letters, digits, '_' or '-'",
    2..=63, |b| b.is_ascii_lowercase(), lower_digit_dash
);
name_type!(
    /// A user's name.
    UserName, "user name",
    "1 to 63 characters: a lower-case letter or digit, then lower-case letters, digits, '_' or '-'",
    1..=63, lower_or_digit, lower_digit_dash
);
name_type!(
    /// A project's name.
    ProjectName, "project name",
    "1 to 63 characters: a lower-case letter or digit, then lower-case letters, digits, '_' or '-'",
    1..=63, lower_or_digit, lower_digit_dash
);
name_type!(
    /// A node's name; a host name is one.
    NodeName, "node name",
    "1 to 63 characters: letters, digits, '.', '_' or '-', first a letter or digit",
    1..=63, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);
name_type!(
    /// A flavor's name.
    FlavorName, "flavor name",
    "1 to 63 characters: letters, digits, '.', '_' or '-', first a letter or digit",
    1..=63, |b| b.is_ascii_alphanumeric(), |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);
name_type!(
    /// An image's tag, by the rule of the OCI distribution specification.
    Tag, "tag",
    "1 to 128 characters: letters, digits, '.', '_' or '-', first a letter, digit or '_'",
    1..=128, |b| b.is_ascii_alphanumeric() || b == b'_',
    |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')
);

/// The beginning of tags that Mothball keeps for itself in a registry (see `image::hidden_tag`).
pub const HIDDEN_TAG_PREFIX: &str = "_mothball-";

impl Tag {
    /// Whether the tag is one of Mothball's own, which no user may take.
    pub fn is_hidden(&self) -> bool {
        self.0.starts_with(HIDDEN_TAG_PREFIX)
    }
}

/// An image's name inside a project: one path component by the rule of the OCI distribution
/// specification (`[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`), at most 128 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

impl ImageName {
    /// The rule in words.
    pub const RULE: &'static str =
        "1 to 128 characters: lower-case letters and digits, with single '.', '_', '__' or '-' between them";

    /// Checks `text` against the rule.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        if Self::keeps_rule(&text) { Ok(Self(text)) } else { Err(error("image name", &text, Self::RULE)) }
    }

    /// Makes a name from any text, by dropping what the rule forbids; `image` when nothing is left.
    pub fn sanitized(text: &str) -> Self {
        let mut name = String::new();
        for c in text.to_ascii_lowercase().chars() {
            let separator = matches!(c, '.' | '_' | '-');
            let after_separator = name.chars().last().is_none_or(|l| matches!(l, '.' | '_' | '-'));
            if (c.is_ascii_alphanumeric() || (separator && !after_separator)) && name.len() < 128 {
                name.push(c);
            }
        }
        let trimmed = name.trim_end_matches(['.', '_', '-']);
        Self(if trimmed.is_empty() { "image".to_owned() } else { trimmed.to_owned() })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn keeps_rule(text: &str) -> bool {
        let bytes = text.as_bytes();
        let ends_well = |b: Option<&u8>| b.is_some_and(|b| lower_or_digit(*b));
        let mut run = String::new();
        (1..=128).contains(&bytes.len())
            && ends_well(bytes.first())
            && ends_well(bytes.last())
            && text.chars().all(|c| {
                if c.is_ascii_lowercase() || c.is_ascii_digit() {
                    run.clear();
                    return true;
                }
                run.push(c);
                run == "." || run == "_" || run == "__" || run.chars().all(|c| c == '-')
            })
    }
}

impl TryFrom<String> for ImageName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> String {
        name.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Most launcher environment variables a container may be given.
pub const ENV_COUNT_MAX: usize = 200;
/// Longest value of a launcher environment variable, in bytes.
pub const ENV_VALUE_BYTES_MAX: usize = 32 * 1024;

/// Checks a launcher environment variable: a shell-style name that is not `NVIDIA_*` (those choose
/// GPUs, which is Mothball's to do), a value without NUL of at most 32 KiB.
pub fn check_env(key: &str, value: &str) -> Result<(), NameError> {
    const RULE: &str = "a letter or '_', then letters, digits or '_', at most 128 characters";
    let named = matches(
        key,
        |b| b.is_ascii_alphabetic() || b == b'_',
        |b| b.is_ascii_alphanumeric() || b == b'_',
        1..=128,
    );
    if !named {
        return Err(error("environment variable", key, RULE));
    }
    if key.starts_with("NVIDIA_") {
        return Err(error(
            "environment variable",
            key,
            "NVIDIA_* choose the GPUs and are set by Mothball itself",
        ));
    }
    if value.contains('\0') || value.len() > ENV_VALUE_BYTES_MAX {
        return Err(error("value of environment variable", key, "at most 32 KiB, without NUL"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_keep_their_bounds() {
        for good in ["a1", "my-box", "a_b-c9", &"a".repeat(63)] {
            assert!(ContainerName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "1a", "-a", "A1", "a b", "a.b", "ä1", &"a".repeat(64)] {
            assert!(ContainerName::new(bad).is_err(), "{bad}");
        }
        for good in ["a", "_x", "dup1", "v1.0-rc_2", "A", &"t".repeat(128)] {
            assert!(Tag::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".a", "-a", "a/b", "a:b", "a b", "標籤", &"t".repeat(129)] {
            assert!(Tag::new(bad).is_err(), "{bad}");
        }
        for good in ["tensorrt-19.08-py3", "a", "a__b", "a--b", "9"] {
            assert!(ImageName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a..b", "a___b", "-a", "a-", "a/b", "a._b"] {
            assert!(ImageName::new(bad).is_err(), "{bad}");
        }
        for bad in ["", "Ab", "_a", "../x", "a/b"] {
            assert!(ProjectName::new(bad).is_err() && UserName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn launcher_env_is_checked() {
        assert!(check_env("API_KEY", "secret").is_ok());
        for bad in ["", "1A", "A-B", "A B", "NVIDIA_VISIBLE_DEVICES"] {
            assert!(check_env(bad, "x").is_err(), "{bad}");
        }
        assert!(check_env("A", "x\0y").is_err());
    }

    #[test]
    fn an_error_never_repeats_more_than_64_characters() {
        let e = Tag::new("/".repeat(5000)).unwrap_err();
        assert!(e.to_string().len() < 300);
    }

    proptest! {
        #[test]
        fn sanitized_names_keep_the_rule(text in ".{0,200}") {
            prop_assert!(ImageName::new(ImageName::sanitized(&text).as_str()).is_ok());
        }

        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = (Tag::new(text.clone()), ContainerName::new(text.clone()), ImageName::new(text.clone()), NodeName::new(text));
        }
    }
}
