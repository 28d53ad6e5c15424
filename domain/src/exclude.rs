//! What a save leaves out: patterns over paths in the container, in the syntax of `.gitignore`.
//!
//! | pattern | leaves out |
//! |---|---|
//! | `/root/.cache` | that path and all below it |
//! | `*.ckpt` (no slash) | whatever has such a name, anywhere |
//! | `/data/**/tmp/` | directories of that name below `/data`, with all that is in them |
//! | `/data/*.bin` | `*` and `?` never match a slash; `[ab]` and `{a,b}` are alternatives |
//!
//! A pattern with a slash counts from the container's root, whether it begins with one or not. A pattern cannot bring
//! back what another one leaves out.

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Most patterns of one save, and of one project.
pub const EXCLUDES_MAX: usize = 64;
/// Longest pattern, in bytes.
const PATTERN_LEN_MAX: usize = 256;

/// One pattern that keeps its rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Exclude(String);

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("exclude pattern {text:?} is not valid: {rule}")]
pub struct ExcludeError {
    /// The text that was given, cut to 64 characters.
    pub text: String,
    /// The rule that it does not keep.
    pub rule: String,
}

impl Exclude {
    /// Checks a pattern.
    pub fn new(text: impl Into<String>) -> Result<Self, ExcludeError> {
        let text = text.into();
        let refuse = |rule: String| ExcludeError { text: text.chars().take(64).collect(), rule };
        if let Some(rule) = broken_rule(&text) {
            return Err(refuse(rule.to_owned()));
        }
        // A glob can be well formed and its children's not: a trailing backslash escapes what follows.
        for glob in globs(&text) {
            parse(&glob).map_err(|error| refuse(format!("it is no glob: {}", error.kind())))?;
        }
        Ok(Self(text))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    let parts = || text.split('/').filter(|part| !part.is_empty());
    if text.is_empty() || text.len() > PATTERN_LEN_MAX {
        return Some("it has 1 to 256 bytes");
    }
    if text.chars().any(char::is_control) {
        return Some("it holds no control characters");
    }
    if text.starts_with('!') {
        return Some(
            "it cannot bring back what another pattern leaves out: begin a name with '!' as \"\\!\"",
        );
    }
    if parts().any(|part| matches!(part, "." | "..")) {
        return Some("it names paths of the container without \".\" and \"..\"");
    }
    if parts().all(|part| part.bytes().all(|b| b == b'*')) {
        return Some("it would leave out everything");
    }
    None
}

fn parse(glob: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build()
}

/// The glob of the path itself, and the one of what is below it; paths are relative to the container's root.
fn globs(pattern: &str) -> [String; 2] {
    let path = pattern.trim_end_matches('/');
    let from_root = path.contains('/');
    let path = path.trim_start_matches('/');
    let path = if from_root { path.to_owned() } else { format!("**/{path}") };
    let below = format!("{path}/**");
    [path, below]
}

impl TryFrom<String> for Exclude {
    type Error = ExcludeError;
    fn try_from(text: String) -> Result<Self, ExcludeError> {
        Self::new(text)
    }
}

impl std::str::FromStr for Exclude {
    type Err = ExcludeError;
    fn from_str(text: &str) -> Result<Self, ExcludeError> {
        Self::new(text)
    }
}

impl From<Exclude> for String {
    fn from(pattern: Exclude) -> String {
        pattern.0
    }
}

impl fmt::Display for Exclude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Patterns, ready to be asked about many paths.
#[derive(Debug, Clone)]
pub struct Excluder {
    any: GlobSet,
    directories: GlobSet,
    is_empty: bool,
}

impl Excluder {
    /// Makes patterns ready.
    pub fn new(patterns: &[Exclude]) -> Result<Self, ExcludeError> {
        let (mut any, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let too_large = |text: &str, error: &globset::Error| ExcludeError {
            text: text.chars().take(64).collect(),
            rule: format!("it is no glob: {}", error.kind()),
        };
        for pattern in patterns {
            let text = pattern.as_str();
            let [path, below] = globs(text);
            let of_path = if text.ends_with('/') { &mut directories } else { &mut any };
            of_path.add(parse(&path).map_err(|e| too_large(text, &e))?);
            any.add(parse(&below).map_err(|e| too_large(text, &e))?);
        }
        let build = |set: &GlobSetBuilder| set.build().map_err(|e| too_large("", &e));
        Ok(Self { any: build(&any)?, directories: build(&directories)?, is_empty: patterns.is_empty() })
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Whether this path is left out. `path` is relative to the container's root, without a slash at either end, in the
    /// bytes that the file system has. What is below a directory that is left out is left out too.
    pub fn leaves_out(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(OsStr::from_bytes(path));
        !self.is_empty && (self.any.is_match(path) || (is_directory && self.directories.is_match(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn excluder(patterns: &[&str]) -> Excluder {
        let patterns: Vec<Exclude> = patterns.iter().map(|p| Exclude::new(*p).unwrap()).collect();
        Excluder::new(&patterns).unwrap()
    }

    #[test]
    fn patterns_leave_out_what_the_table_says() {
        for (pattern, out, kept) in [
            (
                "/root/.cache",
                vec!["root/.cache", "root/.cache/pip/a"],
                vec!["root", "home/root/.cache", "root/.cachex"],
            ),
            ("*.ckpt", vec!["a.ckpt", "data/run/b.ckpt", "d.ckpt/below"], vec!["a.ckpt2", "ckpt"]),
            ("/data/*.bin", vec!["data/a.bin"], vec!["data/x/a.bin", "a.bin"]),
            ("/data/**/tmp", vec!["data/tmp", "data/a/b/tmp", "data/tmp/x"], vec!["tmp", "data/tmpx"]),
            ("data/tmp", vec!["data/tmp"], vec!["a/data/tmp"]),
            ("core.?", vec!["core.1", "a/core.2"], vec!["core.12"]),
            ("{a,b}[12]", vec!["a1", "x/b2"], vec!["a3", "c1"]),
            ("\\!odd", vec!["!odd"], vec!["odd"]),
        ] {
            let excluder = excluder(&[pattern]);
            for path in out {
                assert!(excluder.leaves_out(path.as_bytes(), false), "{pattern} keeps {path}");
            }
            for path in kept {
                assert!(!excluder.leaves_out(path.as_bytes(), false), "{pattern} leaves out {path}");
            }
        }
    }

    #[test]
    fn a_slash_at_the_end_means_directories_alone() {
        let excluder = excluder(&["build/"]);
        assert!(excluder.leaves_out(b"src/build", true) && !excluder.leaves_out(b"src/build", false));
        assert!(excluder.leaves_out(b"src/build/a.o", false));
    }

    #[test]
    fn names_that_are_not_utf8_are_matched() {
        assert!(excluder(&["*.ckpt"]).leaves_out(b"caf\xe9.ckpt", false));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_rule() {
        for (bad, rule) in [
            ("", "1 to 256"),
            (&"a".repeat(257), "1 to 256"),
            ("!keep", "bring back"),
            ("/a/../b", "\"..\""),
            ("/", "everything"),
            ("*", "everything"),
            ("/**/*", "everything"),
            ("a\nb", "control"),
            ("[a", "no glob"),
            ("{a", "no glob"),
            ("a\\", "no glob"),
        ] {
            let error = Exclude::new(bad).unwrap_err().to_string();
            assert!(error.contains(rule), "{bad}: {error}");
        }
        assert!(serde_json::from_str::<Exclude>("\"[a\"").is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_can_be_used(text in "[ -~]{0,40}", path in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(pattern) = Exclude::new(text.as_str()) {
                let excluder = Excluder::new(&[pattern]).unwrap();
                let _ = excluder.leaves_out(&path, true);
            }
        }

        #[test]
        fn a_plain_absolute_path_leaves_out_itself_and_what_is_below(parts in prop::collection::vec("[a-z0-9_.-]{1,8}", 1..5)) {
            prop_assume!(parts.iter().all(|p| p != "." && p != ".."));
            let path = parts.join("/");
            let excluder = excluder(&[&format!("/{path}")]);
            prop_assert!(excluder.leaves_out(path.as_bytes(), false));
            let below = format!("{path}/below");
            prop_assert!(excluder.leaves_out(below.as_bytes(), false));
            let beside = format!("{path}x");
            prop_assert!(!excluder.leaves_out(beside.as_bytes(), false));
        }
    }
}
