//! The report for people.

use std::fmt::Write as _;

use super::table::Table;
use super::{Report, Spread, goals, profile, units};
use crate::rivals::{Action, Who};
use crate::workload::Workload;

/// Each figure, and how it is taken.
const DEFINITIONS: [(&str, &str); 10] = [
    (
        "seconds",
        "as the user waits: from the first command or request to the end of the last; for Mothball until the job has \
         succeeded, the proof of the image included. Medians, with least and greatest in brackets",
    ),
    ("times", "seconds divided by Mothball's"),
    (
        "job",
        "Mothball's own word: from the job's `started_at` to its `finished_at`; the rest of what the user waits is the \
         API, the queue and polling every 20 ms",
    ),
    (
        "CPU",
        "CPU-seconds of the whole machine in that time, from /proc/stat: Docker, registry, Mothball, tools, and this \
         program. Nobody's work is hidden in another process",
    ),
    (
        "frozen",
        "seconds that the container's cgroup was frozen, looked at from the host every 2 ms; in brackets Mothball's own \
         word, which begins before the freeze is asked for",
    ),
    (
        "memory",
        "peak resident memory (VmHWM, begun anew before each) of the process that does the work: Mothball with all its \
         roles in one process, Docker Engine, or buildah",
    ),
    (
        "disk",
        "bytes more on the node when it was done (du of Docker's data root, Mothball's data directory and buildah's \
         storage), and at most meanwhile (from the file system's free space every 100 ms, without the registry's part; \
         other programs' files are in it)",
    ),
    ("stored", "bytes more on the registry's disk"),
    (
        "wire",
        "bytes received over the loopback interface: what is sent to the registry, and what is read back (other \
         programs' traffic is in it)",
    ),
    (
        "rounds",
        "everybody in turn, then the next round. Before each measurement dirty pages are written back; before each save \
         the registry it goes to is emptied, so that every save is a first one (W3: Mothball's is not, that is its point; \
         docker commit + push makes and sends the whole layer again whatever the registry has). Files are in the page \
         cache for all. A launch finds the base image and nothing else on the node, and its tree is counted afterwards",
    ),
];

const COMMANDS: [(&str, &str); 4] = [
    (
        "Mothball",
        "`POST /v1/containers/{id}/snapshots`, `POST /v1/containers` and waiting for the job; one process, embedded store",
    ),
    ("docker save", "`docker commit CONTAINER IMAGE && docker push --quiet IMAGE`"),
    ("docker launch", "`docker pull --quiet IMAGE && docker run --detach IMAGE`"),
    (
        "buildah",
        "`buildah commit --quiet --tls-verify=false CONTAINER docker://IMAGE`, with a storage of its own; it cannot see Docker's containers, so that \
         one of its own has the same files; nothing runs in it and it is not frozen",
    ),
];

/// Writes it.
pub(crate) fn render(report: &Report) -> String {
    let mut text = format!("# Mothball beside what one would use instead\n\n{}\n\n", report.facts.at);
    text += "![Seconds of saves and launches](report.svg)\n\n";
    text += &goals_part(report);
    for workload in report.workloads() {
        text += &workload_part(report, workload);
    }
    text += &profile::render(report);
    text += &list("What was run", &COMMANDS.map(|(name, how)| (name.to_owned(), how.to_owned())));
    text +=
        &list("How each figure is taken", &DEFINITIONS.map(|(name, how)| (name.to_owned(), how.to_owned())));
    text += &list("The machine", &report.facts.lines);
    text
}

fn goals_part(report: &Report) -> String {
    let mut table = Table::new(&["", "goal", "reached", "of", "outcome"]);
    for verdict in goals::verdicts(report) {
        table.row([verdict.what, verdict.goal, verdict.reached, verdict.of, verdict.outcome]);
    }
    let mut text = format!("## Goals\n\n{}", table.render());
    let caveat = goals::caveat(report.size).map(str::to_owned);
    for note in caveat.iter().chain(&report.notes).chain(&report.failure) {
        let _infallible = write!(text, "{note}\n\n");
    }
    text
}

fn workload_part(report: &Report, workload: Workload) -> String {
    let layer =
        report.layers.get(&workload).map(|bytes| format!(", {} on disk", units::bytes(*bytes as f64)));
    let what = workload.what(report.size);
    let mut text = format!("## {}: {what}{}\n\n", workload.name(), layer.unwrap_or_default());
    for action in [Action::Save, Action::Launch] {
        let who = report.who(workload, action);
        if !who.is_empty() {
            text += &table(report, workload, action, &who);
        }
    }
    for (action, name) in [(Action::Save, "save"), (Action::Launch, "launch")] {
        let last = report.of(workload, action).filter(|sample| sample.who == Who::Mothball).last();
        if let Some(sample) = last.filter(|sample| !sample.notes.is_empty()) {
            let _infallible = write!(text, "Mothball's last {name} says: {}\n\n", sample.notes.join(" "));
        }
    }
    text
}

fn table(report: &Report, workload: Workload, action: Action, who: &[Who]) -> String {
    let title = if action == Action::Save { "save" } else { "launch" };
    let rounds = report.of(workload, action).map(|sample| sample.round).max().unwrap_or(0);
    let title = format!("{title} ({rounds} round{})", if rounds == 1 { "" } else { "s" });
    let mut table = Table::new(&[
        &title,
        "seconds",
        "times",
        "job",
        "CPU",
        "frozen",
        "memory",
        "disk after",
        "disk at most",
        "stored",
        "wire",
    ]);
    let ours = report.waited(workload, action, Who::Mothball);
    for &who in who {
        let figure =
            |figure: &dyn Fn(&super::Sample) -> Option<f64>| report.spread(workload, action, who, figure);
        let bytes = |figure: &dyn Fn(&super::Sample) -> f64| {
            report
                .spread(workload, action, who, |sample| Some(figure(sample)))
                .map_or_else(String::new, Spread::bytes)
        };
        let seconds = |spread: Option<Spread>| spread.map_or_else(String::new, Spread::seconds);
        let median =
            |spread: Option<Spread>| spread.map_or_else(String::new, |spread| units::seconds(spread.median));
        let waited = report.waited(workload, action, who);
        let times = ours.zip(waited).map(|(ours, theirs)| units::times(theirs.median / ours.median));
        let frozen = median(figure(&|sample| sample.figures.frozen_s));
        let said =
            figure(&|sample| sample.frozen_said_s).map(|said| format!(" [{}]", units::number(said.median)));
        table.row([
            who.name(action).to_owned(),
            seconds(waited),
            times.unwrap_or_default(),
            median(figure(&|sample| sample.job_s)),
            median(figure(&|sample| Some(sample.figures.cpu_s))),
            format!("{frozen}{}", said.unwrap_or_default()),
            bytes(&|sample| sample.memory() as f64),
            bytes(&|sample| sample.figures.node_bytes as f64),
            bytes(&|sample| sample.figures.node_bytes_peak as f64),
            bytes(&|sample| sample.figures.registry_bytes as f64),
            bytes(&|sample| sample.figures.wire_bytes as f64),
        ]);
    }
    table.render()
}

fn list(title: &str, lines: &[(String, String)]) -> String {
    let mut text = format!("## {title}\n\n");
    for (name, value) in lines {
        let _infallible = writeln!(text, "- **{name}**: {value}");
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn goals_come_first_and_every_column_is_defined() {
        let text = render(&report());
        let goals = text.find("## Goals").unwrap();
        let workload = text.find("## W1:").unwrap();
        assert!(goals < workload);
        assert!(text.contains("| 8.00 s (7.90–8.10) |"), "{text}");
        assert!(text.contains("0.20 s [0.22]"), "{text}");
        for column in ["seconds", "times", "job", "CPU", "frozen", "memory", "disk", "stored", "wire"] {
            assert!(DEFINITIONS.iter().any(|(name, _)| *name == column), "{column}");
        }
        assert!(!text.contains("## Where the time goes"));
    }
}
