//! `mothball policy retention`: which images of a project stay.

use super::{LIST_MAX, project};
use crate::context::{Context, local};
use crate::exit::Fail;
use crate::output::{self, human};
use clap::{Args, Subcommand};
use mothball_api::v1::views::{RetentionForecast, RetentionPolicy};

#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    #[command(subcommand)]
    command: Option<RetentionCommand>,
}

#[derive(Debug, Subcommand)]
enum RetentionCommand {
    /// Shows which images of the project stay.
    Show,
    /// Sets that, as a whole (project admins): an image that no rule keeps is removed after a notice.
    Set(RuleArgs),
    /// Switches it off (project admins): everything stays.
    Off,
    /// Shows which images go, when and why, and why the others stay. Changes nothing.
    Preview(RuleArgs),
}

#[derive(Debug, Args)]
struct RuleArgs {
    /// So many images of each name stay, those saved last.
    #[arg(long, value_name = "N")]
    keep_last: Option<u32>,
    /// Images that were saved, launched from or restored within so many days stay.
    #[arg(long, value_name = "DAYS")]
    unused_days: Option<u32>,
}

pub(crate) async fn run(args: RetentionArgs, cx: &Context) -> Result<(), Fail> {
    let project = project(cx).await?;
    let path = ["policies", project.as_str(), "retention"];
    let policy: RetentionPolicy = match args.command.unwrap_or(RetentionCommand::Show) {
        RetentionCommand::Preview(rules) => return preview(&project, &rules, cx).await,
        RetentionCommand::Show => cx.client()?.get(&path, &[]).await?,
        RetentionCommand::Off => cx.client()?.delete(&path, &[]).await?,
        RetentionCommand::Set(rules) => {
            if rules.keep_last.is_none() && rules.unused_days.is_none() {
                let sentence = "say which images stay: --keep-last, --unused-days or both; \
                                `mothball policy retention off` switches it off";
                return Err(Fail::usage(sentence));
            }
            let policy = RetentionPolicy { keep_last: rules.keep_last, unused_days: rules.unused_days };
            cx.client()?.put(&path, &policy).await?
        }
    };
    cx.show(&policy, |policy| text(&project, policy))
}

fn text(project: &str, policy: &RetentionPolicy) -> String {
    if *policy == RetentionPolicy::default() {
        return format!("No image of project {project} is removed without somebody asking.");
    }
    let last = policy.keep_last.map(|n| format!("{n} of each name"));
    let days = policy.unused_days.map(|days| format!("within {days} d"));
    output::facts(&[
        ("project", project.to_owned()),
        ("stay: saved last", last.unwrap_or_default()),
        ("stay: used", days.unwrap_or_default()),
        ("stay: always", "pinned images, and those that parked containers need".to_owned()),
    ])
}

async fn preview(project: &str, rules: &RuleArgs, cx: &Context) -> Result<(), Fail> {
    let query: Vec<(&str, String)> = [("keep_last", rules.keep_last), ("unused_days", rules.unused_days)]
        .into_iter()
        .filter_map(|(field, value)| value.map(|value| (field, value.to_string())))
        .collect();
    let path = ["policies", project, "retention", "preview"];
    let found: Vec<RetentionForecast> = cx.client()?.list(&path, &query, LIST_MAX).await?;
    cx.show(&found, |all| {
        if all.is_empty() {
            return format!("Project {project} has no images.");
        }
        let mut text = output::table(&["image", "size", "goes", "because"], all.iter().map(row));
        let (going, bytes) = (all.iter().filter(|f| f.goes).count(), all.iter().map(|f| f.frees_bytes).sum());
        text.push_str("\n\n");
        let sum = format!("{going} of {} go; that frees {} at most.", all.len(), human::bytes(bytes));
        text.push_str(&sum);
        text
    })
}

fn row(f: &RetentionForecast) -> Vec<String> {
    let goes = match &f.removal {
        None => "stays".to_owned(),
        Some(removal) if f.noticed => format!("{} (its owner was told)", local(removal.remove_at)),
        Some(removal) => format!("{} (if its owner were told now)", local(removal.remove_at)),
    };
    vec![f.image.clone(), human::bytes(f.size_bytes), goes, f.reason.clone()]
}
