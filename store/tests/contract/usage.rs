//! What containers use, and what projects let Mothball do about it.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use mothball_domain::id::ContainerId;
use mothball_domain::name::ProjectName;
use mothball_domain::policy::ParkPolicy;
use mothball_domain::usage::{GpuUse, IdleClock, IdleRule, Use};
use mothball_store::Looked;
use std::time::Duration;

pub(crate) async fn the_last_look_is_kept_with_the_stores_time(w: &World) -> Result<()> {
    let every = Duration::from_secs(15);
    let mut idle = IdleClock::default();
    idle.look(every, every, None);
    let looked = |id, cpu_cores| Looked {
        container: ContainerId(id),
        used: Use { cpu_cores, gpu: Some(0.25), ..Use::default() },
        idle: idle.clone(),
        rule: IdleRule::usual(),
    };
    let many: Vec<Looked> = (1..=450).map(|id| looked(id, 0.5)).collect();
    let busy = GpuUse { busy: [(0, 0.25), (3, 1.0)].into() };
    let before = w.store.now().await?;
    w.store.report_usage(&node_name("n1"), &busy, &many).await?;
    w.store.report_usage(&node_name("n1"), &busy, &[looked(7, 2.0)]).await?;
    ensure!(w.store.gpu_use(&node_name("n1")).await? == busy);
    ensure!(w.store.gpu_use(&node_name("n2")).await? == GpuUse::default());
    let ids: Vec<ContainerId> = (0..=500).map(ContainerId).collect();
    let looks = w.store.usage(&ids).await?;
    ensure!(looks.len() == 450 && !looks.contains_key(&ContainerId(0)));
    let seven = looks.get(&ContainerId(7)).context("the look at 7")?;
    ensure!((seven.used.cpu_cores - 2.0).abs() < f64::EPSILON && seven.idle == idle && seven.at >= before);
    let idle_since = seven.idle_since().context("idle")?;
    ensure!(idle_since.as_millisecond() == seven.at.as_millisecond() - 15_000);
    Ok(())
}

pub(crate) async fn a_policy_is_kept_until_it_does_nothing(w: &World) -> Result<()> {
    let (p, q) = (ProjectName::new("p")?, ProjectName::new("q")?);
    ensure!(w.store.park_policy(&p).await? == ParkPolicy::default());
    let policy = ParkPolicy {
        idle: Some(IdleRule::usual()),
        budget_per_month: Some("1000.50".parse()?),
        ..ParkPolicy::default()
    };
    w.store.set_park_policy(&q, &policy).await?;
    w.store.set_park_policy(&p, &policy).await?;
    ensure!(w.store.park_policy(&p).await? == policy);
    ensure!(w.store.projects_with_park_policy().await? == [p.clone(), q.clone()]);
    w.store.set_park_policy(&p, &ParkPolicy::default()).await?;
    ensure!(w.store.park_policy(&p).await? == ParkPolicy::default());
    // Its warnings may stand yet.
    ensure!(w.store.projects_with_park_policy().await? == [p.clone(), q.clone()]);
    for project in [&p, &q] {
        w.store.end_park_policy(project).await?;
    }
    ensure!(w.store.projects_with_park_policy().await? == [q]);
    Ok(())
}
