//! What is known of a container.

use bollard::models::{ContainerInspectResponse, ContainerState, HostConfig, MountPoint, PortMap};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// Where Docker says that a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ContainerStatus {
    /// Made but never started.
    Created,
    /// Its processes run.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Between two runs, by its restart policy.
    Restarting,
    /// Being removed.
    Removing,
    /// Its processes ended.
    Exited,
    /// Docker failed to remove it.
    Dead,
}

impl ContainerStatus {
    /// Whether it has processes, frozen or not.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    pub(super) fn from_text(text: &str) -> Self {
        match text {
            "running" | "stopping" => Self::Running,
            "paused" => Self::Paused,
            "restarting" => Self::Restarting,
            "removing" => Self::Removing,
            "created" => Self::Created,
            "dead" => Self::Dead,
            _ => Self::Exited,
        }
    }
}

/// What a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MountKind {
    /// A path of the node.
    Bind,
    /// A volume of Docker's. An anonymous one goes with its container, or leaks.
    Volume {
        /// Whether nobody named it.
        anonymous: bool,
    },
    /// Memory.
    Tmpfs,
}

/// A mount of a container: what is below it is never saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountFact {
    /// What it is.
    pub kind: MountKind,
    /// The path on the node, or nothing for memory.
    pub source: String,
    /// Where it appears in the container.
    pub destination: String,
    /// Whether the container may write to it.
    pub writable: bool,
}

/// A port that can be reached on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    /// The port in the container (TCP).
    pub target: u16,
    /// The address on the node.
    pub host_ip: String,
    /// The port on the node.
    pub published: u16,
}

/// What Docker knows of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerFacts {
    /// Its Docker id, all 64 digits.
    pub id: String,
    /// Its name, without the slash.
    pub name: String,
    /// Where it stands.
    pub status: ContainerStatus,
    /// The process id of its first process, as the node counts.
    pub pid: Option<u32>,
    /// The code its first process ended with.
    pub exit_code: Option<i64>,
    /// Docker's words about why it could not start.
    pub error: Option<String>,
    /// Whether the kernel ended it for want of memory.
    pub oom_killed: bool,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// When it was started last; none if never.
    pub started_at: Option<Timestamp>,
    /// When it ended last; none if never.
    pub finished_at: Option<Timestamp>,
    /// The id of its image.
    pub image_id: String,
    /// The reference that it was made from.
    pub image: String,
    /// Its labels, those of its image included.
    pub labels: BTreeMap<String, String>,
    /// Its environment, `NAME=value`, that of its image included. May hold secrets.
    pub env: Vec<String>,
    /// Its whole run-time configuration, keys as in an OCI image configuration. May hold secrets.
    pub config: Value,
    /// What is mounted into it.
    pub mounts: Vec<MountFact>,
    /// Ports that can be reached.
    pub ports: Vec<PublishedPort>,
    /// Its TCP ports that are published whenever it runs.
    pub bound_ports: Vec<u16>,
    /// Its other ports that are, as Docker writes them: `53/udp`.
    pub other_ports: Vec<String>,
    /// The storage driver that holds its files.
    pub driver: String,
    /// Where its writable layer lies on the node (overlay2).
    pub upper_dir: Option<String>,
    /// The layers below the writable one, topmost first (overlay2).
    pub lower_dirs: Vec<String>,
    /// Whether Docker removes it when it stops.
    pub auto_remove: bool,
    /// The restart policy's name; "no" without one.
    pub restart_policy: String,
    /// Memory limit in bytes.
    pub memory_bytes: Option<u64>,
    /// Limit of CPU cores, in thousandths.
    pub cpu_millis: Option<u64>,
}

impl ContainerFacts {
    /// Whether its processes are frozen.
    pub fn is_paused(&self) -> bool {
        self.status == ContainerStatus::Paused
    }

    /// Anonymous volumes: data that is neither in the image nor left when the container is removed.
    pub fn anonymous_volumes(&self) -> impl Iterator<Item = &MountFact> {
        self.mounts.iter().filter(|m| m.kind == MountKind::Volume { anonymous: true })
    }

    pub(super) fn read(answer: ContainerInspectResponse) -> Self {
        let state = answer.state.unwrap_or_default();
        let host = answer.host_config.unwrap_or_default();
        let graph = answer.graph_driver.map(|g| g.data).unwrap_or_default();
        let config = answer.config.unwrap_or_default();
        let mounts = answer.mounts.unwrap_or_default();
        let (bound_ports, other_ports) = bound(host.port_bindings.as_ref());
        let lower = graph.get("LowerDir").map(String::as_str).unwrap_or_default();
        Self {
            id: answer.id.unwrap_or_default(),
            name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            status: status(&state),
            pid: state.pid.and_then(|p| u32::try_from(p).ok()).filter(|p| *p != 0),
            exit_code: state.exit_code,
            error: state.error.filter(|e| !e.is_empty()),
            oom_killed: state.oom_killed.unwrap_or(false),
            created_at: timestamp(answer.created.as_deref()),
            started_at: timestamp(state.started_at.as_deref()),
            finished_at: timestamp(state.finished_at.as_deref()),
            image_id: answer.image.unwrap_or_default(),
            image: config.image.clone().unwrap_or_default(),
            labels: config.labels.clone().unwrap_or_default().into_iter().collect(),
            env: config.env.clone().unwrap_or_default(),
            // It holds strings, numbers and lists only.
            config: serde_json::to_value(&config).unwrap_or_default(),
            mounts: mount_facts(mounts, &host),
            ports: published(answer.network_settings.and_then(|n| n.ports).unwrap_or_default()),
            bound_ports,
            other_ports,
            driver: answer.driver.unwrap_or_default(),
            upper_dir: graph.get("UpperDir").cloned(),
            lower_dirs: lower.split(':').filter(|d| !d.is_empty()).map(str::to_owned).collect(),
            auto_remove: host.auto_remove.unwrap_or(false),
            restart_policy: restart_policy(&host),
            memory_bytes: host.memory.and_then(|m| u64::try_from(m).ok()).filter(|m| *m != 0),
            cpu_millis: host.nano_cpus.and_then(|n| u64::try_from(n / 1_000_000).ok()).filter(|n| *n != 0),
        }
    }
}

fn status(state: &ContainerState) -> ContainerStatus {
    // A paused container is "running" too, and Docker sets the word only by and by: the flag is surer.
    if state.paused == Some(true) {
        return ContainerStatus::Paused;
    }
    state.status.map_or(ContainerStatus::Exited, |s| ContainerStatus::from_text(s.as_ref()))
}

fn restart_policy(host: &HostConfig) -> String {
    let name = host.restart_policy.as_ref().and_then(|p| p.name).map(|n| n.to_string()).unwrap_or_default();
    if name.is_empty() { "no".to_owned() } else { name }
}

/// Docker writes the year 1 for "never".
pub(super) fn timestamp(text: Option<&str>) -> Option<Timestamp> {
    text?.parse().ok().filter(|t: &Timestamp| *t > Timestamp::UNIX_EPOCH)
}

fn mount_facts(mounts: Vec<MountPoint>, host: &HostConfig) -> Vec<MountFact> {
    let mut facts: Vec<MountFact> = mounts.into_iter().map(mount_fact).collect();
    // `docker run --tmpfs` does not appear among the mounts.
    for target in host.tmpfs.iter().flat_map(|t| t.keys()) {
        if !facts.iter().any(|f| f.destination == *target) {
            facts.push(MountFact {
                kind: MountKind::Tmpfs,
                source: String::new(),
                destination: target.clone(),
                writable: true,
            });
        }
    }
    facts.sort_by(|a, b| a.destination.cmp(&b.destination));
    facts
}

fn mount_fact(mount: MountPoint) -> MountFact {
    let kind = match mount.typ.as_deref() {
        Some("volume") => MountKind::Volume { anonymous: mount.name.as_deref().is_some_and(is_anonymous) },
        Some("tmpfs") => MountKind::Tmpfs,
        _ => MountKind::Bind,
    };
    MountFact {
        kind,
        source: mount.source.unwrap_or_default(),
        destination: mount.destination.unwrap_or_default(),
        writable: mount.rw.unwrap_or(true),
    }
}

/// Docker gives a volume without a name 64 random hexadecimal digits; 20.10 marks it in no other way.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn published(ports: PortMap) -> Vec<PublishedPort> {
    let mut found = Vec::new();
    for (key, bindings) in ports {
        let Some(target) = key.strip_suffix("/tcp").and_then(|p| p.parse().ok()) else { continue };
        for binding in bindings.unwrap_or_default() {
            let published = binding.host_port.and_then(|p| p.parse().ok());
            if let Some(published) = published.filter(|p| *p != 0) {
                found.push(PublishedPort { target, host_ip: binding.host_ip.unwrap_or_default(), published });
            }
        }
    }
    found.sort_by(|a, b| (a.target, &a.host_ip).cmp(&(b.target, &b.host_ip)));
    found
}

/// The ports that are asked for, TCP and others.
fn bound(ports: Option<&PortMap>) -> (Vec<u16>, Vec<String>) {
    let (mut tcp, mut others) = (Vec::new(), Vec::new());
    for key in ports.into_iter().flat_map(PortMap::keys) {
        match key.strip_suffix("/tcp").and_then(|port| port.parse().ok()) {
            Some(port) => tcp.push(port),
            None => others.push(key.clone()),
        }
    }
    tcp.sort_unstable();
    others.sort_unstable();
    (tcp, others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(extra: &Value) -> ContainerFacts {
        let mut answer = json!({"Id": "ab", "Name": "/c1", "State": {"Status": "running", "Running": true}});
        answer.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ContainerFacts::read(serde_json::from_value(answer).unwrap())
    }

    #[test]
    fn mounts_are_told_apart() {
        let hex = "0123456789abcdef".repeat(4);
        let facts = facts(&json!({
            "Mounts": [
                {"Type": "volume", "Name": hex, "Source": "/v/a", "Destination": "/data", "RW": true},
                {"Type": "volume", "Name": "models", "Source": "/v/b", "Destination": "/models", "RW": false},
                {"Type": "bind", "Source": "/mnt/home", "Destination": "/home/ann", "RW": true},
            ],
            "HostConfig": {"Tmpfs": {"/scratch": "size=1g"}},
        }));
        let kinds: Vec<_> = facts.mounts.iter().map(|m| (m.destination.as_str(), m.kind)).collect();
        let expected = [
            ("/data", MountKind::Volume { anonymous: true }),
            ("/home/ann", MountKind::Bind),
            ("/models", MountKind::Volume { anonymous: false }),
            ("/scratch", MountKind::Tmpfs),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(facts.anonymous_volumes().count(), 1);
    }

    #[test]
    fn never_and_nothing_are_none() {
        let facts = facts(&json!({
            "State": {"Status": "created", "Pid": 0, "StartedAt": "0001-01-01T00:00:00Z"},
            "HostConfig": {"Memory": 0, "NanoCpus": 1_500_000_000_u64, "RestartPolicy": {"Name": ""}},
        }));
        assert_eq!((facts.status, facts.pid, facts.started_at), (ContainerStatus::Created, None, None));
        assert_eq!((facts.memory_bytes, facts.cpu_millis), (None, Some(1500)));
        assert_eq!((facts.name.as_str(), facts.restart_policy.as_str()), ("c1", "no"));
    }

    #[test]
    fn a_port_counts_once_it_is_published() {
        let facts = facts(&json!({"NetworkSettings": {"Ports": {
            "8888/tcp": [{"HostIp": "127.0.0.1", "HostPort": "32768"}],
            "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "53"}],
            "22/tcp": null,
        }}}));
        let port = PublishedPort { target: 8888, host_ip: "127.0.0.1".into(), published: 32768 };
        assert_eq!(facts.ports, [port]);
    }

    #[test]
    fn the_flag_is_surer_than_the_word() {
        let facts = facts(&json!({"State": {"Status": "running", "Running": true, "Paused": true}}));
        assert!(facts.is_paused() && facts.status.is_alive());
    }
}
