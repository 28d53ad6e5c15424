//! Ending a frozen container's processes before anything thaws it.
//!
//! Save-then-delete holds a container frozen from the moment that is saved until it is removed. Docker, however,
//! removes a frozen container by sending SIGKILL to its first process and then *thawing* it: every other process wakes
//! up and runs until the kernel has torn down the process namespace, and may write one more line that is not in the
//! image (tried: it does). So every process gets its SIGKILL while it is frozen. Under cgroup v1 the signal waits and is
//! the first thing that the process meets when it thaws; under v2 the process ends at once. Neither runs again.
//!
//! The first process is left to Docker, which kills it before it thaws: were it to die by our hand, Docker would take
//! that for an exit and might start the container again by its restart policy.
//!
//! A process belongs to the container when the cgroup that froze it does: the `freezer` hierarchy of v1, the one
//! hierarchy of v2. A handle to the process is taken first and the membership read afterwards, so that a process id that
//! is used again cannot be hit.

use super::{DockerError, Engine};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::io::ErrorKind;

/// What was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Killed {
    /// Processes that got their SIGKILL, the first one, which is Docker's, not counted.
    pub processes: usize,
}

impl Engine {
    /// Sends SIGKILL to every process of a frozen container but the first. Idempotent. Fails, having done nothing, when
    /// the container is not frozen or its processes cannot be seen from here; fails too when it was thawed meanwhile.
    pub async fn kill_all_frozen(&self, container: &str) -> Result<Killed, DockerError> {
        let what = "end processes";
        let missing =
            || DockerError::Refused { what, status: 404, message: format!("No such container: {container}") };
        let facts = self.inspect(container).await?.ok_or_else(missing)?;
        let (true, Some(first)) = (facts.is_paused(), facts.pid) else {
            return Err(DockerError::NotFrozen { what });
        };
        let id = facts.id.clone();
        let killed = tokio::task::spawn_blocking(move || kill_others(&id, first))
            .await
            .map_err(|e| DockerError::Processes(e.to_string()))??;
        match self.inspect(container).await? {
            Some(after) if after.is_paused() => Ok(killed),
            _ => Err(DockerError::NotFrozen { what }),
        }
    }
}

fn kill_others(docker_id: &str, first: u32) -> Result<Killed, DockerError> {
    // An id that is not whole could be part of another's path.
    if docker_id.len() != 64 || !belongs(first, docker_id) {
        return Err(DockerError::Processes(
            "the container's processes cannot be seen from the worker's process namespace".into(),
        ));
    }
    let mut processes = 0;
    for pid in all_processes()? {
        if pid != first && kill_if_member(pid, docker_id)? {
            processes += 1;
        }
    }
    Ok(Killed { processes })
}

fn all_processes() -> Result<Vec<u32>, DockerError> {
    let unreadable = |e: std::io::Error| DockerError::Processes(format!("read /proc: {e}"));
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").map_err(unreadable)? {
        if let Some(pid) = entry.map_err(unreadable)?.file_name().to_str().and_then(|n| n.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

fn kill_if_member(pid: u32, docker_id: &str) -> Result<bool, DockerError> {
    // Cheap look first: a handle for every process of the node is only taken where it will be needed.
    if !belongs(pid, docker_id) {
        return Ok(false);
    }
    let Some(number) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(false) };
    let refused = |e: rustix::io::Errno| DockerError::Processes(format!("process {pid}: {e}"));
    let handle = match pidfd_open(number, PidfdFlags::empty()) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        Err(e) => return Err(refused(e)),
    };
    if !belongs(pid, docker_id) {
        return Ok(false);
    }
    match pidfd_send_signal(&handle, Signal::KILL) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(e) => Err(refused(e)),
    }
}

fn belongs(pid: u32, docker_id: &str) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/cgroup")) {
        Ok(text) => is_member(&text, docker_id),
        Err(e) => {
            if !matches!(e.kind(), ErrorKind::NotFound) && e.raw_os_error() != Some(3) {
                tracing::warn!(process = pid, error = %e, "read a process's cgroup");
            }
            false
        }
    }
}

/// Whether the cgroup that freezes lies in the container's: `docker/ID` with the cgroupfs driver, `docker-ID.scope` with
/// systemd's; what runs inside nested groups is frozen with it.
fn is_member(cgroups: &str, docker_id: &str) -> bool {
    cgroups.lines().any(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next(), parts.next(), parts.next());
        let freezes =
            controllers.is_some_and(|c| c.split(',').any(|name| name == "freezer")) || number == Some("0");
        freezes && path.is_some_and(|p| p.split('/').any(|part| names(part, docker_id)))
    })
}

fn names(part: &str, docker_id: &str) -> bool {
    part == docker_id || part.strip_suffix(".scope").is_some_and(|p| p.ends_with(&format!("-{docker_id}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_is_read_from_the_group_that_freezes() {
        let id = "ab".repeat(32);
        let other = "cd".repeat(32);
        let v1 =
            format!("12:pids:/docker/{id}\n5:freezer:/docker/{id}\n1:name=systemd:/docker/{id}\n0::/x\n");
        assert!(is_member(&v1, &id) && !is_member(&v1, &other));
        assert!(is_member(&format!("0::/system.slice/docker-{id}.scope\n"), &id));
        assert!(is_member(&format!("0::/../../docker/{id}/inner/{other}\n"), &id));
        // Only some other hierarchy: it was not frozen with the container.
        assert!(!is_member(&format!("3:cpu,cpuacct:/docker/{id}\n5:freezer:/\n"), &id));
        assert!(!is_member(&format!("0::/docker/{id}0\n"), &id));
    }
}
