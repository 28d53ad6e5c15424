//! The config of a saved image: the base image's own, not the container's.
//!
//! `docker commit` writes the container's run-time settings into the image: keys that the launcher
//! injected as environment, its labels, the command that this one container was started with. Once more
//! in `container_config`, and the command in the history. None of that belongs to the image: what
//! belongs is the files, and what the base image starts with.

use crate::oci::{ContainerConfig, History, ImageConfig};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

/// What to leave out of a saved image, and what to write into its history.
#[derive(Debug, Clone)]
pub struct ScrubRules {
    /// Labels that begin so are left out, also of the base: a base may be a saved image itself.
    pub label_prefixes: Vec<String>,
    /// Values that the launcher injected: wherever one still stands in the config, as a whole or inside
    /// another text, it is replaced.
    pub secrets: Vec<SecretString>,
    /// The note that stands beside what was committed for this save. Docker may have committed more than once on the way;
    /// only one entry remains.
    pub committed_as: String,
    /// What the last layer's history says instead of the container's command.
    pub created_by: String,
    /// The note beside it: the job's id makes each saved image's digest its own, so that deleting one
    /// never takes another's tag along.
    pub comment: Option<String>,
}

impl Default for ScrubRules {
    fn default() -> Self {
        Self {
            label_prefixes: vec!["mothball.".to_owned()],
            secrets: Vec::new(),
            committed_as: COMMIT_COMMENT.to_owned(),
            created_by: "mothball save".to_owned(),
            comment: None,
        }
    }
}

/// The note beside what is committed on the way of a save.
pub const COMMIT_COMMENT: &str = "mothball save in progress";
/// What is written where a secret stood.
const REPLACEMENT: &str = "***";
/// A shorter value is no secret and would be found everywhere.
const SECRET_CHARS_MIN: usize = 4;
/// Docker's leftovers of the container: its settings, its id, and the ids of the time before digests.
const LEFTOVERS: [&str; 6] = ["container_config", "container", "id", "parent", "parent_id", "throwaway"];

/// Makes the config of a saved image out of what `docker commit` wrote and of the base image's own
/// settings. The committed layers and their history stay; the container's settings go.
#[must_use]
pub fn scrub_config(committed: ImageConfig, base: &ContainerConfig, rules: &ScrubRules) -> ImageConfig {
    let mut config = committed;
    if let Some(history) = &mut config.history {
        rewrite_history(history, rules);
    }
    scrub_base(config, base, rules)
}

/// The same for a config that was made from the base's and has no history of a commit.
#[must_use]
pub(crate) fn scrub_base(mut config: ImageConfig, base: &ContainerConfig, rules: &ScrubRules) -> ImageConfig {
    for name in LEFTOVERS {
        config.extra.remove(name);
    }
    config.config = Some(settings(base, rules));
    for entry in config.history.iter_mut().flatten() {
        for text in [&mut entry.created_by, &mut entry.comment, &mut entry.author].into_iter().flatten() {
            hide(text, rules);
        }
        hide_all(&mut entry.extra, rules);
    }
    if let Some(author) = &mut config.author {
        hide(author, rules);
    }
    hide_all(&mut config.extra, rules);
    config
}

/// Whether a container of a saved image starts as one of its base does, so that it may be made of the base.
pub fn same_settings(saved: &ImageConfig, base: &ImageConfig) -> bool {
    let rules = ScrubRules::default();
    let of = |config: &ImageConfig| settings(&config.config.clone().unwrap_or_default(), &rules);
    of(saved) == of(base)
}

/// What was committed for this save says which job did it, once, and no longer how the container was started.
fn rewrite_history(history: &mut Vec<History>, rules: &ScrubRules) {
    let ours = |entry: &History| entry.comment.as_ref() == Some(&rules.committed_as);
    let is_layer = |entry: &History| !entry.empty_layer;
    // A container in which nothing was changed has added no layer: then its entry is an empty one.
    let kept = history.iter().rposition(|entry| ours(entry) && is_layer(entry));
    let kept = kept.or_else(|| history.iter().rposition(ours)).or_else(|| history.iter().rposition(is_layer));
    let Some(kept) = kept else { return };
    let mut position = 0..;
    history.retain_mut(|entry| {
        if position.next() == Some(kept) || (ours(entry) && is_layer(entry)) {
            *entry = History {
                created: entry.created.take(),
                created_by: Some(rules.created_by.clone()),
                comment: rules.comment.clone(),
                empty_layer: entry.empty_layer,
                ..History::default()
            };
            return true;
        }
        !ours(entry)
    });
}

/// The base image's settings without labels that are not the image's. Its environment is its own, also
/// where the launcher had set the same name, and where a launched value happens to be the same.
fn settings(base: &ContainerConfig, rules: &ScrubRules) -> ContainerConfig {
    let mut settings = base.clone();
    if let Some(labels) = &mut settings.labels {
        labels.retain(|name, _| !rules.label_prefixes.iter().any(|prefix| name.starts_with(prefix)));
        if labels.is_empty() {
            settings.labels = None;
        }
    }
    // Docker's API shows a host name and open streams beside the image's settings; they are a container's.
    for name in ["Hostname", "Domainname", "Image", "MacAddress", "NetworkDisabled"] {
        settings.extra.remove(name);
    }
    settings
}

fn hide(text: &mut String, rules: &ScrubRules) {
    for secret in &rules.secrets {
        let secret = secret.expose_secret();
        if secret.chars().count() >= SECRET_CHARS_MIN && text.contains(secret) {
            *text = text.replace(secret, REPLACEMENT);
        }
    }
}

fn hide_all(fields: &mut Map<String, Value>, rules: &ScrubRules) {
    fields.values_mut().for_each(|value| hide_within(value, rules));
}

fn hide_within(value: &mut Value, rules: &ScrubRules) {
    match value {
        Value::String(text) => hide(text, rules),
        Value::Array(list) => list.iter_mut().for_each(|v| hide_within(v, rules)),
        Value::Object(fields) => hide_all(fields, rules),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mothball_domain::image::Digest;
    use serde_json::json;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn base() -> ContainerConfig {
        read(json!({
            "Env": ["PATH=/usr/bin", "NVIDIA_VISIBLE_DEVICES=all"], "Entrypoint": ["/init"], "Cmd": ["serve"],
            "User": "1000", "WorkingDir": "/srv", "Labels": {"maintainer": "them", "mothball.job": "old"},
            "Healthcheck": {"Test": ["CMD", "true"]}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
            "Shell": ["/bin/bash"], "StopSignal": "SIGINT", "OnBuild": ["RUN x"], "Hostname": "abc",
        }))
    }

    /// What `docker commit` 20.10 writes of a container that was launched with a key.
    fn committed() -> ImageConfig {
        let run_time = json!({
            "Hostname": "0123456789ab", "Image": "base", "User": "0", "WorkingDir": "/tmp",
            "Env": ["API_KEY=s3cr3t-value", "NVIDIA_VISIBLE_DEVICES=0,1", "PATH=/evil"],
            "Cmd": ["sh", "-c", "login s3cr3t-value"], "Entrypoint": null, "StopSignal": "SIGKILL",
            "Labels": {"maintainer": "them", "mothball.container": "c1", "run.time": "x"},
        });
        read(json!({
            "architecture": "amd64", "os": "linux", "docker_version": "20.10.24", "created": "2026-11-23T00:00:00Z",
            "container": "0123456789abcdef", "container_config": run_time, "config": run_time,
            "rootfs": {"type": "layers",
                       "diff_ids": [Digest::from_sha256([1; 32]), Digest::from_sha256([2; 32])]},
            "history": [
                {"created": "2020-01-01T00:00:00Z", "created_by": "/bin/sh -c #(nop) ADD file"},
                {"created_by": "/bin/sh -c #(nop) CMD", "empty_layer": true},
                {"created": "2026-11-23T00:00:00Z", "created_by": "sh -c login s3cr3t-value",
                 "author": "me", "comment": "s3cr3t-value", "extra": "s3cr3t-value"},
            ],
        }))
    }

    fn rules() -> ScrubRules {
        ScrubRules {
            secrets: vec!["s3cr3t-value".into()],
            comment: Some("job 1".to_owned()),
            ..ScrubRules::default()
        }
    }

    #[test]
    fn a_saved_image_starts_as_its_base_does() {
        let saved = scrub_config(committed(), &base(), &rules());
        let config = serde_json::to_value(saved.config.unwrap()).unwrap();
        let want = json!({
            "Env": ["PATH=/usr/bin", "NVIDIA_VISIBLE_DEVICES=all"], "Entrypoint": ["/init"], "Cmd": ["serve"],
            "User": "1000", "WorkingDir": "/srv", "Labels": {"maintainer": "them"},
            "Healthcheck": {"Test": ["CMD", "true"]}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}},
            "Shell": ["/bin/bash"], "StopSignal": "SIGINT", "OnBuild": ["RUN x"],
        });
        assert_eq!(config, want);
    }

    #[test]
    fn what_the_base_does_not_set_the_container_does_not_bring() {
        let saved = scrub_config(committed(), &ContainerConfig::default(), &rules());
        assert_eq!(saved.config, Some(ContainerConfig::default()));
    }

    #[test]
    fn layers_history_and_the_rest_stay() {
        let before = committed();
        let saved = scrub_config(before.clone(), &base(), &rules());
        assert_eq!(saved.rootfs, before.rootfs);
        assert_eq!((&saved.created, &saved.architecture), (&before.created, &before.architecture));
        assert_eq!(saved.extra.get("docker_version"), Some(&json!("20.10.24")));
        let (history, old) = (saved.history.unwrap(), before.history.unwrap());
        assert_eq!(history[..2], old[..2]);
        let last: History = read(json!({
            "created": "2026-11-23T00:00:00Z", "created_by": "mothball save", "comment": "job 1",
        }));
        assert_eq!(history[2], last);
    }

    fn entries(saved: &ImageConfig) -> Vec<(Option<&str>, Option<&str>, bool)> {
        let entries = saved.history.iter().flatten();
        entries.map(|h| (h.created_by.as_deref(), h.comment.as_deref(), h.empty_layer)).collect()
    }

    #[test]
    fn what_was_committed_twice_is_one_entry() {
        let mut twice = committed();
        twice.history = Some(read(json!([
            {"created_by": "base"},
            {"created_by": "serve --key s3cr3t", "comment": COMMIT_COMMENT},
            {"created_by": "serve --key s3cr3t", "comment": COMMIT_COMMENT, "empty_layer": true},
        ])));
        let saved = scrub_config(twice.clone(), &base(), &rules());
        let ours = (Some("mothball save"), Some("job 1"), false);
        assert_eq!(entries(&saved), [(Some("base"), None, false), ours]);
        // Nothing was changed in the container: the base's own layer keeps its words.
        twice.history.as_mut().unwrap()[1].empty_layer = true;
        let saved = scrub_config(twice, &base(), &rules());
        assert_eq!(entries(&saved), [(Some("base"), None, false), (ours.0, ours.1, true)]);
    }

    #[test]
    fn no_secret_and_no_leftover_is_anywhere_in_the_text() {
        // Also with a history whose last entry is not the commit's, and with the key in other fields.
        let mut odd = committed();
        odd.author = Some("me s3cr3t-value".to_owned());
        odd.history.as_mut().unwrap().reverse();
        odd.extra.insert("future".to_owned(), json!({"a": ["x s3cr3t-value y"]}));
        for image in [committed(), odd] {
            let saved = scrub_config(image, &base(), &rules());
            let text = String::from_utf8(saved.to_bytes().unwrap()).unwrap();
            let gone =
                ["s3cr3t", "API_KEY", "container_config", "0123456789ab", "mothball.", "run.time", "evil"];
            for word in gone {
                assert!(!text.contains(word), "{word} in {text}");
            }
        }
    }

    #[test]
    fn a_saved_image_starts_as_its_base_does_unless_somebody_changed_it() {
        let mut of = committed();
        of.config = Some(base());
        let saved = scrub_config(committed(), &base(), &rules());
        assert!(same_settings(&saved, &of));
        let mut changed = saved;
        changed.config.as_mut().unwrap().cmd = Some(vec!["other".to_owned()]);
        assert!(!same_settings(&changed, &of));
    }

    #[test]
    fn scrubbing_twice_changes_nothing_more() {
        let once = scrub_config(committed(), &base(), &rules());
        assert_eq!(scrub_config(once.clone(), &base(), &rules()), once);
    }

    #[test]
    fn a_short_value_does_not_eat_the_history() {
        let rules = ScrubRules { secrets: vec!["sh".into(), "".into()], ..ScrubRules::default() };
        let saved = scrub_config(committed(), &base(), &rules);
        assert_eq!(saved.history.unwrap()[0].created_by.as_deref(), Some("/bin/sh -c #(nop) ADD file"));
    }

    #[test]
    fn an_image_without_history_is_fine() {
        let mut bare = committed();
        bare.history = None;
        assert_eq!(scrub_config(bare, &base(), &rules()).history, None);
    }
}
