//! Money of projects, from what containers have been metered and what deleted ones came to.

use super::{ScrapeError, seconds};
use jiff::Timestamp;
use mothball_domain::billing::Usage;
use mothball_domain::container::Container;
use mothball_domain::name::ProjectName;
use mothball_store::Store;
use prometheus::{CounterVec, Opts, Registry};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::collections::BTreeMap;

/// What the containers of each project come to.
#[derive(Debug)]
pub(super) struct Money {
    now: Timestamp,
    projects: BTreeMap<ProjectName, (Decimal, Usage)>,
}

impl Money {
    pub(super) fn at(now: Timestamp) -> Self {
        Self { now, projects: BTreeMap::new() }
    }

    /// Adds a container that is not deleted.
    pub(super) fn add(&mut self, container: &Container) {
        let (per_hour, used) = self.projects.entry(container.project.clone()).or_default();
        if container.is_billed() {
            *per_hour += container.cost_per_hour_now();
        }
        *used += container.usage(self.now);
    }

    /// Writes them, for each of these projects; nothing counted means zero.
    pub(super) async fn write(
        &self,
        store: &Store,
        projects: &[ProjectName],
        registry: &Registry,
    ) -> Result<(), ScrapeError> {
        let per_hour = seconds(
            registry,
            "mothball_cost_per_hour",
            "What a project's containers cost an hour as they stand, in the configured currency.",
            &["project"],
        )?;
        let total = CounterVec::new(
            Opts::new(
                "mothball_cost_total",
                "What a project's containers have cost since ever, deleted ones included.",
            ),
            &["project"],
        )?;
        let avoided = CounterVec::new(
            Opts::new(
                "mothball_cost_avoided_total",
                "What parking a project's containers has saved since ever, less the storage of their images; 0 where \
                 that was dearer.",
            ),
            &["project"],
        )?;
        registry.register(Box::new(total.clone()))?;
        registry.register(Box::new(avoided.clone()))?;
        for project in projects {
            let (now_per_hour, used) = self.projects.get(project).copied().unwrap_or_default();
            let mut whole = store.used_by_deleted(project).await?;
            whole += used;
            let labels = [project.as_str()];
            per_hour.with_label_values(&labels).set(number(now_per_hour));
            total.with_label_values(&labels).inc_by(number(whole.cost()).max(0.0));
            avoided.with_label_values(&labels).inc_by(number(whole.avoided()).max(0.0));
        }
        Ok(())
    }
}

/// An amount as Prometheus takes it, which is for pictures and alerts and not for bills.
fn number(amount: Decimal) -> f64 {
    amount.to_f64().unwrap_or_default()
}
