//! `mothball cost`.

use super::containers::money;
use crate::context::{Context, local};
use crate::exit::Fail;
use crate::output::{self, human};
use clap::Args;
use mothball_api::v1::views::{CostReport, CostRow};
use mothball_domain::billing::By;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

/// Rows asked for at once, and shown at most.
const PAGE: &str = "10000";
const ROWS_MAX: usize = 100_000;

#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// What the report is cut by: container, user, project, flavor, day, or several with commas.
    #[arg(long, value_delimiter = ',', default_value = "container")]
    by: Vec<By>,
    /// The first day, as in 2026-11-01, or a time; the beginning of this month unless named.
    #[arg(long, value_name = "D")]
    from: Option<String>,
    /// The last day, which is part of the report, or a time, which is not.
    #[arg(long, value_name = "D")]
    to: Option<String>,
    /// The time zone that days begin and end in, as in Asia/Taipei.
    #[arg(long, default_value = "UTC")]
    tz: String,
    /// Only this user's containers.
    #[arg(long)]
    user: Option<String>,
    /// Every charge of every day as CSV, in FOCUS columns.
    #[arg(long)]
    csv: bool,
}

pub(crate) async fn run(args: CostArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let mut query = vec![("tz", args.tz)];
    query.extend(args.from.map(|from| ("from", from)));
    query.extend(args.to.map(|to| ("to", to)));
    query.extend(args.user.map(|user| ("user", user)));
    let by: Vec<&str> = args.by.iter().map(|by| by.as_str()).collect();
    if args.csv {
        // By container alone means that nothing was named: then every charge says all that it is about.
        query.extend((by != ["container"]).then(|| ("by", by.join(","))));
        query.push(("format", "csv".to_owned()));
        let text = client.text(&["costs"], &query).await?;
        output::say(text.trim_end());
        return Ok(());
    }
    query.extend([("by", by.join(",")), ("limit", PAGE.to_owned())]);
    let mut report: CostReport = client.get(&["costs"], &query).await?;
    while let Some(cursor) = report.next_cursor.take().filter(|_| report.items.len() < ROWS_MAX) {
        let mut next = query.clone();
        next.push(("cursor", cursor));
        let page: CostReport = client.get(&["costs"], &next).await?;
        report.items.extend(page.items);
        report.next_cursor = page.next_cursor;
    }
    if cx.is_json() {
        return output::json(&report.items);
    }
    output::say(table(&report, &args.by));
    Ok(())
}

fn table(report: &CostReport, by: &[By]) -> String {
    let mut header: Vec<&str> = by.iter().map(|by| by.as_str()).collect();
    header.extend(["billed", "cost", "parked", "saved", "storage"]);
    let keys = |row: &CostRow| -> Vec<String> { by.iter().map(|by| key(row, *by)).collect() };
    let rows = report.items.iter().map(|row| [keys(row), amounts(row)].concat());
    let mut total = vec![String::new(); by.len()];
    "total".clone_into(&mut total[0]);
    let total = [total, amounts(&report.total)].concat();
    let span = format!("{} to {}, days in {}", local(report.from), local(report.to), report.timezone);
    format!("{}\n{span}", output::table(&header, rows.chain([total])))
}

fn key(row: &CostRow, by: By) -> String {
    let text = match by {
        By::Container => match (&row.container_name, row.container) {
            (Some(name), Some(id)) => Some(format!("{name} ({id})")),
            (name, id) => name.clone().or_else(|| id.map(|id| id.to_string())),
        },
        By::User => row.user.clone(),
        By::Project => row.project.clone(),
        By::Flavor => row.flavor.clone(),
        By::Day => row.day.clone(),
    };
    text.unwrap_or_else(|| "-".to_owned())
}

fn amounts(row: &CostRow) -> Vec<String> {
    vec![
        time(&row.seconds),
        money(&row.cost, &row.currency),
        time(&row.parked_seconds),
        money(&row.avoided, &row.currency),
        money(&row.storage_cost, &row.currency),
    ]
}

fn time(seconds: &str) -> String {
    let whole = seconds.parse::<Decimal>().ok().and_then(|seconds| seconds.to_u64());
    whole.map_or_else(|| seconds.to_owned(), human::seconds)
}
