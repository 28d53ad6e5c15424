//! What a save would mean, in words: `mothball save --dry-run`.

use crate::output::{self, human};
use mothball_api::v1::views::{Preflight, QuotaView};
use mothball_domain::node::SnapshotWay;
use mothball_domain::survey::MountedAs;
use std::fmt::Write;

/// The report, in sections; those without content are left out.
pub(super) fn report(p: &Preflight) -> String {
    let mut text = output::facts(&facts(p));
    section(
        &mut text,
        "largest directories",
        p.largest_directories.iter().map(|w| (human::bytes(w.bytes), w.path.clone())),
    );
    section(
        &mut text,
        "largest files",
        p.largest_files.iter().map(|w| (human::bytes(w.bytes), w.path.clone())),
    );
    let mounts = p.mounts.iter().map(|m| {
        let size = m.bytes.map_or_else(|| "?".to_owned(), human::bytes);
        let more = if m.bytes.is_some() && !m.complete { ">" } else { "" };
        (format!("{more}{size}"), format!("{}  ({})", m.target, mounted_as(m.kind)))
    });
    section(&mut text, "not saved", mounts);
    let trees = p.package_trees.iter().map(|t| (t.kind.clone(), t.path.clone()));
    section(&mut text, "installed in mounts, and so not saved", trees);
    let mut secrets: Vec<(String, String)> =
        p.secrets.iter().map(|s| (s.words.clone(), s.path.clone())).collect();
    if p.secrets_more > 0 {
        secrets.push((String::new(), format!("and {} more", p.secrets_more)));
    }
    section(&mut text, "looks like a secret", secrets.into_iter());
    let caches = p
        .caches
        .iter()
        .map(|c| (human::bytes(c.bytes), format!("{}  (to clean it: {})", c.path, c.cleaned_by)));
    section(&mut text, "caches", caches);
    let said = [("warning", &p.warnings), ("note", &p.notes), ("problem", &p.problems)];
    let mut first = "\n";
    for (what, sentence) in said.iter().flat_map(|(what, all)| all.iter().map(move |s| (what, s))) {
        text.extend([std::mem::take(&mut first), "\n", what, ": ", &output::clean(sentence)]);
    }
    text.push_str(if p.possible {
        "\n\nThe save can go ahead."
    } else {
        "\n\nThe save cannot go ahead as things stand."
    });
    text
}

fn facts(p: &Preflight) -> Vec<(&'static str, String)> {
    let alive = if p.node_alive { "" } else { " (its worker has not reported lately)" };
    let overwrites = if p.overwrites { " (overwrites the one there is)" } else { "" };
    let free = p.node_disk_free_bytes.map(human::bytes).unwrap_or_default();
    let needed = p.disk.map(|d| d.needed_bytes).filter(|bytes| *bytes > 0);
    let needed =
        needed.map(|bytes| format!(" ({} needed meanwhile)", human::bytes(bytes))).unwrap_or_default();
    let reused = p.reuse.map(|r| {
        format!(
            "{} are in the registry from the last save; {} changed since",
            human::bytes(r.bytes),
            human::bytes(r.changed_bytes)
        )
    });
    let registry = p.registry.as_ref().map(|r| if r.reachable { "answers" } else { "does not answer" });
    let layers =
        p.layers.map(|l| format!("{} now, {} with this save; Docker runs {}", l.now, l.after, l.most));
    let expected =
        p.expected.as_ref().map(|e| format!("{}, by the last {} of this node", e.words, saves(e.saves)));
    vec![
        ("image", format!("{}{overwrites}", p.image)),
        ("to be saved", to_be_saved(p)),
        ("left out", left_out(p)),
        ("reused", reused.unwrap_or_default()),
        ("node", p.node.as_ref().map(|n| format!("{n}{alive}")).unwrap_or_default()),
        ("free on the node", format!("{free}{needed}")),
        ("way", way(p)),
        ("time", expected.unwrap_or_default()),
        ("registry", registry.unwrap_or_default().to_owned()),
        ("quota", p.quota.as_ref().map(quota).unwrap_or_default()),
        ("layers", layers.unwrap_or_default()),
    ]
}

fn to_be_saved(p: &Preflight) -> String {
    let Some(bytes) = p.bytes_to_save.or(p.writable_bytes) else { return String::new() };
    let more = if p.entries.is_some() && !p.counted_completely { "more than " } else { "" };
    let entries = p.entries.map(|count| format!(" in {count} entries")).unwrap_or_default();
    format!("{more}{}{entries}", human::bytes(bytes))
}

fn left_out(p: &Preflight) -> String {
    if p.excludes.is_empty() {
        return String::new();
    }
    let size = p.excluded_bytes.map(|bytes| format!("{}: ", human::bytes(bytes))).unwrap_or_default();
    format!("{size}{}", p.excludes.join(", "))
}

fn way(p: &Preflight) -> String {
    let Some(way) = p.way else { return String::new() };
    let words = match way {
        SnapshotWay::Direct => "direct: the writable layer is read in one pass",
        SnapshotWay::Engine => "engine: Docker commits and pushes",
    };
    p.way_reason.as_ref().map_or_else(|| words.to_owned(), |why| format!("{words}, because {why}"))
}

fn quota(q: &QuotaView) -> String {
    let images = q.images_most.map(|most| format!("{} of {most} images", q.images));
    let bytes = q.bytes_most.map(|most| format!("{} of {}", human::bytes(q.bytes), human::bytes(most)));
    images.into_iter().chain(bytes).collect::<Vec<_>>().join(", ")
}

fn saves(count: u32) -> String {
    if count == 1 { "save".to_owned() } else { format!("{count} saves") }
}

fn mounted_as(kind: MountedAs) -> &'static str {
    match kind {
        MountedAs::Bind => "mount",
        MountedAs::Volume => "volume",
        MountedAs::AnonymousVolume => "volume without a name: lost with the container",
        MountedAs::Memory => "memory",
    }
}

/// Rows of two columns, the first one right-aligned.
fn section(text: &mut String, title: &str, rows: impl Iterator<Item = (String, String)>) {
    let rows: Vec<(String, String)> = rows.collect();
    let width = rows.iter().map(|(first, _)| first.chars().count()).max().unwrap_or(0);
    if rows.is_empty() {
        return;
    }
    let _ = write!(text, "\n\n{title}");
    for (first, second) in rows {
        let _ = write!(text, "\n  {:>width$}  {}", output::clean(&first), output::clean(&second));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn preflight(more: &serde_json::Value) -> Preflight {
        let mut all = json!({
            "container": 1, "image": "base:v1", "possible": true, "overwrites": false, "writable_bytes": 1500,
            "mounts_not_saved": [], "node": "n1", "node_alive": true, "node_disk_free_bytes": 5_000_000_000_u64,
            "way": "engine", "problems": [], "notes": [],
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn a_report_of_an_older_server_is_shown_as_far_as_it_goes() {
        let text = report(&preflight(&json!({})));
        assert!(
            text.contains("base:v1") && text.contains("1.5 kB") && text.ends_with("The save can go ahead."),
            "{text}"
        );
        assert!(!text.contains("largest"), "{text}");
    }

    #[test]
    fn sizes_stand_below_each_other() {
        let weight = |path: &str, bytes: u64| json!({"path": path, "bytes": bytes, "entries": 1});
        let text = report(&preflight(&json!({
            "possible": false,
            "largest_directories": [weight("/opt/model", 12_000_000_000), weight("/data", 900)],
            "mounts": [
                {"target": "/home/ann", "kind": "bind", "bytes": 1500, "complete": true},
                {"target": "/scratch", "kind": "memory", "bytes": null, "complete": false},
            ],
            "secrets": [{"path": "/root/.netrc\u{1b}[2J", "kind": "netrc", "words": "logins (.netrc)"}],
            "expected": {"seconds": 41, "words": "about 40 s", "saves": 3},
            "problems": ["No."],
        })));
        assert!(text.contains("largest directories\n  12 GB  /opt/model\n  900 B  /data\n"), "{text}");
        assert!(text.contains("  1.5 kB  /home/ann  (mount)\n       ?  /scratch  (memory)\n"), "{text}");
        assert!(text.contains("about 40 s, by the last 3 saves of this node"), "{text}");
        assert!(text.contains("problem: No.\n\nThe save cannot go ahead"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
