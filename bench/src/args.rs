//! What `make bench ARGS="…"` may ask for.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::rivals::{Rival, Way};
use crate::workload::{Size, Workload};

/// Saves and launches beside docker commit + push + pull and buildah, in one run; a report with ratios.
#[derive(Clone, Debug, Parser)]
#[command(name = "mothball-bench", version)]
pub(crate) struct Args {
    /// How much: `ci` for small machines and quick looks, `standard`, or `full`, which adds W4 (12 GB).
    #[arg(long, value_enum, default_value_t = Size::Standard)]
    pub(crate) size: Size,
    /// Only these workloads, such as `w1,w3`.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) only: Vec<Workload>,
    /// Beside whom.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Rival::Docker, Rival::Buildah])]
    pub(crate) rivals: Vec<Rival>,
    /// How Mothball saves; `auto` takes the engine's way where the direct one is closed.
    #[arg(long, value_enum, default_value_t = Way::Direct)]
    pub(crate) way: Way,
    /// Rounds of each workload, instead of 3, 2, 2 and 1.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) rounds: Option<u32>,
    /// Adds where the time goes, step by step, beside this machine's own limits.
    #[arg(long)]
    pub(crate) profile: bool,
    /// Where the report is written, and W1's packages are kept between runs.
    #[arg(long, default_value = "target/bench")]
    pub(crate) out: PathBuf,
}

impl Args {
    /// The workloads of this run, in order.
    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let asked = |workload: &Workload| {
            if self.only.is_empty() { workload.is_in(self.size) } else { self.only.contains(workload) }
        };
        Workload::value_variants().iter().copied().filter(asked).collect()
    }

    /// Rounds of a workload.
    pub(crate) fn rounds(&self, workload: Workload) -> u32 {
        self.rounds.unwrap_or_else(|| workload.rounds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Args {
        Args::parse_from([&["mothball-bench"], words].concat())
    }

    #[test]
    fn twelve_gigabytes_are_written_only_when_asked_for() {
        assert_eq!(parse(&[]).workloads(), [Workload::W1, Workload::W2, Workload::W3]);
        assert_eq!(parse(&["--size", "ci"]).workloads(), [Workload::W1, Workload::W2, Workload::W3]);
        assert_eq!(parse(&["--size", "full"]).workloads().len(), 4);
        assert_eq!(parse(&["--only", "w4"]).workloads(), [Workload::W4]);
    }

    #[test]
    fn workloads_keep_their_order_and_rounds_can_be_set() {
        let args = parse(&["--only", "w3,w1", "--rounds", "5"]);
        assert_eq!(args.workloads(), [Workload::W1, Workload::W3]);
        assert_eq!(args.rounds(Workload::W3), 5);
        assert!(parse(&[]).rounds(Workload::W1) > parse(&[]).rounds(Workload::W2));
    }
}
