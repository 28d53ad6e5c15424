//! What this machine can do at best, measured in the same run: what a save or a launch cannot be faster than.

mod files;
mod hashing;
mod ingest;

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::rig::Rig;

/// One limit.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    /// What is limited.
    pub(crate) what: String,
    /// How much of it in a second.
    pub(crate) per_second: f64,
    /// Of what: `MB`, `entries`.
    pub(crate) unit: &'static str,
}

impl Limit {
    fn new(what: impl Into<String>, per_second: f64, unit: &'static str) -> Self {
        Self { what: what.into(), per_second, unit }
    }

    /// The figure for people.
    pub(crate) fn shown(&self) -> String {
        format!("{:.0} {}/s", self.per_second, self.unit)
    }
}

/// Measures them all; `tree` is W1's.
pub(crate) async fn measure(tree: &Path, rig: &Rig) -> Result<Vec<Limit>> {
    let tree = tree.to_owned();
    let alone = tokio::task::spawn_blocking(move || -> Result<Vec<Limit>> {
        let mut limits = hashing::limits();
        limits.extend(files::limits(&tree)?);
        Ok(limits)
    });
    let mut limits = alone.await??;
    limits.extend(ingest::limits(&rig.docker_registry).await?);
    Ok(limits)
}
