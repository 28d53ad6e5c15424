//! What a run found: as Markdown for people, as SVG for pages, as JSON for programs.

mod facts;
mod goals;
mod markdown;
mod profile;
mod sample;
mod spread;
mod svg;
mod table;
mod units;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

pub(crate) use facts::Facts;
pub(crate) use sample::Sample;

use crate::args::Args;
use crate::limits::{Limit, processors};
use crate::rivals::{Action, Who};
use crate::say;
use crate::workload::{Size, Workload};
use spread::Spread;

/// Everything that a run found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// How much was done.
    size: Size,
    /// Whether the profile was asked for.
    profile: bool,
    /// The machine, the versions.
    facts: Facts,
    /// Bytes on disk of each workload's writable layer.
    pub(crate) layers: BTreeMap<Workload, u64>,
    /// One for each save and each launch.
    pub(crate) samples: Vec<Sample>,
    /// Processors of the machine.
    processors: usize,
    /// What this machine can do at best; empty unless asked for.
    pub(crate) limits: Vec<Limit>,
    /// What a reader should know.
    pub(crate) notes: Vec<String>,
    /// Why the run ended before it was done.
    pub(crate) failure: Option<String>,
}

impl Report {
    /// Begins a report.
    pub(crate) fn new(args: &Args, facts: Facts) -> Self {
        Self {
            size: args.size,
            profile: args.profile,
            facts,
            layers: BTreeMap::new(),
            samples: Vec::new(),
            processors: processors(),
            limits: Vec::new(),
            notes: Vec::new(),
            failure: None,
        }
    }

    /// The report for people.
    pub(crate) fn markdown(&self) -> String {
        markdown::render(self)
    }

    /// Writes `report.md`, `report.svg` and `report.json`.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("write the report as JSON")?;
        for (name, text) in
            [("report.md", self.markdown()), ("report.svg", svg::render(self)), ("report.json", json)]
        {
            let file = out.join(name);
            std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
            say(&format!("written: {}", file.display()));
        }
        Ok(())
    }

    /// The workloads that there are samples of, in order.
    fn workloads(&self) -> Vec<Workload> {
        let mut found: Vec<Workload> = self.samples.iter().map(|sample| sample.workload).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Who did this, Mothball first.
    fn who(&self, workload: Workload, action: Action) -> Vec<Who> {
        let mut found: Vec<Who> = self.of(workload, action).map(|sample| sample.who).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn of(&self, workload: Workload, action: Action) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.workload == workload && sample.action == action)
    }

    /// A figure's spread over somebody's rounds; none where nobody took it.
    fn spread(
        &self,
        workload: Workload,
        action: Action,
        who: Who,
        figure: impl Fn(&Sample) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.of(workload, action).filter(|sample| sample.who == who).filter_map(figure))
    }

    /// The spread of the seconds that the user waits.
    fn waited(&self, workload: Workload, action: Action, who: Who) -> Option<Spread> {
        self.spread(workload, action, who, |sample| Some(sample.figures.waited_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Figures;
    use crate::rivals::Done;

    /// A run of W1: 8 s beside 154 s.
    pub(super) fn report() -> Report {
        let mut samples = Vec::new();
        let rounds = [
            (Who::Mothball, Action::Save, [7.9, 8.0, 8.1]),
            (Who::Docker, Action::Save, [154.0, 150.0, 161.0]),
            (Who::Mothball, Action::Launch, [8.0, 8.0, 8.0]),
            (Who::Docker, Action::Launch, [36.0, 39.0, 34.0]),
        ];
        for (who, action, seconds) in rounds {
            for (n, waited_s) in (1..).zip(seconds) {
                samples.push(sample(who, action, n, waited_s));
            }
        }
        Report {
            size: Size::Standard,
            profile: false,
            facts: Facts::default(),
            layers: BTreeMap::from([(Workload::W1, 2_650_000_000)]),
            samples,
            processors: 2,
            limits: Vec::new(),
            notes: Vec::new(),
            failure: None,
        }
    }

    fn sample(who: Who, action: Action, round: u32, waited_s: f64) -> Sample {
        let ours = who == Who::Mothball;
        let frozen = (action == Action::Save).then_some(if ours { 0.2 } else { 26.0 });
        let figures = Figures {
            waited_s,
            frozen_s: frozen,
            mothball_rss: 180_000_000,
            dockerd_rss: 120_000_000,
            node_bytes_peak: if ours { 4096 } else { 2_800_000_000 },
            ..Figures::default()
        };
        let done = Done { frozen_said_s: frozen.filter(|_| ours).map(|s| s + 0.02), ..Done::default() };
        Sample::new(Workload::W1, action, who, round, figures, done)
    }
}
