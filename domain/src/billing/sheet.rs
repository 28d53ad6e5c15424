//! The ledger: what cost reports read. It is written with the container's record and outlives it.

use super::stretch::{Rate, Stored, Stretch};
use crate::id::ContainerId;
use crate::name::{ContainerName, ProjectName, UserName};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Lines of a sheet. A container that is parked every night fills a few sheets a month, and its record keeps only the
/// newest.
pub const SHEET_LINES: usize = 16;

/// A stretch, with what it is metered at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When it began.
    pub from: Timestamp,
    /// When it ended; none while it lasts.
    pub to: Option<Timestamp>,
    /// Flavor and price.
    pub rate: Rate,
    /// What was stored, where the container was parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<Stored>,
}

/// A page of the ledger: stretches of one container, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sheet {
    /// The container.
    pub container: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// The project that pays.
    pub project: ProjectName,
    /// Who launched it.
    pub user: UserName,
    /// The stretches, oldest first: at most [`SHEET_LINES`].
    pub lines: Vec<Line>,
}

impl Sheet {
    /// When its last line ended; none while that lasts.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.lines.last().and_then(|line| line.to)
    }
}

impl Line {
    pub(crate) fn of(stretch: &Stretch, rate: &Rate) -> Self {
        Self {
            from: stretch.from,
            to: stretch.to,
            rate: stretch.rate.clone().unwrap_or_else(|| rate.clone()),
            stored: stretch.stored.clone(),
        }
    }
}
