//! What Mothball set out to reach, and whether it did.

use super::{Report, units};
use crate::rivals::{Action, Who};
use crate::workload::{Size, Workload};

/// What the index and the store may add to the node's disk in a save: it is not a copy of the layer.
const NOTES_BYTES: f64 = 32e6;
const MEMORY_BYTES: f64 = 256e6;

/// A goal.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// Docker takes at least so many times as long.
    Faster(Workload, Action, f64),
    /// The container stands still for at most so many seconds.
    Frozen(Workload, f64),
    /// The node's disk holds at most so many bytes more, at any moment of a save.
    NoCopy(Workload, f64),
    /// No save and no launch takes more memory than so many bytes.
    Memory(f64),
}

const GOALS: [Goal; 7] = [
    Goal::Faster(Workload::W1, Action::Save, 20.0),
    Goal::Faster(Workload::W2, Action::Save, 10.0),
    Goal::Faster(Workload::W3, Action::Save, 300.0),
    Goal::Frozen(Workload::W1, 0.25),
    Goal::NoCopy(Workload::W1, NOTES_BYTES),
    Goal::Faster(Workload::W1, Action::Launch, 5.0),
    Goal::Memory(MEMORY_BYTES),
];

/// A goal beside what was reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// What it is about.
    pub(crate) what: String,
    /// The goal in words.
    pub(crate) goal: String,
    /// What was reached.
    pub(crate) reached: String,
    /// The figures behind it.
    pub(crate) of: String,
    /// Met or missed, and by how much.
    pub(crate) outcome: String,
}

/// Every goal that this run can say something about.
pub(crate) fn verdicts(report: &Report) -> Vec<Verdict> {
    GOALS.iter().filter_map(|goal| verdict(*goal, report)).collect()
}

/// A word about the goals where they are not stated for workloads of this size.
pub(crate) fn caveat(size: Size) -> Option<&'static str> {
    (size == Size::Ci)
        .then_some("The goals are stated for the sizes of `--size standard`; this run was smaller.")
}

fn verdict(goal: Goal, report: &Report) -> Option<Verdict> {
    match goal {
        Goal::Faster(workload, action, wanted) => {
            let ours = report.waited(workload, action, Who::Mothball)?.median;
            let theirs = report.waited(workload, action, Who::Docker)?.median;
            Some(Verdict {
                what: format!(
                    "{} {}",
                    workload.name(),
                    if action == Action::Save { "save" } else { "launch" }
                ),
                goal: format!("{} faster", units::times(wanted)),
                reached: units::times(theirs / ours),
                of: format!("{} beside {}", units::seconds(ours), units::seconds(theirs)),
                outcome: at_least(theirs / ours, wanted),
            })
        }
        Goal::Frozen(workload, wanted) => {
            let frozen = |who| report.spread(workload, Action::Save, who, |sample| sample.figures.frozen_s);
            let ours = frozen(Who::Mothball)?.median;
            Some(Verdict {
                what: format!("{} container frozen", workload.name()),
                goal: format!("{} or less", units::seconds(wanted)),
                reached: units::seconds(ours),
                of: beside(frozen(Who::Docker).map(|theirs| units::seconds(theirs.median))),
                outcome: at_most(ours, wanted),
            })
        }
        Goal::NoCopy(workload, wanted) => {
            let disk = |who| {
                report
                    .spread(workload, Action::Save, who, |sample| Some(sample.figures.node_bytes_peak as f64))
            };
            let ours = disk(Who::Mothball)?;
            Some(Verdict {
                what: format!("{} extra disk on the node", workload.name()),
                goal: format!("none (notes: {} or less)", units::bytes(wanted)),
                reached: ours.bytes(),
                of: beside(disk(Who::Docker).map(super::Spread::bytes)),
                outcome: at_most(ours.median, wanted),
            })
        }
        Goal::Memory(wanted) => {
            let most = |who| {
                let of_who = report.samples.iter().filter(|sample| sample.who == who);
                of_who.map(super::Sample::memory).max().map(|bytes| bytes as f64)
            };
            let ours = most(Who::Mothball)?;
            Some(Verdict {
                what: "memory, at most".to_owned(),
                goal: format!("under {}", units::bytes(wanted)),
                reached: units::bytes(ours),
                of: beside(most(Who::Docker).map(units::bytes)),
                outcome: at_most(ours, wanted),
            })
        }
    }
}

fn beside(theirs: Option<String>) -> String {
    theirs.map_or_else(String::new, |theirs| format!("beside {theirs}"))
}

fn at_least(reached: f64, wanted: f64) -> String {
    said(reached >= wanted, reached / wanted)
}

fn at_most(reached: f64, wanted: f64) -> String {
    said(reached <= wanted, reached / wanted)
}

/// By how much what was reached lies beside what was wanted: in percent, and in times where that says more.
fn said(met: bool, share: f64) -> String {
    let word = if met { "met" } else { "missed" };
    let percent = (share - 1.0).abs() * 100.0;
    match share {
        share if share >= 3.0 => format!("{word}, {} of it", units::times(share)),
        share if share >= 1.0 => format!("{word}, {percent:.0} % above"),
        _ => format!("{word}, {percent:.0} % below"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn met_and_missed_by_how_much() {
        assert_eq!(at_least(20.0, 20.0), "met, 0 % above");
        assert_eq!(at_least(23.1, 20.0), "met, 16 % above");
        assert_eq!(at_least(12.0, 20.0), "missed, 40 % below");
        assert_eq!(at_most(0.2, 0.25), "met, 20 % below");
        assert_eq!(at_most(0.3, 0.25), "missed, 20 % above");
        assert_eq!(at_most(26.0, 0.25), "missed, 104x of it");
    }

    #[test]
    fn ratios_are_of_medians_and_only_of_what_was_run() {
        let verdicts = verdicts(&report());
        let names: Vec<&str> = verdicts.iter().map(|verdict| verdict.what.as_str()).collect();
        let expected =
            ["W1 save", "W1 container frozen", "W1 extra disk on the node", "W1 launch", "memory, at most"];
        assert_eq!(names, expected);
        assert_eq!(verdicts[0].reached, "19x");
        assert_eq!(verdicts[0].outcome, "missed, 4 % below");
        assert_eq!(verdicts[1].reached, "0.20 s");
        assert!(verdicts[4].outcome.starts_with("met"), "{}", verdicts[4].outcome);
    }
}
