//! What can go wrong with a job, in classes that a person understands.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of thing went wrong. The set is closed: it is a metric label and part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The registry refused the credentials.
    Auth,
    /// A quota of the project or of the registry is used up.
    Quota,
    /// The image is larger than the registry or the engine takes.
    TooLarge,
    /// The node's disk is full, or has too little room for the work.
    NodeDisk,
    /// A server could not be reached, or a connection broke.
    Network,
    /// Docker Engine refused or broke.
    Engine,
    /// The registry answered with an error, or does not hold what it took.
    Registry,
    /// What the job is about does not exist any more.
    Gone,
    /// Something took longer than its limit.
    Timeout,
    /// A defect of Mothball itself.
    Internal,
}

impl FailureClass {
    /// Every class, for documents and tables.
    pub const ALL: [Self; 10] = [
        Self::Auth,
        Self::Quota,
        Self::TooLarge,
        Self::NodeDisk,
        Self::Network,
        Self::Engine,
        Self::Registry,
        Self::Gone,
        Self::Timeout,
        Self::Internal,
    ];

    /// The class as it stands in JSON and in metric labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Quota => "quota",
            Self::TooLarge => "too_large",
            Self::NodeDisk => "node_disk",
            Self::Network => "network",
            Self::Engine => "engine",
            Self::Registry => "registry",
            Self::Gone => "gone",
            Self::Timeout => "timeout",
            Self::Internal => "internal",
        }
    }

    /// What the reader of the error can do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Auth => {
                "Ask the operator to check the registry's user name and password file; then retry the job."
            }
            Self::Quota => {
                "Delete images that are no longer needed or ask for more quota; then retry the job."
            }
            Self::TooLarge => "Delete large files in the container or move them to a mount; then save again.",
            Self::NodeDisk => "Ask the operator to free disk space on the node; then retry the job.",
            Self::Network => "Check that the registry and the node can reach each other; then retry the job.",
            Self::Engine => "Ask the operator to look at Docker Engine on the node; then retry the job.",
            Self::Registry => "Ask the operator to look at the registry; then retry the job.",
            Self::Gone => {
                "Nothing is left to do for this job; list containers and images to see what exists."
            }
            Self::Timeout => {
                "Retry the job; if it happens again, ask the operator to look at the node and the registry."
            }
            Self::Internal => "Retry the job; if it happens again, report it with the job's id.",
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a failed job shows its owner: a class, a sentence, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind of trouble.
    pub class: FailureClass,
    /// One sentence; never holds a secret.
    pub message: String,
    /// What the reader can do.
    pub hint: String,
    /// Whether another attempt may help.
    #[serde(default)]
    pub disposition: Disposition,
}

/// Whether another attempt may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Another attempt may succeed.
    #[default]
    Transient,
    /// Another attempt would end the same way.
    Permanent,
}

/// Longest message kept of a failure, in characters.
const MESSAGE_CHARS_MAX: usize = 1000;

impl Failure {
    /// A failure that another attempt may cure.
    pub fn transient(class: FailureClass, message: impl Into<String>) -> Self {
        Self::new(class, message, Disposition::Transient)
    }

    /// A failure that another attempt would only repeat.
    pub fn permanent(class: FailureClass, message: impl Into<String>) -> Self {
        Self::new(class, message, Disposition::Permanent)
    }

    /// Replaces the class's general hint by a better one.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Whether another attempt would only repeat it.
    pub fn is_permanent(&self) -> bool {
        self.disposition == Disposition::Permanent
    }

    fn new(class: FailureClass, message: impl Into<String>, disposition: Disposition) -> Self {
        let message: String = message.into().chars().take(MESSAGE_CHARS_MAX).collect();
        Self { class, message, hint: class.hint().to_owned(), disposition }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_a_name_that_serde_agrees_with_and_a_hint_that_is_a_sentence() {
        for class in FailureClass::ALL {
            assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
            assert!(class.hint().ends_with('.'), "{class}");
        }
    }

    #[test]
    fn a_message_is_bounded() {
        assert_eq!(Failure::transient(FailureClass::Engine, "x".repeat(9999)).message.len(), 1000);
    }
}
