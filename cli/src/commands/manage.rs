//! `mothball delete`, `protect`, `label`, `start`, `stop`, `keep`.

use super::submitted::{self, Wait};
use crate::client::Client;
use crate::context::{Context, local, now};
use crate::exit::Fail;
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;
use mothball_api::v1::views::{Container, ContainerPatch, Job};
use serde_json::json;
use std::collections::BTreeMap;

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Numbers or names of containers.
    #[arg(value_name = "C", required = true)]
    containers: Vec<String>,
    /// Drops the record of a container that is lost on its node.
    #[arg(long)]
    forget: bool,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn delete(args: DeleteArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let what = args.containers.join(", ");
    cx.confirm(&format!("Delete {what}? What is not saved is lost."))?;
    let mut started = Vec::new();
    for container in &args.containers {
        started.push(delete_one(&client, container, args.forget).await);
    }
    if args.forget {
        // Nothing is left on the node, so there is no job.
        for result in started {
            result?;
        }
        return cx.show(&args.containers, |names| format!("forgot {}", names.join(", ")));
    }
    let jobs = started.into_iter().map(|answer| {
        let value = answer?;
        serde_json::from_value::<Job>(value)
            .map_err(|e| Fail::failed(format!("the server answered with something else than a job: {e}")))
    });
    submitted::many(cx, &client, jobs.collect(), args.wait).await
}

async fn delete_one(client: &Client, container: &str, forget: bool) -> Result<serde_json::Value, Fail> {
    let query: Vec<(&str, String)> = forget.then(|| ("forget", "true".to_owned())).into_iter().collect();
    client.delete(&["containers", container], &query).await
}

#[derive(Debug, Args)]
pub(crate) struct ProtectArgs {
    /// The container's number or name.
    #[arg(value_name = "C")]
    container: String,
    /// Whether deletion is refused.
    #[arg(value_enum)]
    switch: Switch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

pub(crate) async fn protect(args: ProtectArgs, cx: &Context) -> Result<(), Fail> {
    let patch = ContainerPatch { protected: Some(args.switch == Switch::On), ..ContainerPatch::default() };
    let container = change(&args.container, &patch, cx).await?;
    cx.show(&container, |c| {
        format!(
            "{} is {}",
            c.name,
            if c.protected { "protected from deletion" } else { "not protected any more" }
        )
    })
}

#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// The container's number or name.
    #[arg(value_name = "C")]
    container: String,
    /// Labels to set, and, as "KEY-", to take away; the others stay.
    #[arg(value_name = "KEY=VALUE", required = true)]
    labels: Vec<String>,
}

pub(crate) async fn label(args: LabelArgs, cx: &Context) -> Result<(), Fail> {
    let (away, set): (Vec<String>, Vec<String>) =
        args.labels.into_iter().partition(|text| !text.contains('=') && text.ends_with('-'));
    let set = super::launch::labels(&set)?;
    let before: Container = cx.client()?.get(&["containers", &args.container], &[]).await?;
    let mut labels = before.labels;
    labels.retain(|key, _| !away.iter().any(|text| text.strip_suffix('-') == Some(key)));
    labels.extend(set);
    let patch = ContainerPatch { labels: Some(labels), ..ContainerPatch::default() };
    let container = change(&args.container, &patch, cx).await?;
    cx.show(&container, |c| {
        let labels = if c.labels.is_empty() { "no labels".to_owned() } else { pairs(&c.labels) };
        format!("{} has {labels}", c.name)
    })
}

/// Labels in one line.
pub(crate) fn pairs(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}

async fn change(container: &str, patch: &ContainerPatch, cx: &Context) -> Result<Container, Fail> {
    let client = cx.client()?;
    client.patch(&["containers", container], patch).await
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// The container's number or name.
    #[arg(value_name = "C")]
    container: String,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn start(args: StartArgs, cx: &Context) -> Result<(), Fail> {
    act(&args.container, "start", args.wait, cx).await
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The container's number or name.
    #[arg(value_name = "C")]
    container: String,
    #[command(flatten)]
    wait: Wait,
}

pub(crate) async fn stop(args: StopArgs, cx: &Context) -> Result<(), Fail> {
    act(&args.container, "stop", args.wait, cx).await
}

async fn act(container: &str, action: &str, wait: Wait, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let job: Job = client.post(&["containers", container, action], &json!({})).await?;
    submitted::one(cx, &client, job, wait).await
}

#[derive(Debug, Args)]
pub(crate) struct KeepArgs {
    /// The container's number or name.
    #[arg(value_name = "C")]
    container: String,
    /// "8h", "3d", "2026-09-01", "2026-09-01 18:00", a time with zone as in RFC 3339; or "off".
    #[arg(long, value_name = "TIME")]
    until: String,
}

pub(crate) async fn keep(args: KeepArgs, cx: &Context) -> Result<(), Fail> {
    let until = until(&args.until, now(), &TimeZone::system())?;
    let patch = ContainerPatch { keep_until: Some(until), ..ContainerPatch::default() };
    let container = change(&args.container, &patch, cx).await?;
    cx.show(&container, |c| match c.keep_until {
        Some(at) => format!("{} is left alone until {}", c.name, local(at)),
        None => format!("policies and schedules apply to {} again", c.name),
    })
}

/// A time as people write it; nothing for "off".
pub(crate) fn until(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Option<Timestamp>, Fail> {
    let text = text.trim();
    if matches!(text, "off" | "none") {
        return Ok(None);
    }
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Some(at));
    }
    if let Ok(length) = humantime::parse_duration(text) {
        return now.checked_add(length).map(Some).map_err(|_| bad_time(text));
    }
    // A date alone means its end: "until Friday" includes Friday.
    let civil =
        text.parse::<civil::Date>().ok().filter(|_| !text.contains(':')).map(|date| date.at(23, 59, 59, 0));
    let civil = civil.or_else(|| text.replacen(' ', "T", 1).parse::<civil::DateTime>().ok());
    let at = civil.and_then(|civil| civil.to_zoned(zone.clone()).ok()).ok_or_else(|| bad_time(text))?;
    Ok(Some(at.timestamp()))
}

fn bad_time(text: &str) -> Fail {
    Fail::usage(format!("{text:?} is not a time"))
        .hint("write \"8h\", \"3d\", \"2026-09-01\", \"2026-09-01 18:00\", or with a zone \"2026-09-01T18:00:00+08:00\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now: Timestamp = "2026-09-01T00:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(8));
        for (text, at) in [
            ("8h", Some("2026-09-01T08:00:00Z")),
            ("3d", Some("2026-09-04T00:00:00Z")),
            ("2026-09-03", Some("2026-09-03T15:59:59Z")),
            ("2026-09-03 18:00", Some("2026-09-03T10:00:00Z")),
            ("2026-09-03T18:00:00", Some("2026-09-03T10:00:00Z")),
            ("2026-09-03T18:00:00+02:00", Some("2026-09-03T16:00:00Z")),
            ("off", None),
        ] {
            assert_eq!(until(text, now, &zone).unwrap().map(|t| t.to_string()).as_deref(), at, "{text}");
        }
        for bad in ["", "soon", "25:00", "2026-13-01"] {
            assert!(until(bad, now, &zone).is_err(), "{bad}");
        }
    }
}
