//! Which roles a process has, and whether they can work without the others beside them.

use crate::config::Settings;
use crate::exit::Fail;
use std::collections::BTreeSet;

/// What `--target` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Target {
    /// Every role.
    All,
    /// HTTP in, job out.
    Api,
    /// Runs jobs on this machine's Docker: one per node.
    Worker,
    /// Attends to what is due; any number may run.
    Scheduler,
}

/// A role of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Api,
    Worker,
    Scheduler,
}

pub(super) fn roles(targets: &[Target]) -> BTreeSet<Role> {
    let of = |target: &Target| match target {
        Target::All => vec![Role::Api, Role::Worker, Role::Scheduler],
        Target::Api => vec![Role::Api],
        Target::Worker => vec![Role::Worker],
        Target::Scheduler => vec![Role::Scheduler],
    };
    targets.iter().flat_map(of).collect()
}

/// Refuses a process that could only work with others, on a store or a queue that no other process can reach.
pub(super) fn check(roles: &BTreeSet<Role>, settings: &Settings) -> Result<(), Fail> {
    if roles.len() == 3 {
        return Ok(());
    }
    let embedded = settings.store.url.is("embedded").then_some("store.url is \"embedded\"");
    let local = settings.queue.url.is("local").then_some("queue.url is \"local\"");
    let alone: Vec<&str> = [embedded, local].into_iter().flatten().collect();
    if alone.is_empty() {
        return Ok(());
    }
    Err(Fail::usage(format!(
        "roles in several processes need servers that they share, but {}",
        alone.join(" and ")
    ))
    .hint("set store.url to redis://… and queue.url to amqp://…, or run all targets in one process"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::exit::Code;

    #[test]
    fn a_role_alone_needs_shared_servers() {
        let variable = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let node = variable("MOTHBALL_WORKER__NODE", "n");
        let embedded = load(None, std::slice::from_ref(&node)).unwrap();
        let redis = variable("MOTHBALL_STORE__URL", "redis://r");
        let half = load(None, &[node.clone(), redis.clone()]).unwrap();
        let whole = load(None, &[node, redis, variable("MOTHBALL_QUEUE__URL", "amqp://b")]).unwrap();
        let worker = roles(&[Target::Worker]);
        let every = roles(&[Target::Api, Target::Worker, Target::Scheduler]);
        assert_eq!(every, roles(&[Target::All, Target::Api]));
        for (roles, settings, good) in [
            (&worker, &embedded, false),
            (&worker, &half, false),
            (&worker, &whole, true),
            (&every, &embedded, true),
            (&every, &half, true),
        ] {
            let checked = check(roles, settings);
            assert_eq!(checked.is_ok(), good, "{checked:?}");
            assert!(checked.is_ok() || checked.unwrap_err().code == Code::Usage);
        }
    }
}
