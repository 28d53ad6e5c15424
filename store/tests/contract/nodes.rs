//! Nodes: registration, heartbeats, draining, forgetting.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_store::Registered;

pub(crate) async fn a_name_belongs_to_one_docker(w: &World) -> Result<()> {
    let n1 = w.node("n1", 2).await?;
    let stranger = run("n1", "another-uid", "x");
    ensure!(w.store.register_node(&stranger, &report(8)).await? == Registered::Refused("n1".into()));
    ensure!(!w.store.heartbeat(&stranger, &report(8), &[]).await?);
    w.store.node_stopped(&stranger).await?;
    let node = w.store.node(&n1.name).await?.context("the node")?;
    ensure!(node.uid == "n1" && node.report == report(2) && node.stopped_at.is_none());
    // Nor while it is away, however long: an operator must forget it first.
    w.store.node_stopped(&n1).await?;
    ensure!(w.store.register_node(&stranger, &report(8)).await? == Registered::Refused("n1".into()));
    Ok(())
}

pub(crate) async fn an_earlier_run_has_no_heartbeat(w: &World) -> Result<()> {
    let first = w.node("n1", 1).await?;
    let created_at = w.store.node(&first.name).await?.context("the node")?.created_at;
    ensure!(w.store.heartbeat(&first, &report(2), &["stray".into()]).await?);
    let node = w.store.node(&first.name).await?.context("the node")?;
    ensure!(node.report == report(2) && node.strays == ["stray"]);
    let second = run("n1", "n1", "second");
    ensure!(matches!(w.store.register_node(&second, &report(1)).await?, Registered::Yes(_)));
    ensure!(!w.store.heartbeat(&first, &report(2), &[]).await?);
    w.store.node_stopped(&first).await?;
    let node = w.store.node(&first.name).await?.context("the node")?;
    ensure!((node.instance.as_str(), node.created_at, node.stopped_at) == ("second", created_at, None));
    ensure!(!w.store.heartbeat(&run("none", "n", "x"), &report(0), &[]).await?);
    Ok(())
}

pub(crate) async fn a_run_that_stopped_stays_stopped(w: &World) -> Result<()> {
    let n1 = w.node("n1", 1).await?;
    w.store.node_stopped(&n1).await?;
    let stopped_at = w.store.node(&n1.name).await?.context("the node")?.stopped_at;
    ensure!(stopped_at.is_some() && w.store.heartbeat(&n1, &report(1), &[]).await?);
    w.store.node_stopped(&n1).await?;
    ensure!(w.store.node(&n1.name).await?.context("the node")?.stopped_at == stopped_at);
    w.store.register_node(&run("n1", "n1", "second"), &report(1)).await?;
    ensure!(w.store.node(&n1.name).await?.context("the node")?.stopped_at.is_none());
    Ok(())
}

pub(crate) async fn a_node_is_forgotten_when_nothing_is_on_it(w: &World) -> Result<()> {
    let n1 = w.node("n1", 1).await?;
    let container = w.launched("box", 0).await?;
    ensure!(!w.store.forget_node(&n1.name).await? && w.store.node(&n1.name).await?.is_some());
    w.deleted(&container).await?;
    ensure!(w.store.forget_node(&n1.name).await? && !w.store.forget_node(&n1.name).await?);
    ensure!(w.store.nodes().await?.is_empty() && !w.store.heartbeat(&n1, &report(1), &[]).await?);
    let other = run("n1", "another-uid", "x");
    ensure!(matches!(w.store.register_node(&other, &report(8)).await?, Registered::Yes(_)));
    Ok(())
}

pub(crate) async fn nodes_are_listed_with_what_they_hold(w: &World) -> Result<()> {
    for name in ["n2", "n10", "N1"] {
        w.node(name, 1).await?;
    }
    let container = w.launched("box", 1).await?;
    w.store.drain_node(&node_name("n2"), true).await?;
    w.store.register_node(&run("n2", "n2", "second"), &report(1)).await?;
    let nodes = w.store.nodes().await?;
    let names: Vec<&str> = nodes.iter().map(|(node, _)| node.name.as_str()).collect();
    ensure!(names == ["N1", "n10", "n2"], "{names:?}");
    ensure!(nodes[0].1.held.get(&container.id) == Some(&vec![0]) && nodes[1].1.held.is_empty());
    ensure!(nodes[2].0.drained, "a restart ended the draining");
    Ok(())
}
