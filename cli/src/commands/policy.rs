//! `mothball policy`: what a project lets Mothball do by itself.

mod retention;

use super::containers::money;
use crate::context::{Context, local};
use crate::exit::Fail;
use crate::output::{self, human};
use clap::{Args, Subcommand};
use mothball_api::v1::views::{IdleRule, Me, ParkingForecast, ParkingPolicy};
use mothball_domain::size::ByteSize;
use std::time::Duration;

/// Most containers that a preview lists.
const LIST_MAX: usize = 10_000;

#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: Option<PolicyCommand>,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Shows when containers of the project are parked without anybody asking.
    Show,
    /// Sets that, as a whole (project admins): what is not given is no reason any more.
    Set(Box<SetArgs>),
    /// Switches all of it off (project admins).
    Off,
    /// Shows which containers would be warned of now, and what parking them would save.
    Preview,
    /// Shows or sets which images of the project stay, and so which are removed without anybody asking.
    Retention(retention::RetentionArgs),
}

#[derive(Debug, Args)]
struct SetArgs {
    /// Idle means: GPUs less busy than this, in percent.
    #[arg(long, value_name = "PERCENT")]
    idle_gpu: Option<f64>,
    /// Idle means: fewer CPU cores in use than this.
    #[arg(long, value_name = "CORES")]
    idle_cpu: Option<f64>,
    /// Idle means: less network traffic a second than this, as in "10kB".
    #[arg(long, value_name = "BYTES")]
    idle_network: Option<String>,
    /// A logged-in terminal is activity.
    #[arg(long)]
    terminals: bool,
    /// For how long a container must have been idle.
    #[arg(long, value_name = "SPAN", default_value = "30m", value_parser = humantime::parse_duration)]
    idle_for: Duration,
    /// How many looks in a row must have found it idle.
    #[arg(long, value_name = "N", default_value_t = 3)]
    samples: u32,
    /// The longest that a container may run, as in "7d".
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    lifetime: Option<Duration>,
    /// The most that the project may cost in a calendar month.
    #[arg(long, value_name = "AMOUNT")]
    budget: Option<String>,
    /// How long after its warning a container is parked.
    #[arg(long, value_name = "SPAN", value_parser = humantime::parse_duration)]
    grace: Option<Duration>,
}

pub(crate) async fn run(args: PolicyArgs, cx: &Context) -> Result<(), Fail> {
    match args.command.unwrap_or(PolicyCommand::Show) {
        PolicyCommand::Show => show(cx).await,
        PolicyCommand::Set(args) => set(policy(&args)?, cx).await,
        PolicyCommand::Off => set(ParkingPolicy::default(), cx).await,
        PolicyCommand::Preview => preview(cx).await,
        PolicyCommand::Retention(args) => retention::run(args, cx).await,
    }
}

fn policy(args: &SetArgs) -> Result<ParkingPolicy, Fail> {
    let network = args.idle_network.as_deref().map(str::parse::<ByteSize>).transpose();
    let network = network.map_err(|why| Fail::usage(format!("--idle-network: {why}")))?;
    let any = args.idle_gpu.is_some() || args.idle_cpu.is_some() || network.is_some();
    let idle = any.then(|| IdleRule {
        gpu_below: args.idle_gpu.map(|percent| percent / 100.0),
        cpu_below: args.idle_cpu,
        network_below: network.map(|size| size.0 as f64),
        terminals: args.terminals,
        window_seconds: args.idle_for.as_secs(),
        samples: args.samples,
    });
    let policy = ParkingPolicy {
        idle,
        lifetime_seconds: args.lifetime.map(|span| span.as_secs()),
        budget_per_month: args.budget.clone(),
        grace_seconds: args.grace.map(|span| span.as_secs()),
    };
    if policy.idle.is_none() && policy.lifetime_seconds.is_none() && policy.budget_per_month.is_none() {
        let sentence = "say when containers are parked: --idle-gpu, --idle-cpu, --idle-network, --lifetime or --budget; \
                        `mothball policy off` switches it off";
        return Err(Fail::usage(sentence));
    }
    Ok(policy)
}

/// The project that the policy is of: the one that was named, or the only one.
async fn project(cx: &Context) -> Result<String, Fail> {
    if let Some(named) = cx.global.project.clone().filter(|name| !name.is_empty()) {
        return Ok(named);
    }
    let me: Me = cx.client()?.get(&["me"], &[]).await?;
    me.default_project.ok_or_else(|| Fail::usage("you have several projects: say which with --project"))
}

async fn show(cx: &Context) -> Result<(), Fail> {
    let project = project(cx).await?;
    let found: ParkingPolicy = cx.client()?.get(&["policies", &project, "parking"], &[]).await?;
    cx.show(&found, |policy| text(&project, policy))
}

async fn set(policy: ParkingPolicy, cx: &Context) -> Result<(), Fail> {
    let project = project(cx).await?;
    let set: ParkingPolicy = cx.client()?.put(&["policies", &project, "parking"], &policy).await?;
    cx.show(&set, |policy| text(&project, policy))
}

fn text(project: &str, policy: &ParkingPolicy) -> String {
    if *policy == (ParkingPolicy { grace_seconds: policy.grace_seconds, ..ParkingPolicy::default() }) {
        return format!("No container of project {project} is parked without somebody asking.");
    }
    let idle = policy.idle.clone().map(|rule| mothball_domain::usage::IdleRule::from(rule).to_string());
    let seconds = |count: Option<u64>| count.map(human::seconds).unwrap_or_default();
    output::facts(&[
        ("project", project.to_owned()),
        ("idle means", idle.unwrap_or_default()),
        ("longest life", seconds(policy.lifetime_seconds)),
        ("budget a month", policy.budget_per_month.clone().unwrap_or_default()),
        ("grace", policy.grace_seconds.map_or_else(|| "30m, the usual".to_owned(), human::seconds)),
    ])
}

async fn preview(cx: &Context) -> Result<(), Fail> {
    let project = project(cx).await?;
    let client = cx.client()?;
    let path = ["policies", project.as_str(), "parking", "preview"];
    let found: Vec<ParkingForecast> = client.list(&path, &[], LIST_MAX).await?;
    cx.show(&found, |all| {
        if all.is_empty() {
            return "No container would be warned of now.".to_owned();
        }
        let header = ["id", "name", "user", "because of", "parked at", "saves per hour"];
        output::table(&header, all.iter().map(row))
    })
}

fn row(f: &ParkingForecast) -> Vec<String> {
    vec![
        f.container.to_string(),
        f.name.clone(),
        f.user.clone(),
        f.reason.clone(),
        if f.protected { "never: protected".to_owned() } else { local(f.park_at) },
        money(&f.per_hour, &f.currency),
    ]
}
