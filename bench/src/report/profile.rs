//! Where the time goes, beside what this machine can do at best.

use super::table::Table;
use super::{Report, Sample, units};
use crate::limits::What;
use crate::rivals::{Action, Who};
use crate::workload::Workload;

/// Writes it; nothing where it was not asked for.
pub(super) fn render(report: &Report) -> String {
    if !report.profile {
        return String::new();
    }
    let mut text = "## Where the time goes\n\n".to_owned();
    let mut table = Table::new(&["", "step", "seconds", "share", "layer bytes"]);
    for workload in report.workloads() {
        for action in [Action::Save, Action::Launch] {
            for who in report.who(workload, action) {
                for row in steps(report, workload, action, who) {
                    table.row(row);
                }
            }
        }
    }
    text += &table.render();
    let mut table = Table::new(&["this machine's limit", "measured"]);
    for limit in &report.limits {
        table.row([limit.name(), limit.shown()]);
    }
    text += &table.render();
    text + &report.workloads().into_iter().filter_map(|workload| bound(report, workload)).collect::<String>()
}

/// The steps of somebody's saves or launches, in the order in which they came.
fn steps(report: &Report, workload: Workload, action: Action, who: Who) -> Vec<[String; 5]> {
    let Some(waited) = report.waited(workload, action, who) else { return Vec::new() };
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in report.of(workload, action).filter(|sample| sample.who == who).flat_map(|s| &s.stages) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let layer = report.layers.get(&workload).map(|bytes| *bytes as f64);
    let row = |name: &&str| {
        let of_name = |sample: &Sample| {
            sample.stages.iter().find(|(stage, _)| stage == name).map(|(_, seconds)| *seconds)
        };
        let spread = report.spread(workload, action, who, of_name)?;
        // What takes a moment does not go through the layer.
        let rate = layer.filter(|_| spread.median > 0.25).map(|bytes| bytes / spread.median);
        Some([
            format!("{} {}", workload.name(), who.name(action)),
            (*name).to_owned(),
            spread.seconds(),
            format!("{:.0} %", 100.0 * spread.median / waited.median),
            rate.map_or_else(String::new, |rate| format!("{}/s", units::bytes(rate))),
        ])
    };
    names.iter().filter_map(row).collect()
}

/// What must be done for a first save, each at this machine's own speed on one processor, and the time that all
/// processors need for it together. W3 does little of it, and W4 is not made of W1's files alone.
fn bound(report: &Report, workload: Workload) -> Option<String> {
    let layer = *report.layers.get(&workload).filter(|_| workload == Workload::W1)? as f64;
    let stored =
        report.spread(workload, Action::Save, Who::Mothball, |s| Some(s.figures.registry_bytes as f64))?;
    let waited = report.waited(workload, Action::Save, Who::Mothball)?;
    let rate = |what: What| {
        let limit = report.limits.iter().find(|limit| limit.what == what && limit.at_once == 1)?;
        Some(limit.per_second * 1e6)
    };
    let parts = [
        ("read the files", layer, What::Read),
        ("hash the layer", layer, What::Hash),
        ("pack it", layer, What::Pack),
        ("hash the blobs", stored.median, What::Hash),
        ("the registry takes them, and hashes them", stored.median, What::Ingest),
    ];
    let mut table = Table::new(&["what a save of W1 must do", "bytes", "seconds of one processor"]);
    let mut sum = 0.0;
    for (name, bytes, what) in parts {
        let seconds = bytes / rate(what)?;
        sum += seconds;
        table.row([name.to_owned(), units::bytes(bytes), units::number(seconds)]);
    }
    let least = sum / report.processors as f64;
    let sentence = format!(
        "On {} processors that is {} at least; Mothball took {}, {} of it.\n\n",
        report.processors,
        units::seconds(least),
        units::seconds(waited.median),
        units::times(waited.median / least)
    );
    Some(table.render() + &sentence)
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;
    use crate::limits::Limit;

    #[test]
    fn the_bound_is_the_work_over_the_processors() {
        let mut report = report();
        assert_eq!(render(&report), "");
        report.profile = true;
        assert!(!render(&report).contains("at least"));
        let limit = |what| Limit { what, at_once: 1, per_second: 2650.0 };
        report.limits = [What::Read, What::Hash, What::Pack, What::Ingest].map(limit).to_vec();
        // Three times a second, on two processors; the samples of this test store nothing.
        let text = render(&report);
        assert!(text.contains("that is 1.50 s at least; Mothball took 8.00 s, 5.3x of it"), "{text}");
    }
}
