//! Checks of what belongs together, at start-up, each with what to do.

use super::ConfigError;
use super::settings::{Settings, SmtpTls};
use mothball_domain::name::{NodeName, ProjectName, UserName};
use mothball_domain::retention::{KEEP_LAST_MAX, UNUSED_DAYS_MAX};
use rust_decimal::Decimal;
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest wait for a survey: clients wait for a minute for an answer, and the call itself takes its time.
const SURVEY_MAX: Duration = Duration::from_secs(40);
/// Highest price of an hour, and of a gigabyte for a month.
const PRICE_MAX: u32 = 10_000_000;

/// Checks everything that can be told without asking a server.
pub(crate) fn check(settings: &Settings) -> Result<(), ConfigError> {
    places(settings)?;
    credentials(settings)?;
    notifications(settings)?;
    times(settings)?;
    bounds(settings)?;
    lists(settings)
}

fn refuse(key: &str, problem: impl Into<String>, hint: impl Into<String>) -> ConfigError {
    ConfigError::Refused { key: key.to_owned(), problem: problem.into(), hint: hint.into() }
}

fn places(s: &Settings) -> Result<(), ConfigError> {
    if !s.store.url.is("embedded") && !matches!(s.store.url.scheme(), Some("redis" | "rediss")) {
        return Err(refuse(
            "store.url",
            "it is neither \"embedded\" nor a Redis URL",
            "write embedded, redis://HOST:PORT/DB or rediss://HOST:PORT/DB",
        ));
    }
    if !s.queue.url.is("local") && !matches!(s.queue.url.scheme(), Some("amqp" | "amqps")) {
        return Err(refuse(
            "queue.url",
            "it is neither \"local\" nor an AMQP URL",
            "write local, amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://…",
        ));
    }
    let api = ("api.listen", Some(&s.api.listen));
    for (key, listen) in [api, ("telemetry.listen", s.telemetry.listen.as_ref())] {
        let port = listen.and_then(|l| l.rsplit_once(':')).map(|(_, port)| port.parse::<u16>());
        if listen.is_some() && !matches!(port, Some(Ok(_))) {
            return Err(refuse(
                key,
                "it is not HOST:PORT",
                "write 127.0.0.1:8780, or 127.0.0.1:0 for any free port",
            ));
        }
    }
    if s.telemetry.listen.as_ref() == Some(&s.api.listen) && !s.api.listen.ends_with(":0") {
        return Err(refuse(
            "telemetry.listen",
            "it is the same as api.listen",
            "choose another port, or leave it out: then /metrics is served with the API",
        ));
    }
    Ok(())
}

fn credentials(s: &Settings) -> Result<(), ConfigError> {
    match (&s.registry.username, &s.registry.password_file) {
        (Some(_), None) => Err(refuse(
            "registry.username",
            "it is set without registry.password_file",
            "put the password alone into a file and name it there",
        )),
        (None, Some(_)) => Err(refuse(
            "registry.password_file",
            "it is set without registry.username",
            "name the user as well, or leave both out",
        )),
        _ => Ok(()),
    }?;
    let Some(key) = &s.api.admin_key else { return Ok(()) };
    if is_key_shaped(secrecy::ExposeSecret::expose_secret(&key.0)) {
        return Ok(());
    }
    Err(refuse(
        "api.admin_key",
        "it does not have the form of a key",
        "write 8-4-4-4-12 lower-case hexadecimal digits, as `uuidgen` makes them, or leave it out to have one made",
    ))
}

fn notifications(s: &Settings) -> Result<(), ConfigError> {
    let smtp = &s.notifications.smtp;
    if smtp.username.is_some() != smtp.password_file.is_some() {
        return Err(refuse(
            "notifications.smtp.username",
            "of it and notifications.smtp.password_file only one is set",
            "set both, or leave both out",
        ));
    }
    if smtp.username.is_some() && smtp.tls == SmtpTls::None {
        return Err(refuse(
            "notifications.smtp.tls",
            "a password would be sent in the clear",
            "write \"starttls\" or \"tls\", or leave username and password_file out",
        ));
    }
    let Some(url) = &s.api.public_url else { return Ok(()) };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")).unwrap_or_default();
    if rest.is_empty() || url.contains(|c: char| c.is_whitespace() || "?#@<>\"".contains(c)) {
        return Err(refuse(
            "api.public_url",
            "it is no http or https address",
            "write https://HOST or https://HOST/PATH, without a query and without credentials",
        ));
    }
    Ok(())
}

/// Whether a text is 8-4-4-4-12 lower-case hexadecimal digits.
pub(crate) fn is_key_shaped(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let digits = text.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    digits && lengths == [8, 4, 4, 4, 12]
}

fn times(s: &Settings) -> Result<(), ConfigError> {
    let positive = [
        ("jobs.lease", s.jobs.lease),
        ("jobs.retry_first", s.jobs.retry_first),
        ("jobs.gone_after", s.jobs.gone_after),
        ("worker.heartbeat", s.worker.heartbeat),
        ("worker.usage_interval", s.worker.usage_interval),
        ("worker.stall_timeout", s.worker.stall_timeout),
        ("worker.frozen_max", s.worker.frozen_max),
        ("shutdown_grace", s.shutdown_grace),
        ("store.timeout", s.store.timeout),
        ("queue.publish_timeout", s.queue.publish_timeout),
        ("queue.connect_timeout", s.queue.connect_timeout),
        ("registry.timeout", s.registry.timeout),
        ("registry.connect_timeout", s.registry.connect_timeout),
        ("registry.stall_timeout", s.registry.stall_timeout),
        ("registry.finish_timeout", s.registry.finish_timeout),
        ("api.request_timeout", s.api.request_timeout),
        ("api.survey_timeout", s.api.survey_timeout),
        ("scheduler.tick", s.scheduler.tick),
        ("policies.tick", s.policies.tick),
        ("notifications.timeout", s.notifications.timeout),
        ("notifications.retry_first", s.notifications.retry_first),
        ("notifications.keep_for", s.notifications.keep_for),
        ("retention.tick", s.retention.tick),
    ];
    if let Some((key, _)) = positive.into_iter().find(|(_, span)| span.0.is_zero()) {
        return Err(refuse(key, "it is 0", "write a time above 0, as in \"30s\""));
    }
    if s.jobs.lease.0 < Duration::from_secs(1) {
        return Err(refuse(
            "jobs.lease",
            "it is shorter than 1s",
            "a lease is renewed three times in its length",
        ));
    }
    if s.api.survey_timeout.0 > SURVEY_MAX {
        return Err(refuse(
            "api.survey_timeout",
            format!("it ({}) is longer than {} s", s.api.survey_timeout, SURVEY_MAX.as_secs()),
            "whoever asks gives up after a minute",
        ));
    }
    if s.jobs.retry_first > s.jobs.retry_max {
        return Err(refuse(
            "jobs.retry_first",
            format!("it ({}) is longer than jobs.retry_max ({})", s.jobs.retry_first, s.jobs.retry_max),
            "the first wait doubles up to the longest; raise jobs.retry_max or lower this",
        ));
    }
    if s.worker.alive_within.0 < s.worker.heartbeat.0 * 2 {
        return Err(refuse(
            "worker.alive_within",
            format!("it ({}) is shorter than two times worker.heartbeat", s.worker.alive_within),
            format!("one late report would count as a dead node; write at least \"{}\"", heartbeats(s)),
        ));
    }
    Ok(())
}

fn heartbeats(s: &Settings) -> super::duration::Span {
    super::duration::Span(s.worker.heartbeat.0 * 4)
}

fn bounds(s: &Settings) -> Result<(), ConfigError> {
    let node = s.worker.node.as_deref().unwrap_or_default();
    if let Err(e) = NodeName::new(node) {
        return Err(refuse("worker.node", e.to_string(), "set worker.node; it is the host name unless set"));
    }
    for (key, value, from, to) in [
        ("worker.concurrency", u64::from(s.worker.concurrency), 1, 64),
        ("jobs.max_attempts", u64::from(s.jobs.max_attempts), 1, 100),
        ("notifications.max_attempts", u64::from(s.notifications.max_attempts), 1, 100),
        ("api.rate_per_second", u64::from(s.api.rate_per_second), 1, 100_000),
        ("api.rate_burst", u64::from(s.api.rate_burst), 1, 1_000_000),
        ("api.streams", u64::from(s.api.streams), 1, 100_000),
        ("api.streams_per_user", u64::from(s.api.streams_per_user), 1, 100_000),
        ("retention.keep_last_min", u64::from(s.retention.keep_last_min), 1, KEEP_LAST_MAX.into()),
        ("retention.unused_days_min", u64::from(s.retention.unused_days_min), 1, UNUSED_DAYS_MAX.into()),
        ("queue.len_max", u64::from(s.queue.len_max), 1, 10_000_000),
        ("api.body_max", s.api.body_max.0, 1024, 64 << 20),
    ] {
        if !(from..=to).contains(&value) {
            return Err(refuse(key, format!("it is {value}"), format!("write a number from {from} to {to}")));
        }
    }
    if s.currency.trim().is_empty() {
        return Err(refuse("currency", "it is empty", "write what prices are in, as in \"TWD\""));
    }
    Ok(())
}

fn lists(s: &Settings) -> Result<(), ConfigError> {
    if s.flavors.is_empty() {
        return Err(refuse(
            "flavors",
            "the list is empty",
            "nothing could be launched: write at least one [[flavors]]",
        ));
    }
    twice("flavors", s.flavors.iter().map(|f| f.name.as_str()))?;
    twice("catalog", s.catalog.iter().map(|c| c.name.as_str()))?;
    twice("mounts", s.mounts.iter().map(|m| m.target.as_str()))?;
    // Sums over years must stay exact.
    let dear = |price: Decimal| price > Decimal::from(PRICE_MAX);
    if let Some(flavor) = s.flavors.iter().find(|f| dear(f.price_per_hour)) {
        return Err(refuse(
            "flavors",
            format!("{:?} costs more than {PRICE_MAX} an hour", flavor.name.as_str()),
            "write a lower price, or prices in a larger unit of the currency",
        ));
    }
    let storage = s.billing.storage_price_per_gb_month;
    if storage.is_sign_negative() || dear(storage) {
        return Err(refuse(
            "billing.storage_price_per_gb_month",
            format!("it is {storage}"),
            format!("write a decimal from 0 to {PRICE_MAX}"),
        ));
    }
    if let Some(flavor) = s.flavors.iter().find(|f| f.price_per_hour.is_sign_negative() || f.cpus == 0) {
        return Err(refuse(
            "flavors",
            format!("{:?} has no CPU or a negative price", flavor.name.as_str()),
            "a container needs at least one CPU, and nobody is paid to run it",
        ));
    }
    if let Some(entry) = s.catalog.iter().find(|c| c.name.trim().is_empty() || c.image.trim().is_empty()) {
        return Err(refuse(
            "catalog",
            format!("entry {:?} lacks a name or an image", entry.name),
            "set both",
        ));
    }
    for mount in &s.mounts {
        for path in [&mount.target, &mount.source] {
            check_mount_path(path)?;
        }
    }
    Ok(())
}

fn check_mount_path(path: &str) -> Result<(), ConfigError> {
    let filled = path.replace("{user}", "u").replace("{project}", "p");
    let climbs = filled.split('/').any(|part| part == "..");
    if !filled.starts_with('/') || climbs || filled.contains(['{', '}', ':']) {
        return Err(refuse(
            "mounts",
            format!("{path:?} is not a path that can be mounted"),
            "write an absolute path without \"..\" and \":\"; {user} and {project} are filled in",
        ));
    }
    // Their rules forbid '/' and '.', so that a name can never lead out of the directory.
    debug_assert!(UserName::new("..").is_err() && ProjectName::new("a/b").is_err());
    Ok(())
}

fn twice<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Result<(), ConfigError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(refuse(key, format!("{name:?} stands in the list twice"), "take one of the two out"));
        }
    }
    Ok(())
}
