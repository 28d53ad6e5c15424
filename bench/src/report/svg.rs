//! The report as a picture: for each workload and action, bars of the seconds that everybody took.

use std::fmt::Write as _;

use super::{Report, Spread, units};
use crate::rivals::{Action, Who};
use crate::workload::Workload;

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 24.0;
/// Where bars begin, and how long the longest is: to its right is room for its figures.
const BARS_AT: f64 = 270.0;
const BARS_LENGTH: f64 = 430.0;
const ROW: f64 = 26.0;
const BAR: f64 = 16.0;
const OURS: &str = "#0f766e";
const THEIRS: &str = "#a8b3bf";
const INK: &str = "#1f2933";
const FAINT: &str = "#66727f";

/// Bars that share one scale.
struct Panel {
    title: String,
    bars: Vec<Bar>,
}

struct Bar {
    name: &'static str,
    ours: bool,
    spread: Spread,
    /// How many times Mothball's; none for Mothball.
    times: Option<f64>,
}

/// Draws it.
pub(crate) fn render(report: &Report) -> String {
    let mut body = String::new();
    let mut y = 40.0;
    text(&mut body, MARGIN, y, 20, INK, "bold", "Seconds, less is better");
    y += 20.0;
    let line =
        |name: &str| report.facts.lines.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let under: Vec<&str> = ["mothball", "processors"].iter().filter_map(|name| line(name)).collect();
    let under = format!("medians in one run · {} · {}", report.facts.at, under.join(" · "));
    text(&mut body, MARGIN, y, 11, FAINT, "normal", &under);
    for panel in panels(report) {
        y += 38.0;
        text(&mut body, MARGIN, y, 13, INK, "bold", &panel.title);
        y += 10.0;
        let longest = panel.bars.iter().map(|bar| bar.spread.max).fold(f64::MIN_POSITIVE, f64::max);
        for bar in &panel.bars {
            draw(&mut body, y, bar, BARS_LENGTH / longest);
            y += ROW;
        }
    }
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"Seconds of saves and launches\" font-family=\"system-ui, 'Helvetica Neue', 'DejaVu Sans', \
         sans-serif\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn panels(report: &Report) -> Vec<Panel> {
    let mut panels = Vec::new();
    for workload in report.workloads() {
        let what = workload.what(report.size);
        for action in [Action::Save, Action::Launch] {
            let title = match action {
                Action::Save => format!("{} save: {what}", workload.name()),
                Action::Launch => format!("{} launch on a node that has the base image", workload.name()),
            };
            panels.extend(panel(report, workload, action, title, |sample| Some(sample.figures.waited_s)));
            if workload == Workload::W1 && action == Action::Save {
                let title = "W1 save: the container stands still for".to_owned();
                panels.extend(panel(report, workload, action, title, |sample| sample.figures.frozen_s));
            }
        }
    }
    panels
}

fn panel(
    report: &Report,
    workload: Workload,
    action: Action,
    title: String,
    figure: impl Fn(&super::Sample) -> Option<f64>,
) -> Option<Panel> {
    let ours = report.spread(workload, action, Who::Mothball, &figure)?;
    let bar = |who: Who| {
        let spread = report.spread(workload, action, who, &figure)?;
        let times = (who != Who::Mothball && ours.median > 0.0).then(|| spread.median / ours.median);
        Some(Bar { name: who.name(action), ours: who == Who::Mothball, spread, times })
    };
    let bars = report.who(workload, action).into_iter().filter_map(bar).collect();
    Some(Panel { title, bars })
}

fn draw(body: &mut String, y: f64, bar: &Bar, scale: f64) {
    let middle = y + ROW / 2.0;
    let (length, color) = (bar.spread.median * scale, if bar.ours { OURS } else { THEIRS });
    let weight = if bar.ours { "bold" } else { "normal" };
    text(body, MARGIN, middle + 4.0, 12, INK, weight, bar.name);
    // A bar of a moment is still a bar.
    let _infallible = writeln!(
        body,
        "<rect x=\"{BARS_AT}\" y=\"{}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\" fill=\"{color}\"/>",
        middle - BAR / 2.0,
        length.max(1.0)
    );
    let (from, to) = (BARS_AT + bar.spread.min * scale, BARS_AT + bar.spread.max * scale);
    if to - from >= 1.0 {
        let _infallible = writeln!(
            body,
            "<path d=\"M{from:.1} {top}v8M{from:.1} {middle}H{to:.1}M{to:.1} {top}v8\" stroke=\"{INK}\" fill=\"none\"/>",
            top = middle - 4.0
        );
    }
    let seconds = units::seconds(bar.spread.median);
    let figures =
        bar.times.map_or_else(|| seconds.clone(), |times| format!("{seconds} · {}", units::times(times)));
    text(
        body,
        BARS_AT + bar.spread.max.max(bar.spread.median) * scale + 8.0,
        middle + 4.0,
        12,
        INK,
        weight,
        &figures,
    );
}

fn text(body: &mut String, x: f64, y: f64, size: u32, color: &str, weight: &str, words: &str) {
    let _infallible = writeln!(
        body,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" font-weight=\"{weight}\" fill=\"{color}\">{}</text>",
        escaped(words)
    );
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::report;
    use super::*;

    #[test]
    fn bars_are_as_long_as_what_they_say() {
        let svg = render(&report());
        let width = |color: &str| {
            let bar = svg.lines().find(|line| line.starts_with("<rect x=") && line.contains(color)).unwrap();
            let (_, rest) = bar.split_once("width=\"").unwrap();
            rest.split_once('"').unwrap().0.parse::<f64>().unwrap()
        };
        // 8 s and 154 s, and the longest round took 161 s.
        assert!((width(THEIRS) - BARS_LENGTH * 154.0 / 161.0).abs() < 0.1, "{svg}");
        assert!((width(OURS) - BARS_LENGTH * 8.0 / 161.0).abs() < 0.1, "{svg}");
        assert!(svg.contains("154 s · 19x"), "{svg}");
    }

    #[test]
    fn every_element_is_closed_and_words_cannot_open_one() {
        assert_eq!(escaped("a < b & c > d"), "a &lt; b &amp; c &gt; d");
        let svg = render(&report());
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        let others = svg.lines().filter(|line| line.starts_with("<rect") || line.starts_with("<path"));
        assert!(others.clone().count() > 4 && others.clone().all(|line| line.ends_with("/>")));
    }
}
