//! Money of projects, from what containers have been metered and what deleted ones came to.

use super::{ScrapeError, seconds};
use jiff::Timestamp;
use mothball_domain::billing::Usage;
use mothball_domain::container::Container;
use mothball_domain::name::ProjectName;
use mothball_domain::usage::Look;
use mothball_store::Store;
use prometheus::{CounterVec, Opts, Registry};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the containers of each project come to.
#[derive(Debug)]
pub(super) struct Money {
    now: Timestamp,
    projects: BTreeMap<ProjectName, OfProject>,
}

/// What the containers of one project come to.
#[derive(Debug, Clone, Copy, Default)]
struct OfProject {
    per_hour: Decimal,
    /// Of that, for those that are idle.
    idle_per_hour: Decimal,
    used: Usage,
}

impl Money {
    pub(super) fn at(now: Timestamp) -> Self {
        Self { now, projects: BTreeMap::new() }
    }

    /// Adds a container that is not deleted.
    pub(super) fn add(&mut self, container: &Container) {
        let project = self.projects.entry(container.project.clone()).or_default();
        if container.is_billed() {
            project.per_hour += container.cost_per_hour_now();
        }
        project.used += container.usage(self.now);
    }

    /// Adds what `container` costs to what is paid for nothing, if `look` at it says that it is idle: for as long as its
    /// rule asks for, and seen within `seen_within`.
    pub(super) fn add_idle(&mut self, container: &Container, look: &Look, seen_within: Duration) {
        let age_ms = self.now.as_millisecond().saturating_sub(look.at.as_millisecond());
        let fresh = age_ms <= seen_within.as_millis() as i64;
        if fresh && look.rule.holds(&look.idle) && container.is_billed() {
            let project = self.projects.entry(container.project.clone()).or_default();
            project.idle_per_hour += container.cost_per_hour_now();
        }
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
        let idle = seconds(
            registry,
            "mothball_idle_cost_per_hour",
            "Of that, what containers cost that are idle by their project's rule, or by the usual one where it has none.",
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
            let of = self.projects.get(project).copied().unwrap_or_default();
            let mut whole = store.used_by_deleted(project).await?;
            whole += of.used;
            let labels = [project.as_str()];
            per_hour.with_label_values(&labels).set(number(of.per_hour));
            idle.with_label_values(&labels).set(number(of.idle_per_hour));
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
