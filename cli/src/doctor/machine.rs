//! This machine: Docker, its GPUs, its disks.

use super::Finding;
use crate::config::Settings;
use crate::output::human;
use crate::serve::parts;
use mothball_worker::docker::EngineInfo;
use std::path::Path;

/// Less free space than this, or than the share below, will not last.
const FREE_BYTES_MIN: u64 = 5_000_000_000;
/// The share of a disk that should be free.
const FREE_SHARE_MIN: f64 = 0.05;

pub(super) async fn docker(settings: &Settings) -> Vec<Finding> {
    let engine = match parts::engine(settings) {
        Ok(engine) => engine,
        Err(e) => return vec![Finding::fail("docker", e.message, e.hint.unwrap_or_default())],
    };
    let host = &settings.worker.docker_host;
    match engine.info().await {
        Ok(info) => known(host, &info, engine.is_local()),
        Err(e) => {
            let advice = "see that Docker Engine runs, that worker.docker_host names its socket, and that this user may use it";
            vec![Finding::fail("docker", format!("{host}: {e}"), advice)]
        }
    }
}

fn known(host: &str, info: &EngineInfo, is_local: bool) -> Vec<Finding> {
    let found = format!(
        "{host}: version {}, {} on {}, cgroup v{}",
        info.version,
        info.storage_driver,
        info.backing_filesystem.as_deref().unwrap_or("an unknown filesystem"),
        info.cgroup_version
    );
    let mut findings = vec![Finding::ok("docker", found)];
    if info.storage_driver != "overlay2" && !info.containerd_store {
        findings.push(Finding::warn(
            "docker",
            format!("storage driver {}", info.storage_driver),
            "use overlay2: others are slower to save, and cannot be saved directly",
        ));
    }
    if is_local {
        findings.extend(space("docker disk", Path::new(&info.data_root)));
    }
    findings
}

pub(super) async fn gpus(settings: &Settings) -> Vec<Finding> {
    let inventory = parts::gpus(settings);
    let list = tokio::task::spawn_blocking(move || inventory.list()).await.unwrap_or_default();
    let names: Vec<&str> = list.gpus.iter().map(|g| g.name.as_str()).collect();
    match (names.is_empty(), list.note) {
        (false, _) => vec![Finding::ok("gpus", format!("{}: {}", names.len(), names.join(", ")))],
        (true, Some(note)) => vec![Finding::ok("gpus", format!("none. {note}"))],
        (true, None) => vec![Finding::ok("gpus", "none")],
    }
}

pub(super) fn disk(settings: &Settings) -> Vec<Finding> {
    let dir = std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    let existing = dir.ancestors().find(|d| d.exists()).unwrap_or(Path::new("/"));
    space("data disk", existing).into_iter().collect()
}

/// How much is free where `path` is; nothing when it cannot be told.
fn space(check: &'static str, path: &Path) -> Option<Finding> {
    let stat = rustix::fs::statvfs(path).ok()?;
    let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    let found = format!("{}: {} of {} free", path.display(), human::bytes(free), human::bytes(total));
    if free < FREE_BYTES_MIN || (free as f64) < total as f64 * FREE_SHARE_MIN {
        return Some(Finding::warn(
            check,
            found,
            "free some: a save needs as much as the container has written",
        ));
    }
    Some(Finding::ok(check, found))
}
