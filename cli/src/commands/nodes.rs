//! `mothball nodes`.

use crate::context::{Context, ago, local};
use crate::exit::Fail;
use crate::output::{self, human};
use clap::{Args, Subcommand};
use mothball_api::v1::views::Node;
use serde_json::{Value, json};

/// Most nodes that are listed.
const LIST_MAX: usize = 10_000;

#[derive(Debug, Args)]
pub(crate) struct NodesArgs {
    #[command(subcommand)]
    command: Option<NodesCommand>,
}

#[derive(Debug, Subcommand)]
enum NodesCommand {
    /// Lists nodes.
    List,
    /// Shows one node.
    Show { node: String },
    /// Gives a node no new containers; running jobs finish.
    Drain { node: String },
    /// Gives a drained node new containers again.
    Resume { node: String },
    /// Drops a node that is gone for good, so that another machine may take its name.
    Forget { node: String },
}

pub(crate) async fn run(args: NodesArgs, cx: &Context) -> Result<(), Fail> {
    let client = cx.client()?;
    match args.command.unwrap_or(NodesCommand::List) {
        NodesCommand::List => {
            let nodes: Vec<Node> = client.list(&["nodes"], &[], LIST_MAX).await?;
            cx.show(&nodes, |all| {
                let header =
                    ["name", "state", "gpus free", "containers", "disk free", "docker", "saves", "reported"];
                output::table(&header, all.iter().map(row))
            })
        }
        NodesCommand::Show { node } => {
            let node: Node = client.get(&["nodes", &node], &[]).await?;
            cx.show(&node, show)
        }
        NodesCommand::Drain { node } => {
            let node: Node = client.post(&["nodes", &node, "drain"], &json!({})).await?;
            cx.show(&node, |n| {
                let left = n.containers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let still = if left.is_empty() { String::new() } else { format!("; still on it: {left}") };
                format!("{} takes no new containers{still}", n.name)
            })
        }
        NodesCommand::Resume { node } => {
            let node: Node = client.post(&["nodes", &node, "resume"], &json!({})).await?;
            cx.show(&node, |n| format!("{} takes new containers", n.name))
        }
        NodesCommand::Forget { node } => {
            cx.confirm(&format!("Forget node {node}?"))?;
            let _: Value = client.delete(&["nodes", &node], &[]).await?;
            cx.show(&json!({ "forgot": node }), |_| format!("forgot {node}"))
        }
    }
}

fn row(n: &Node) -> Vec<String> {
    vec![
        n.name.clone(),
        n.state.clone(),
        format!("{} of {}", n.gpus_free, n.gpus.len()),
        n.containers.len().to_string(),
        disk(n),
        n.docker_version.clone(),
        way(n),
        ago(n.heartbeat_at),
    ]
}

fn disk(n: &Node) -> String {
    format!("{} of {}", human::bytes(n.disk_free_bytes), human::bytes(n.disk_total_bytes))
}

fn way(n: &Node) -> String {
    match n.snapshot {
        mothball_domain::node::SnapshotWay::Direct => "direct".to_owned(),
        mothball_domain::node::SnapshotWay::Engine => "engine".to_owned(),
    }
}

fn show(n: &Node) -> String {
    let containers: Vec<String> = n.containers.iter().map(ToString::to_string).collect();
    let mut text = output::facts(&[
        ("name", n.name.clone()),
        ("state", n.state.clone()),
        ("reported", format!("{} ({})", local(n.heartbeat_at), ago(n.heartbeat_at))),
        ("known since", local(n.created_at)),
        ("uid", n.uid.clone()),
        ("docker", format!("{} ({})", n.docker_version, n.storage_driver)),
        ("saves", way(n)),
        ("cpus", n.cpus.to_string()),
        ("memory", human::bytes(n.memory_bytes)),
        ("disk free", disk(n)),
        ("jobs at once", n.concurrency.to_string()),
        ("version", n.version.clone()),
        ("containers", containers.join(", ")),
        ("no gpus", n.gpu_note.clone().filter(|_| n.gpus.is_empty()).unwrap_or_default()),
        ("strays", n.strays.join(", ")),
    ]);
    if !n.gpus.is_empty() {
        let rows = n.gpus.iter().map(|g| {
            let holder = g.container.map_or_else(|| "free".to_owned(), |c| format!("container {c}"));
            vec![g.index.to_string(), g.name.clone(), holder]
        });
        text.push_str("\n\n");
        text.push_str(&output::table(&["gpu", "model", "held by"], rows));
    }
    text
}
