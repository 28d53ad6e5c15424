//! What containers use: the last look of their nodes, and no history. A look is forgotten after a while, so that nothing is
//! left of containers and nodes that are gone.

use crate::db::tx::Tx;
use crate::ops::transact;
use crate::{Store, StoreError, keys};
use mothball_domain::id::ContainerId;
use mothball_domain::name::NodeName;
use mothball_domain::usage::{GpuUse, IdleClock, IdleRule, Look, Use};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a look is remembered.
const KEPT: Duration = Duration::from_hours(1);
/// Looks written, or read, in one step.
const BATCH: usize = 200;

/// A look at one container, as its worker reports it.
#[derive(Debug, Clone, PartialEq)]
pub struct Looked {
    /// The container.
    pub container: ContainerId,
    /// What it used since the look before.
    pub used: Use,
    /// For how long it has been idle.
    pub idle: IdleClock,
    /// By this rule.
    pub rule: IdleRule,
}

impl Store {
    /// Writes what a node's containers use and how busy its GPUs are, in place of what it reported before. Atomic for each
    /// two hundred containers; after a crash the next report comes by itself. Idempotent.
    pub async fn report_usage(
        &self,
        node: &NodeName,
        gpus: &GpuUse,
        looks: &[Looked],
    ) -> Result<(), StoreError> {
        transact!(self, |tx| tx.put_for(&keys::gpu_use(node), gpus, Some(KEPT)))?;
        for batch in looks.chunks(BATCH) {
            let written: Result<(), StoreError> = transact!(self, |tx| report(tx, batch).await);
            written?;
        }
        Ok(())
    }

    /// The last looks at these containers; one that nobody looked at lately is missing.
    pub async fn usage(&self, containers: &[ContainerId]) -> Result<BTreeMap<ContainerId, Look>, StoreError> {
        let mut looks = BTreeMap::new();
        for batch in containers.chunks(BATCH) {
            let names: Vec<String> = batch.iter().map(|id| keys::usage(*id)).collect();
            let found: Vec<Look> = Tx::new(&self.db).get_many(&names).await?;
            looks.extend(found.into_iter().map(|look| (look.container, look)));
        }
        Ok(looks)
    }

    /// How busy a node's GPUs are; nothing when it has not reported lately.
    pub async fn gpu_use(&self, node: &NodeName) -> Result<GpuUse, StoreError> {
        Ok(Tx::new(&self.db).get(&keys::gpu_use(node)).await?.unwrap_or_default())
    }
}

async fn report(tx: &mut Tx<'_>, looks: &[Looked]) -> Result<(), StoreError> {
    let at = tx.now().await?;
    for look in looks {
        let Looked { container, used, idle, rule } = look.clone();
        tx.put_for(&keys::usage(container), &Look { container, used, idle, rule, at }, Some(KEPT))?;
    }
    Ok(())
}
