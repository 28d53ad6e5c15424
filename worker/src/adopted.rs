//! What an adopted container was launched with. Mothball did not launch it, so Docker is asked: what it was given on top of its
//! image is written down while it is there, or a park would lose it and no wake could bring it back.

use crate::attempt::Attempt;
use crate::docker::{ContainerFacts, DockerError, Engine, MountKind};
use crate::halt::Halt;
use crate::node::NodeContext;
use mothball_domain::container::{Container, Mount, MountRule, PORTS_MAX, Port, Source};
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::job::{JobSpec, Then};
use mothball_domain::name::{ENV_COUNT_MAX, check_env};
use mothball_image::oci::ContainerConfig;
use mothball_store::SeenLaunch;
use std::collections::{BTreeMap, BTreeSet};

/// Most names in one sentence.
const NAMED_MAX: usize = 5;

/// What Docker says of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Launched {
    /// What a wake can bring back.
    pub(crate) seen: SeenLaunch,
    /// What it cannot, in sentences.
    pub(crate) not_kept: Vec<String>,
}

/// Whether a container is still the one that Mothball did not launch: one that was woken is of our making.
pub(crate) fn is_of_others(container: &Container) -> bool {
    container.adopted && matches!(container.launch.source, Source::Adopted { .. })
}

/// Writes down what the job's container was launched with, where it was adopted, before anything happens to it; and tells the
/// owner of a park what a wake will not bring back. The container as it is on record then.
pub(crate) async fn recorded(attempt: &mut Attempt, mut container: Container) -> Result<Container, Halt> {
    let Some(docker_id) = container.docker_id.clone().filter(|_| is_of_others(&container)) else {
        return Ok(container);
    };
    let engine = attempt.parts.engine.clone();
    let Some(facts) = engine.inspect(&docker_id).await? else { return Ok(container) };
    let Launched { seen, not_kept } =
        launched(&engine, &attempt.node, &attempt.parts.settings.mounts, &container, &facts).await?;
    let store = attempt.parts.store.clone();
    let written = store.record_launch(&attempt.node.run.uid, container.id, &docker_id, &seen);
    attempt.until_stopped(async { Ok::<_, Halt>(written.await) }).await?.map_err(|error| {
        let sentence = format!("what the container was launched with could not be written down: {error}");
        Failure::transient(FailureClass::Internal, sentence)
    })?;
    if matches!(attempt.job.spec, JobSpec::Snapshot { then: Then::Park, .. }) {
        for sentence in not_kept {
            attempt.note(sentence);
        }
    }
    seen.put_into(&mut container);
    Ok(container)
}

/// Finds out what an adopted container was launched with.
pub(crate) async fn launched(
    engine: &Engine,
    node: &NodeContext,
    rules: &[MountRule],
    container: &Container,
    facts: &ContainerFacts,
) -> Result<Launched, DockerError> {
    let image = match node.base(&facts.image_id) {
        Some(base) => base.config.config,
        None => match engine.image(&facts.image_id).await? {
            Some(image) => serde_json::from_value(image.config).ok(),
            None => None,
        },
    };
    Ok(of(facts, image.as_ref(), rules, container))
}

fn of(
    facts: &ContainerFacts,
    image: Option<&ContainerConfig>,
    rules: &[MountRule],
    container: &Container,
) -> Launched {
    let mut not_kept = Vec::new();
    let env = if let Some(image) = image {
        env(facts, image.env.as_deref().unwrap_or_default(), &mut not_kept)
    } else {
        let why = "Its environment is not kept for the wake, because its image is gone from the node.";
        not_kept.push(why.to_owned());
        BTreeMap::new()
    };
    let mounts = mounts(facts, rules, container, &mut not_kept);
    let ports = ports(facts, &mut not_kept);
    let published = facts.ports.iter().map(|p| Port { target: p.target, published: Some(p.published) });
    let mut published: Vec<Port> = published.collect();
    published.dedup_by_key(|port| port.target);
    Launched { seen: SeenLaunch { env, mounts, ports, published }, not_kept }
}

/// What the container was given on top of its image, without what chooses GPUs: that is ours to do.
fn env(facts: &ContainerFacts, of_image: &[String], not_kept: &mut Vec<String>) -> BTreeMap<String, String> {
    let (mut kept, mut left) = (BTreeMap::new(), Vec::new());
    for entry in facts.env.iter().filter(|entry| !of_image.contains(entry)) {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        if name.starts_with("NVIDIA_") {
            continue;
        }
        if kept.len() < ENV_COUNT_MAX && check_env(name, value).is_ok() {
            kept.insert(name.to_owned(), value.to_owned());
        } else {
            left.push(name.to_owned());
        }
    }
    say(not_kept, "Environment that is not kept for the wake", &left);
    kept
}

/// Those of its mounts that a container launched here could have.
fn mounts(
    facts: &ContainerFacts,
    rules: &[MountRule],
    container: &Container,
    not_kept: &mut Vec<String>,
) -> Vec<Mount> {
    let known: Vec<Mount> = rules.iter().map(|rule| rule.of(&container.user, &container.project)).collect();
    let (mut kept, mut left) = (Vec::new(), Vec::new());
    for fact in facts
        .mounts
        .iter()
        .filter(|m| matches!(m.kind, MountKind::Bind | MountKind::Volume { anonymous: false }))
    {
        let mount = Mount { target: fact.destination.clone(), source: fact.source.clone() };
        if fact.kind == MountKind::Bind && known.contains(&mount) {
            kept.push(mount);
        } else {
            left.push(mount.target);
        }
    }
    say(not_kept, "Mounts that are not kept for the wake, because none like them is configured", &left);
    kept
}

/// The TCP ports that it publishes, or would if it ran.
fn ports(facts: &ContainerFacts, not_kept: &mut Vec<String>) -> Vec<u16> {
    let all: BTreeSet<u16> =
        facts.ports.iter().map(|port| port.target).chain(facts.bound_ports.iter().copied()).collect();
    let left: Vec<String> = all.iter().skip(PORTS_MAX).map(u16::to_string).collect();
    let left = [left, facts.other_ports.clone()].concat();
    say(not_kept, "Ports that are not kept for the wake", &left);
    all.into_iter().take(PORTS_MAX).collect()
}

fn say(not_kept: &mut Vec<String>, what: &str, all: &[String]) {
    if all.is_empty() {
        return;
    }
    let named = all.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    let more = all.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    not_kept.push(format!("{what}: {named}{more}."));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_sentence_are_few() {
        let (mut said, names) = (Vec::new(), ["a", "b", "c", "d", "e", "f", "g"].map(str::to_owned));
        say(&mut said, "Left", &names);
        say(&mut said, "None", &[]);
        assert_eq!(said, ["Left: a, b, c, d, e and 2 more."]);
    }
}
