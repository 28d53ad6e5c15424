//! How a command ends when it does not end well: a sentence, a hint, and the exit code.

use std::fmt;

/// The exit codes of every command, apart from 0 for done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// The operation failed.
    Failed = 1,
    /// The command or the configuration is not right.
    Usage = 2,
    /// The server cannot be reached.
    Unreachable = 3,
    /// Not allowed, or not signed in.
    NotAllowed = 4,
}

/// Why a command did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fail {
    /// How the process ends.
    pub(crate) code: Code,
    /// What is wrong, in a sentence.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Fail {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        self.hint = (!hint.is_empty()).then_some(hint);
        self
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

impl std::error::Error for Fail {}

impl From<anyhow::Error> for Fail {
    fn from(error: anyhow::Error) -> Self {
        error.downcast::<Self>().unwrap_or_else(|other| Self::failed(format!("{other:#}")))
    }
}

impl From<crate::config::ConfigError> for Fail {
    fn from(error: crate::config::ConfigError) -> Self {
        let text = error.to_string();
        match text.split_once("\nhint: ") {
            Some((message, hint)) => Self::usage(message).hint(hint),
            None => Self::usage(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fail_keeps_its_code_on_the_way_through_anyhow() {
        let fail = Fail::usage("no").hint("yes");
        assert_eq!(Fail::from(anyhow::Error::new(fail.clone())), fail);
        assert_eq!(fail.to_string(), "error: no\nhint: yes");
        let other = Fail::from(anyhow::anyhow!("inner").context("open store"));
        assert_eq!((other.code, other.message.as_str()), (Code::Failed, "open store: inner"));
        assert_eq!(Fail::usage("no").hint("").hint, None);
    }
}
