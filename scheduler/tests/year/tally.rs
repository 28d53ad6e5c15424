//! What happened in the year, counted: a year in which nothing goes wrong proves nothing.

use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::fmt;

/// How often each thing happened.
#[derive(Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(crate) fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// Refuses a year in which one of these did not happen.
    pub(crate) fn require(&self, all: &[&'static str]) -> Result<()> {
        for what in all {
            ensure!(self.0.contains_key(what), "in this year there was no {what}: {self}");
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(|(what, count)| format!("{count} {what}")).collect();
        f.write_str(&parts.join(", "))
    }
}
