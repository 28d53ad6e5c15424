//! `mothball containers`: the list and one of them.

use crate::context::{Context, ago, local};
use crate::exit::Fail;
use crate::output::{self, human};
use clap::{Args, Subcommand};
use mothball_api::v1::views::{Container, ContainerPort, ParkingWarning, Usage};

/// Most containers that are listed.
const LIST_MAX: usize = 10_000;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ContainersArgs {
    #[command(subcommand)]
    command: Option<ContainersCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, Subcommand)]
enum ContainersCommand {
    /// Lists containers.
    List(ListArgs),
    /// Shows one container.
    Show {
        /// Its number or its name.
        #[arg(value_name = "C")]
        container: String,
    },
}

#[derive(Debug, Args)]
struct ListArgs {
    /// Only containers in this state.
    #[arg(long)]
    state: Option<String>,
    /// Only this user's.
    #[arg(long)]
    user: Option<String>,
    /// Only those on this node.
    #[arg(long)]
    node: Option<String>,
    /// Of every project (operators).
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(args: ContainersArgs, cx: &Context) -> Result<(), Fail> {
    match args.command {
        Some(ContainersCommand::Show { container }) => show(&container, cx).await,
        Some(ContainersCommand::List(list)) => self::list(list, cx).await,
        None => list(args.list, cx).await,
    }
}

async fn list(args: ListArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let mut query = Vec::new();
    query.extend(args.all.then(|| ("all", "true".to_owned())));
    query.extend(args.state.map(|s| ("state", s)));
    query.extend(args.user.map(|u| ("user", u)));
    query.extend(args.node.map(|n| ("node", n)));
    let containers: Vec<Container> = client.list(&["containers"], &query, LIST_MAX).await?;
    cx.show(&containers, |all| {
        let header = [
            "id", "name", "state", "image", "flavor", "gpus", "written", "node", "user", "now/h", "awake/h",
            "so far", "saved", "created",
        ];
        output::table(&header, all.iter().map(row))
    })
}

fn row(c: &Container) -> Vec<String> {
    vec![
        c.id.to_string(),
        c.name.clone(),
        state(c),
        c.image.clone(),
        c.flavor.clone(),
        gpus(&c.gpus),
        c.writable_bytes.map_or_else(|| "-".to_owned(), human::bytes),
        c.node.clone().unwrap_or_else(|| "-".to_owned()),
        c.user.clone(),
        money(&c.cost.now_per_hour, &c.cost.currency),
        money(&c.cost.per_hour, &c.cost.currency),
        money(&c.cost.so_far, &c.cost.currency),
        money(&c.cost.avoided, &c.cost.currency),
        ago(c.created_at),
    ]
}

fn state(c: &Container) -> String {
    let lock = if c.protected { ", protected" } else { "" };
    format!("{}{lock}", c.state)
}

fn gpus(indexes: &[u32]) -> String {
    match indexes {
        [] => "-".to_owned(),
        some => some.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    }
}

/// A decimal that came as text, rounded as people do.
pub(crate) fn money(amount: &str, currency: &str) -> String {
    amount.parse().map_or_else(|_| amount.to_owned(), |amount| human::money(amount, currency))
}

fn usage(u: &Usage) -> String {
    let gpus = u.gpu_utilization.map(|busy| format!(", GPUs {:.0} % busy", busy * 100.0)).unwrap_or_default();
    let network = human::bytes(u.network_bytes_per_second as u64);
    format!("{:.2} CPU cores, {network}/s of network{gpus} ({})", u.cpu_cores, ago(u.at))
}

fn idle(u: &Usage) -> String {
    let last = u.last_activity.as_ref().map(|what| format!("; before, {what}")).unwrap_or_default();
    format!("{}{last}", human::seconds(u.idle_seconds))
}

fn warned(w: &ParkingWarning) -> String {
    let when = if w.protected {
        "never, it is protected".to_owned()
    } else {
        format!("{}; `mothball keep` holds it off", local(w.park_at))
    };
    format!("because of {}: {when}", w.reason)
}

fn ports(ports: &[ContainerPort]) -> String {
    let one = |p: &ContainerPort| match p.published {
        Some(published) => format!("{} (on the node: {published})", p.target),
        None => p.target.to_string(),
    };
    ports.iter().map(one).collect::<Vec<_>>().join(", ")
}

async fn show(container: &str, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    let found: Container = client.get(&["containers", container], &[]).await?;
    cx.show(&found, |c| {
        let currency = &c.cost.currency;
        output::facts(&[
            ("id", c.id.to_string()),
            ("name", c.name.clone()),
            ("state", state(c)),
            ("reason", c.reason.clone().unwrap_or_default()),
            ("job", c.job.map(|j| j.to_string()).unwrap_or_default()),
            ("image", c.image.clone()),
            ("saved as", format!("{}:TAG", c.image_name)),
            ("parked as", c.parked_image.clone().unwrap_or_default()),
            ("flavor", c.flavor.clone()),
            ("gpus", if c.gpus.is_empty() { String::new() } else { gpus(&c.gpus) }),
            ("written", c.writable_bytes.map(human::bytes).unwrap_or_default()),
            ("uses", c.usage.as_ref().map(usage).unwrap_or_default()),
            ("idle for", c.usage.as_ref().map(idle).unwrap_or_default()),
            ("to be parked", c.warning.as_ref().map(warned).unwrap_or_default()),
            ("node", c.node.clone().unwrap_or_default()),
            ("docker id", c.docker_id.clone().unwrap_or_default()),
            ("project", c.project.clone()),
            ("user", c.user.clone()),
            ("ports", ports(&c.ports)),
            ("never saved", c.mounts.iter().map(|m| m.target.clone()).collect::<Vec<_>>().join(", ")),
            ("kept until", c.keep_until.map(local).unwrap_or_default()),
            ("adopted", if c.adopted { "yes".to_owned() } else { String::new() }),
            ("labels", super::manage::pairs(&c.labels)),
            ("description", c.description.clone()),
            ("created", format!("{} ({})", local(c.created_at), ago(c.created_at))),
            ("an hour, awake", money(&c.cost.per_hour, currency)),
            ("an hour, now", money(&c.cost.now_per_hour, currency)),
            ("so far", money(&c.cost.so_far, currency)),
            ("saved by parking", money(&c.cost.avoided, currency)),
        ])
    })
}
