//! Nodes: registration by compare-and-set, heartbeats, draining.

use crate::db::Order;
use crate::db::tx::Tx;
use crate::ops::due::{Standing, can_move, leave_node};
use crate::ops::placement::NODES_MAX;
use crate::ops::{records, transact};
use crate::{Store, StoreError, keys};
use mothball_domain::id::JobId;
use mothball_domain::name::NodeName;
use mothball_domain::node::{Node, NodeReport, Reservations};

/// One run of a worker on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRun {
    /// The node's name.
    pub name: NodeName,
    /// The random uid kept in its Docker's data root.
    pub uid: String,
    /// This run of the worker.
    pub instance: String,
}

/// What came of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The node is the caller's.
    Yes(Box<Node>),
    /// Another Docker has the name; its uid.
    Refused(String),
}

impl Store {
    /// Registers a worker's run under its node's name. Another uid under the name is refused, however long it has been
    /// silent: an operator forgets the old node first. Idempotent.
    pub async fn register_node(&self, run: &NodeRun, report: &NodeReport) -> Result<Registered, StoreError> {
        transact!(self, |tx| register(tx, run, report).await)
    }

    /// Writes a heartbeat. False when the run is not the registered one any more. Idempotent.
    pub async fn heartbeat(
        &self,
        run: &NodeRun,
        report: &NodeReport,
        strays: &[String],
    ) -> Result<bool, StoreError> {
        transact!(self, |tx| heartbeat(tx, run, report, strays).await)
    }

    /// Notes that a worker's run stopped in order. Idempotent.
    pub async fn node_stopped(&self, run: &NodeRun) -> Result<(), StoreError> {
        transact!(self, |tx| stopped(tx, run).await)
    }

    /// One node.
    pub async fn node(&self, name: &NodeName) -> Result<Option<Node>, StoreError> {
        Tx::new(&self.db).get(&keys::node(name)).await
    }

    /// All nodes by name, with what is reserved on them.
    pub async fn nodes(&self) -> Result<Vec<(Node, Reservations)>, StoreError> {
        let members = self.db.scan(keys::NODES, None, Order::Ascending, NODES_MAX).await?;
        let mut tx = Tx::new(&self.db);
        let names: Vec<NodeName> = members.into_iter().filter_map(|m| NodeName::new(m).ok()).collect();
        tx.load(&names.iter().flat_map(|n| [keys::node(n), keys::reservations(n)]).collect::<Vec<_>>())
            .await?;
        let mut all = Vec::with_capacity(names.len());
        for name in &names {
            if let Some(node) = tx.get(&keys::node(name)).await? {
                all.push((node, tx.get(&keys::reservations(name)).await?.unwrap_or_default()));
            }
        }
        Ok(all)
    }

    /// Changes whether a node takes new containers; has launches that wait looked at when it does again, and launches
    /// that were placed on it and have not begun placed anew when it does not. None when there is no such node. Each
    /// launch is moved by a step of its own: after a crash in between, the scheduler moves the rest as they come due.
    /// Idempotent.
    pub async fn drain_node(&self, name: &NodeName, drained: bool) -> Result<Option<Node>, StoreError> {
        let node: Result<Option<Node>, StoreError> = transact!(self, |tx| drain(tx, name, drained).await);
        let Some(node) = node? else { return Ok(None) };
        if drained {
            self.clear_of_launches(name).await?;
        }
        Ok(Some(node))
    }

    async fn clear_of_launches(&self, name: &NodeName) -> Result<(), StoreError> {
        const BATCH: usize = 200;
        let (index, mut after) = (keys::jobs_on_node(name), None);
        loop {
            let members = self.db.scan(&index, after.as_deref(), Order::Ascending, BATCH).await?;
            for id in members.iter().filter_map(|m| m.parse::<JobId>().ok()) {
                let moved: Result<(), StoreError> = transact!(self, |tx| move_launch(tx, id, name).await);
                moved?;
            }
            if members.len() < BATCH {
                return Ok(());
            }
            after = members.into_iter().next_back();
        }
    }

    /// Forgets a node, so that another machine may take its name. False when it still holds containers or does not exist.
    pub async fn forget_node(&self, name: &NodeName) -> Result<bool, StoreError> {
        transact!(self, |tx| forget(tx, name).await)
    }
}

async fn register(tx: &mut Tx<'_>, run: &NodeRun, report: &NodeReport) -> Result<Registered, StoreError> {
    let key = keys::node(&run.name);
    let known: Option<Node> = tx.get(&key).await?;
    let now = tx.now().await?;
    if let Some(other) = known.as_ref().filter(|n| n.uid != run.uid) {
        return Ok(Registered::Refused(other.uid.clone()));
    }
    let node = Node {
        name: run.name.clone(),
        uid: run.uid.clone(),
        instance: run.instance.clone(),
        drained: known.as_ref().is_some_and(|n| n.drained),
        heartbeat_at: now,
        created_at: known.as_ref().map_or(now, |n| n.created_at),
        stopped_at: None,
        report: report.clone(),
        strays: Vec::new(),
    };
    tx.put(&key, &node)?;
    tx.add(keys::NODES, run.name.as_str(), 0);
    records::wake_waiting(tx).await?;
    Ok(Registered::Yes(Box::new(node)))
}

async fn heartbeat(
    tx: &mut Tx<'_>,
    run: &NodeRun,
    report: &NodeReport,
    strays: &[String],
) -> Result<bool, StoreError> {
    let key = keys::node(&run.name);
    let ours = |n: &Node| n.uid == run.uid && n.instance == run.instance;
    let Some(mut node) = tx.get::<Node>(&key).await?.filter(ours) else { return Ok(false) };
    // A run that has stopped stays stopped: a heartbeat that was under way must not bring its node back.
    node.heartbeat_at = tx.now().await?;
    if node.report.gpus != report.gpus {
        records::wake_waiting(tx).await?;
    }
    node.report = report.clone();
    node.strays = strays.to_vec();
    tx.put(&key, &node)?;
    Ok(true)
}

async fn stopped(tx: &mut Tx<'_>, run: &NodeRun) -> Result<(), StoreError> {
    let key = keys::node(&run.name);
    let ours = |n: &Node| n.uid == run.uid && n.instance == run.instance && n.stopped_at.is_none();
    if let Some(mut node) = tx.get::<Node>(&key).await?.filter(ours) {
        node.stopped_at = Some(tx.now().await?);
        tx.put(&key, &node)?;
    }
    Ok(())
}

async fn drain(tx: &mut Tx<'_>, name: &NodeName, drained: bool) -> Result<Option<Node>, StoreError> {
    let key = keys::node(name);
    let Some(mut node) = tx.get::<Node>(&key).await? else { return Ok(None) };
    node.drained = drained;
    tx.put(&key, &node)?;
    records::wake_waiting(tx).await?;
    Ok(Some(node))
}

/// Takes a launch that has not begun away from a node that is drained.
async fn move_launch(tx: &mut Tx<'_>, id: JobId, name: &NodeName) -> Result<(), StoreError> {
    let Some(before) = records::job(tx, id).await? else { return Ok(()) };
    let still_drained = tx.get::<Node>(&keys::node(name)).await?.is_some_and(|node| node.drained);
    if before.state.is_final() || before.node.as_ref() != Some(name) || !can_move(&before) || !still_drained {
        return Ok(());
    }
    let (now, mut job) = (tx.now().await?, before.clone());
    leave_node(tx, &mut job, now, Standing::Drained).await?;
    let due = job.next_attempt_at.map_or(now, |at| at.max(now));
    records::put_job(tx, Some(&before), &job, due)
}

async fn forget(tx: &mut Tx<'_>, name: &NodeName) -> Result<bool, StoreError> {
    tx.load(&[keys::node(name), keys::reservations(name)]).await?;
    let held: Option<Reservations> = tx.get(&keys::reservations(name)).await?;
    let known: Option<Node> = tx.get(&keys::node(name)).await?;
    if known.is_none() || held.is_some_and(|h| !h.held.is_empty()) {
        return Ok(false);
    }
    tx.delete(&keys::node(name));
    tx.delete(&keys::reservations(name));
    tx.remove(keys::NODES, name.as_str());
    Ok(true)
}
