//! The store, the queue and the registry.

use super::Finding;
use crate::config::Settings;
use crate::serve::parts;
use bytes::Bytes;
use jiff::Timestamp;
use mothball_domain::failure::FailureClass;
use mothball_image::oci::digest_of;
use mothball_image::{Deletion, Registry, RegistryError};
use mothball_queue::{Health, Queue};
use mothball_store::{Store, StoreError};
use serde_json::json;

/// Clocks further apart than this make times in logs and on screens misleading.
const SKEW_MAX_S: i64 = 5;
/// Where the probe goes. No project can have the name: project names have no '/'.
const PROBE_REPOSITORY: &str = "mothball/doctor-probe";
/// Dead letters that are shown.
const LETTERS_SHOWN: usize = 3;

pub(super) async fn store(settings: &Settings) -> Vec<Finding> {
    if settings.store.url.is("embedded") {
        return embedded(settings).await;
    }
    let store = match parts::store(settings) {
        Ok(store) => store,
        Err(e) => return vec![Finding::fail("store", e.message, "correct store.url")],
    };
    asked(&store, &settings.store.url.masked()).await
}

/// The file may be open in the server, which is then the one that answers for it.
async fn embedded(settings: &Settings) -> Vec<Finding> {
    let path = settings.data_dir.join("store.db");
    if !path.exists() {
        let found = format!("embedded; {} does not exist yet", path.display());
        return vec![Finding::ok("store", found)];
    }
    match Store::embedded(&path) {
        Err(StoreError::InUse(_)) => vec![Finding::ok("store", "embedded; open in the server that runs")],
        Err(e) => vec![Finding::fail(
            "store",
            e.to_string(),
            "see that data_dir can be written, and its disk is not full",
        )],
        Ok(store) => asked(&store, "embedded").await,
    }
}

async fn asked(store: &Store, name: &str) -> Vec<Finding> {
    let before = Timestamp::now();
    let now = match store.now().await {
        Ok(now) => now,
        Err(e) => {
            let advice = "see that the server runs, that store.url names it, and that its password is right";
            return vec![Finding::fail("store", format!("{name}: {e}"), advice)];
        }
    };
    let mut findings = vec![Finding::ok("store", format!("{name} answers"))];
    findings.push(clock(before, Timestamp::now(), now));
    match store.advice().await {
        Ok(advice) => {
            findings.extend(advice.into_iter().map(|a| Finding::warn("store", "it can lose data", a)));
        }
        Err(e) => findings.push(Finding::warn(
            "store",
            format!("its persistence could not be checked: {e}"),
            "allow CONFIG GET, or check appendonly and maxmemory-policy by hand",
        )),
    }
    findings
}

/// The store's clock is the one that counts; this machine's may differ by less than the answer took, and a little.
fn clock(before: Timestamp, after: Timestamp, store: Timestamp) -> Finding {
    let early = before.as_second() - store.as_second();
    let late = store.as_second() - after.as_second();
    let skew = early.max(late).max(0);
    if skew > SKEW_MAX_S {
        let found = format!("this machine and the store are {skew} s apart");
        return Finding::warn(
            "clock",
            found,
            "run chrony or another time service on both; jobs are right either way",
        );
    }
    Finding::ok("clock", "agrees with the store's")
}

pub(super) async fn queue(settings: &Settings) -> Vec<Finding> {
    if settings.queue.url.is("local") {
        return vec![Finding::ok("queue", "local")];
    }
    let queue = match parts::queue(settings) {
        Ok(queue) => queue,
        Err(e) => return vec![Finding::fail("queue", e.message, e.hint.unwrap_or_default())],
    };
    let findings = match queue.health().await {
        Ok(health) => connected(&queue, &health, &settings.queue.url.masked()).await,
        Err(e) => vec![Finding::fail("queue", e.to_string(), e.hint())],
    };
    queue.close().await;
    findings
}

async fn connected(queue: &Queue, health: &Health, name: &str) -> Vec<Finding> {
    if let Some(problem) = &health.problem {
        return vec![Finding::fail("queue", format!("{name}: {problem}"), problem.hint())];
    }
    let mut findings = vec![Finding::ok("queue", format!("{name} answers"))];
    if health.blocked {
        let advice = "free memory or disk on the broker's machine; `rabbitmqctl status` names the alarm";
        findings.push(Finding::fail("queue", "the broker holds publishers back", advice));
    }
    // Declaring is what every publish needs; a user without the permission shows here and not at the first job.
    if let Err(e) = queue.declare(&mothball_queue::Target::Any).await {
        findings.push(Finding::fail("queue", e.to_string(), e.hint()));
    }
    let dead = health.dead_letters.unwrap_or(0);
    if dead > 0 {
        let letters = queue.dead_letters(LETTERS_SHOWN).await.unwrap_or_default();
        let shown = letters.iter().map(|l| format!("{} from {}: {}", l.reason, l.queue, l.body));
        let found =
            format!("{dead} messages that nobody could use: {}", shown.collect::<Vec<_>>().join("; "));
        let advice =
            "jobs are not lost by it (the store has them); see who else writes into the queue, then purge it";
        findings.push(Finding::warn("queue", found, advice));
    }
    findings
}

/// The mail server: reached and signed in to, and no message sent. Nothing where there is none.
pub(super) async fn mail(settings: &Settings) -> Vec<Finding> {
    let mailer = match parts::mailer(settings) {
        Ok(Some(mailer)) => mailer,
        Ok(None) => return Vec::new(),
        Err(e) => return vec![Finding::fail("mail", e.message, e.hint.unwrap_or_default())],
    };
    let smtp = &settings.notifications.smtp;
    let name = format!("{}:{}", smtp.host.as_deref().unwrap_or_default(), smtp.port);
    match mailer.check().await {
        Ok(()) => vec![Finding::ok("mail", format!("{name} answers"))],
        Err(e) => {
            let advice =
                "see that the mail server runs and takes the sign-in, and [notifications.smtp] names it";
            vec![Finding::fail("mail", format!("{name}: {e}"), advice)]
        }
    }
}

pub(super) async fn registry(settings: &Settings) -> Vec<Finding> {
    let registry = match parts::registry(settings) {
        Ok(registry) => registry,
        Err(e) => return vec![Finding::fail("registry", e.message, "correct the [registry] section")],
    };
    let name = settings.registry.url.clone();
    if let Err(e) = registry.ping().await {
        return vec![refused(&name, &e)];
    }
    let mut findings = vec![Finding::ok("registry", format!("{name} answers"))];
    match probe(&registry).await {
        Ok(Deletion::Unsupported) => findings.push(Finding::warn(
            "registry",
            "a probe was pushed and read back, but the registry is set up not to delete",
            "allow deletion (docker-registry: storage.delete.enabled), or deleted images keep their space",
        )),
        Ok(_) => findings.push(Finding::ok("registry", "a probe was pushed, read back and deleted")),
        Err(e) => findings.push(refused(&name, &e)),
    }
    findings
}

/// Pushes an image of a few bytes, proves it, and deletes it.
async fn probe(registry: &Registry) -> Result<Deletion, RegistryError> {
    let config = Bytes::from(
        json!({
            "architecture": "amd64", "os": "linux", "created": Timestamp::now().to_string(),
            "rootfs": { "type": "layers", "diff_ids": [] }, "config": {},
        })
        .to_string(),
    );
    registry.put_blob(PROBE_REPOSITORY, &digest_of(&config), config.clone()).await?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(&config), "size": config.len(),
        },
        "layers": [],
    });
    let bytes = Bytes::from(manifest.to_string());
    let digest = registry
        .put_manifest(PROBE_REPOSITORY, "probe", "application/vnd.oci.image.manifest.v1+json", bytes)
        .await?;
    let proven = registry.verify(PROBE_REPOSITORY, &digest).await;
    let deleted = registry.delete_manifest(PROBE_REPOSITORY, &digest).await;
    proven?;
    deleted
}

fn refused(name: &str, error: &RegistryError) -> Finding {
    let failure = error.failure();
    let advice = match failure.class {
        FailureClass::Auth => "check registry.username and what registry.password_file holds".to_owned(),
        FailureClass::Network | FailureClass::Timeout => {
            "see that the registry runs, that registry.url names it, and that no proxy is in the way"
                .to_owned()
        }
        _ => failure.hint,
    };
    Finding::fail("registry", format!("{name}: {error}"), advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn clocks_may_differ_by_what_the_answer_took() {
        let at = |s| Timestamp::from_second(s).unwrap();
        assert_eq!(clock(at(100), at(130), at(115)).verdict, Verdict::Ok);
        assert_eq!(clock(at(100), at(101), at(105)).verdict, Verdict::Ok);
        assert_eq!(clock(at(100), at(101), at(107)).verdict, Verdict::Warn);
        assert_eq!(clock(at(700), at(701), at(100)).found, "this machine and the store are 600 s apart");
    }
}
