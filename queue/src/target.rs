//! Whom a wake-up is for.

use mothball_domain::name::NodeName;
use std::fmt;

/// Whom a wake-up is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The worker of one node: queue `mothball.node.<name>`.
    Node(NodeName),
    /// The worker of one node, which is to look at a container and not to run a job: queue `mothball.survey.<name>`. A
    /// queue of its own, so that neither waits for the other.
    Survey(NodeName),
    /// Whichever worker is free first: queue `mothball.any`.
    Any,
}

impl Target {
    /// The routing key, and what follows the prefix in the queue's name.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Node(name) => format!("node.{name}"),
            Self::Survey(name) => format!("survey.{name}"),
            Self::Any => "any".to_owned(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Survey(name) => write!(f, "surveys of node {name}"),
            Self::Any => f.write_str("any node"),
        }
    }
}
