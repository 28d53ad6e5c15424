//! What a survey found, in sentences: the same in a preflight's report and in a job's notes.

use super::{LayerReport, MountReport, MountedAs, PackageTree, SurveyReport};
use crate::size::human;

/// Names in one sentence; the rest is counted.
const NAMED_MAX: usize = 5;
/// Caches below this are not worth a word.
const CACHE_BYTES_MIN: u64 = 10_000_000;
/// Files from here on are worth a word each.
const LARGE_FILE_BYTES: u64 = 1_000_000_000;
/// Mounts that are named, each in a sentence of its own.
const MOUNTS_MAX: usize = 6;

/// Everything that the owner should think about before a save.
pub fn warnings(report: &SurveyReport) -> Vec<String> {
    let layer = report.layer.as_ref();
    let of_layer = layer.into_iter().flat_map(|layer| [secrets(layer), caches(layer), large_files(layer)]);
    of_layer.chain([package_trees(&report.package_trees)]).flatten().collect()
}

/// Files that look like secrets: by path and kind, never by what they hold.
pub fn secrets(layer: &LayerReport) -> Option<String> {
    let all = layer.secrets.len() as u64 + layer.secrets_more;
    let named = layer.secrets.iter().map(|s| format!("{} ({})", s.path, s.kind));
    let list = list(named, all)?;
    let look = if all == 1 { "This file looks like a secret" } else { "These files look like secrets" };
    Some(format!(
        "{look}, and whoever may use the image can read it: {list}. Delete it, or leave it out with --exclude."
    ))
}

/// Caches that are worth cleaning.
pub fn caches(layer: &LayerReport) -> Option<String> {
    let worth: Vec<_> = layer.caches.iter().filter(|c| c.bytes >= CACHE_BYTES_MIN).collect();
    let bytes: u64 = worth.iter().map(|c| c.bytes).sum();
    let named = worth.iter().map(|c| format!("{} ({}; {})", c.path, human(c.bytes), c.kind.cleaned_by()));
    let list = list(named, worth.len() as u64)?;
    Some(format!("Cleaning caches would make the image {} smaller: {list}.", human(bytes)))
}

/// Single files that are very large.
pub fn large_files(layer: &LayerReport) -> Option<String> {
    let large: Vec<_> = layer.largest_files.iter().filter(|f| f.bytes >= LARGE_FILE_BYTES).collect();
    let named = large.iter().map(|f| format!("{} ({})", f.path, human(f.bytes)));
    let list = list(named, large.len() as u64)?;
    Some(format!("Very large files become part of the image: {list}."))
}

/// Packages that lie in mounts.
pub fn package_trees(trees: &[PackageTree]) -> Option<String> {
    let named = trees.iter().map(|t| format!("{} ({})", t.path, t.kind));
    let list = list(named, trees.len() as u64)?;
    Some(format!(
        "Installed in mounts, and so not saved: {list}. They are there again only where the same mount is."
    ))
}

/// What is mounted, one sentence each, as long as they are few.
pub fn mounts(mounts: &[MountReport]) -> Vec<String> {
    let mut said: Vec<String> = mounts.iter().take(MOUNTS_MAX).map(mount).collect();
    if let Some(more) = mounts.len().checked_sub(MOUNTS_MAX).filter(|more| *more > 0) {
        said.push(format!("Not saved: {more} more mounts."));
    }
    said
}

fn mount(mount: &MountReport) -> String {
    let size = match (mount.bytes, mount.complete) {
        (Some(bytes), true) => format!(" ({})", human(bytes)),
        (Some(bytes), false) => format!(" (more than {})", human(bytes)),
        (None, _) => String::new(),
    };
    let target = &mount.target;
    match mount.mounted_as {
        MountedAs::Bind => format!("Not saved: {target} is a mount{size}; it stays where it is."),
        MountedAs::Volume => format!("Not saved: {target} is a volume{size}; it stays on its node."),
        MountedAs::AnonymousVolume => {
            format!(
                "Not saved: {target} is a volume without a name{size}; it is lost when its container is deleted."
            )
        }
        MountedAs::Memory => format!("Not saved: {target} is in memory."),
    }
}

/// The first few of `all` in one text; none where there are none.
fn list(named: impl Iterator<Item = String>, all: u64) -> Option<String> {
    let named: Vec<String> = named.take(NAMED_MAX).collect();
    let more = all - named.len() as u64;
    match (named.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(named.join(", ")),
        (false, more) => Some(format!("{} and {more} more", named.join(", "))),
    }
}

/// A stretch of time as one says it: "about 40 s".
pub fn about(seconds: u64) -> String {
    match seconds {
        0..=9 => format!("about {} s", seconds.max(1)),
        10..=89 => format!("about {} s", (seconds + 2) / 5 * 5),
        90..=5399 => format!("about {} min", (seconds + 30) / 60),
        _ => format!("about {} h", (seconds + 1800) / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cache, CacheKind, SecretKind, SecretLike, TreeKind, Weight};
    use super::*;

    #[test]
    fn what_was_found_is_said_and_bounded() {
        let secret = |n: usize| SecretLike { path: format!("/root/{n}"), kind: SecretKind::PrivateKey };
        let layer = LayerReport {
            secrets: (0..7).map(secret).collect(),
            secrets_more: 3,
            caches: vec![
                Cache { path: "/root/.cache/pip".to_owned(), kind: CacheKind::Pip, bytes: 1_200_000_000 },
                Cache { path: "/var/lib/apt/lists".to_owned(), kind: CacheKind::AptLists, bytes: 5_000 },
            ],
            largest_files: vec![Weight { path: "/data/x".to_owned(), bytes: 12_000_000_000, entries: 1 }],
            ..LayerReport::default()
        };
        let tree = PackageTree {
            path: "/home/ann/.local".to_owned(),
            kind: TreeKind::Python,
            mount: "/home/ann".to_owned(),
        };
        let report =
            SurveyReport { layer: Some(layer), package_trees: vec![tree], ..SurveyReport::default() };
        let said = warnings(&report);
        assert_eq!(said.len(), 4);
        assert!(said[0].contains("/root/0 (private key)") && said[0].contains("and 5 more"), "{}", said[0]);
        assert!(said[1].contains("1.2 GB smaller") && said[1].contains("pip cache purge"), "{}", said[1]);
        assert!(!said[1].contains("apt") && said[2].contains("/data/x (12 GB)"), "{}", said[2]);
        assert!(said[3].contains("/home/ann/.local (Python packages)"), "{}", said[3]);
        assert!(warnings(&SurveyReport::default()).is_empty());
    }

    #[test]
    fn mounts_are_told_apart_and_bounded() {
        let of = |n: usize, mounted_as, bytes, complete| MountReport {
            target: format!("/m{n}"),
            mounted_as,
            bytes,
            complete,
        };
        let all: Vec<MountReport> = vec![
            of(0, MountedAs::Bind, Some(1500), true),
            of(1, MountedAs::Bind, Some(2_000_000), false),
            of(2, MountedAs::AnonymousVolume, None, false),
            of(3, MountedAs::Memory, None, true),
        ];
        let said = mounts(&all);
        assert_eq!(said[0], "Not saved: /m0 is a mount (1.5 kB); it stays where it is.");
        assert!(said[1].contains("(more than 2.0 MB)") && said[2].contains("is lost"), "{said:?}");
        let many: Vec<MountReport> = (0..9).map(|n| of(n, MountedAs::Bind, None, true)).collect();
        assert_eq!(mounts(&many).last().map(String::as_str), Some("Not saved: 3 more mounts."));
    }

    #[test]
    fn times_are_rounded_as_people_do() {
        for (seconds, said) in [
            (0, "about 1 s"),
            (7, "about 7 s"),
            (41, "about 40 s"),
            (43, "about 45 s"),
            (90, "about 2 min"),
            (3600, "about 60 min"),
            (7300, "about 2 h"),
        ] {
            assert_eq!(about(seconds), said);
        }
    }
}
