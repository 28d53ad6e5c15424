//! The gate: whether this worker can read and fill writable layers itself (way: direct), and if not, why not.
//!
//! What is asked of the node: Docker on this very machine, overlay2 whose differences lie in the writable layer alone, no
//! mapped user ids, and the privileges to read all of a layer. `trusted.*` attributes are invisible without
//! `CAP_SYS_ADMIN`: a worker without it would not fail but lose deletions, so it is kept out here. What is asked of a
//! container is that its layer is one of that Docker and can be seen.

use crate::docker::{ContainerFacts, EngineInfo};
use crate::settings::SnapshotMode;
use mothball_domain::node::SnapshotWay;
use std::fs;
use std::path::{Path, PathBuf};

/// Capabilities that reading and filling a layer needs, by their number in the kernel.
const NEEDED: [(u32, &str); 8] = [
    (0, "CAP_CHOWN"),
    (1, "CAP_DAC_OVERRIDE"),
    (2, "CAP_DAC_READ_SEARCH"),
    (3, "CAP_FOWNER"),
    (4, "CAP_FSETID"),
    (21, "CAP_SYS_ADMIN"),
    (27, "CAP_MKNOD"),
    (31, "CAP_SETFCAP"),
];
/// What an unmapped process reads in its map of user ids.
const ALL_IDS: [&str; 3] = ["0", "0", "4294967295"];

/// The reason that lies with the operator.
const SET_TO_ENGINE: &str = "worker.snapshot is \"engine\"";

/// What is known, for as long as a worker runs, of its own reach.
#[derive(Debug, Clone)]
pub(crate) struct Reach {
    mode: SnapshotMode,
    /// Docker's data root, where it is seen from here.
    data_root: Option<PathBuf>,
    /// What this process may not do, in words.
    lacks: Option<String>,
}

/// How a container is saved, or launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the worker itself; the container's writable layer is this directory.
    Direct(PathBuf),
    /// By Docker Engine, for this reason.
    Engine(String),
    /// Not at all: only the direct way is allowed, and it is closed for this reason.
    Closed(String),
}

impl Reach {
    /// Looks at this process. `data_root` is Docker's, where it is on this machine and holds the node's identity.
    pub(crate) fn find(mode: SnapshotMode, data_root: Option<PathBuf>) -> Self {
        Self { mode, data_root, lacks: lacks() }
    }

    /// Docker's data root, where it is seen from here.
    pub(crate) fn data_root(&self) -> Option<&Path> {
        self.data_root.as_deref()
    }

    /// The way that the node reports.
    pub(crate) fn of_node(&self, info: &EngineInfo) -> SnapshotWay {
        match self.mode {
            SnapshotMode::Direct => SnapshotWay::Direct,
            SnapshotMode::Auto if self.closed_for_all(info).is_none() => SnapshotWay::Direct,
            SnapshotMode::Auto | SnapshotMode::Engine => SnapshotWay::Engine,
        }
    }

    /// The way for one container.
    pub(crate) fn of_container(&self, info: &EngineInfo, facts: &ContainerFacts) -> Way {
        if self.mode == SnapshotMode::Engine {
            return Way::Engine(SET_TO_ENGINE.to_owned());
        }
        match self.layer(info, facts) {
            Ok(upper) => Way::Direct(upper),
            Err(why) => self.other_than_direct(why),
        }
    }

    /// Why no saved image can be restored on the node; none where they can. Without the direct way they are pulled.
    pub(crate) fn closed_for_launches(&self, info: &EngineInfo) -> Option<String> {
        if self.mode == SnapshotMode::Engine {
            return Some(SET_TO_ENGINE.to_owned());
        }
        self.closed_for_all(info)
    }

    /// What happens where the direct way is closed for a reason found later, such as one inside the layer.
    pub(crate) fn other_than_direct(&self, why: String) -> Way {
        if self.mode == SnapshotMode::Direct { Way::Closed(why) } else { Way::Engine(why) }
    }

    fn layer(&self, info: &EngineInfo, facts: &ContainerFacts) -> Result<PathBuf, String> {
        if let Some(why) = self.closed_for_all(info) {
            return Err(why);
        }
        self.seen_layer(facts)
    }

    /// Where the container's layer lies, if it is one of overlay2 and can be seen from here, whichever way it is saved; else why
    /// not.
    pub(crate) fn seen_layer(&self, facts: &ContainerFacts) -> Result<PathBuf, String> {
        if facts.driver != "overlay2" {
            return Err(format!("the container's storage driver is {:?} and not overlay2", facts.driver));
        }
        let Some(upper) = facts.upper_dir.as_ref().map(PathBuf::from) else {
            return Err("Docker does not say where the container's layer lies".to_owned());
        };
        // A worker may see another Docker's data root under the same path.
        let known =
            self.data_root.as_ref().is_some_and(|root| root.join("containers").join(&facts.id).is_dir());
        if !known || fs::read_dir(&upper).is_err() {
            return Err("the container's layer cannot be seen from the worker".to_owned());
        }
        Ok(upper)
    }

    /// Why no container of the node can be saved directly; none where they can.
    fn closed_for_all(&self, info: &EngineInfo) -> Option<String> {
        if self.data_root.is_none() {
            return Some("Docker's data root cannot be seen from the worker".to_owned());
        }
        if info.containerd_store {
            return Some("Docker keeps images in containerd".to_owned());
        }
        if info.storage_driver != "overlay2" {
            return Some(format!("Docker's storage driver is {:?} and not overlay2", info.storage_driver));
        }
        if info.native_overlay_diff != Some(true) {
            return Some("Docker does not use overlay2's native differences on this kernel".to_owned());
        }
        if info.userns_remap {
            return Some("Docker maps user ids (userns-remap)".to_owned());
        }
        self.lacks.clone()
    }
}

/// What this process may not do that it would have to; none where it may do all.
fn lacks() -> Option<String> {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if map.split_whitespace().collect::<Vec<_>>() != ALL_IDS {
        return Some("the worker runs in a user namespace".to_owned());
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing(&status).map(|name| format!("the worker lacks the capability {name}"))
}

/// The first needed capability that a process of this `/proc/…/status` lacks.
fn missing(status: &str) -> Option<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    NEEDED.iter().find(|(bit, _)| held & (1 << bit) == 0).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(mode: SnapshotMode) -> Reach {
        Reach { mode, data_root: Some(PathBuf::from("/var/lib/docker")), lacks: None }
    }

    fn overlay2() -> EngineInfo {
        EngineInfo {
            storage_driver: "overlay2".to_owned(),
            native_overlay_diff: Some(true),
            ..EngineInfo::default()
        }
    }

    #[test]
    fn each_thing_that_closes_the_way_has_its_words() {
        let auto = reach(SnapshotMode::Auto);
        assert_eq!(auto.closed_for_all(&overlay2()), None);
        for (info, word) in [
            (EngineInfo { storage_driver: "vfs".to_owned(), ..overlay2() }, "vfs"),
            (EngineInfo { native_overlay_diff: Some(false), ..overlay2() }, "native"),
            (EngineInfo { native_overlay_diff: None, ..overlay2() }, "native"),
            (EngineInfo { userns_remap: true, ..overlay2() }, "userns-remap"),
            (EngineInfo { containerd_store: true, ..overlay2() }, "containerd"),
        ] {
            let why = auto.closed_for_all(&info).unwrap_or_default();
            assert!(why.contains(word), "{word}: {why}");
            assert_eq!(auto.of_node(&info), SnapshotWay::Engine);
        }
        let blind = Reach { data_root: None, ..reach(SnapshotMode::Auto) };
        assert!(blind.closed_for_all(&overlay2()).is_some_and(|why| why.contains("data root")));
        let weak = Reach { lacks: Some("no".to_owned()), ..reach(SnapshotMode::Auto) };
        assert_eq!(weak.closed_for_all(&overlay2()).as_deref(), Some("no"));
    }

    #[test]
    fn the_setting_decides_what_a_closed_way_means() {
        assert_eq!(reach(SnapshotMode::Auto).of_node(&overlay2()), SnapshotWay::Direct);
        assert_eq!(reach(SnapshotMode::Engine).of_node(&overlay2()), SnapshotWay::Engine);
        let why = || "x".to_owned();
        assert_eq!(reach(SnapshotMode::Auto).other_than_direct(why()), Way::Engine(why()));
        assert_eq!(reach(SnapshotMode::Direct).other_than_direct(why()), Way::Closed(why()));
    }

    #[test]
    fn capabilities_are_read_by_their_bits() {
        assert_eq!(missing("CapInh:\t0\nCapEff:\t000001ffffffffff\n"), None);
        // What a container of Docker's has by default.
        assert_eq!(missing("CapEff:\t00000000a80425fb\n"), Some("CAP_DAC_READ_SEARCH"));
        assert_eq!(missing("CapEff:\t0000000000000000\n"), Some("CAP_CHOWN"));
        assert_eq!(missing(""), Some("CAP_CHOWN"));
    }
}
