//! What happens on the platform itself: workers look at their nodes and report, projects get policies, prices change, nodes are
//! drained, and now and then nobody keeps time.

use crate::agenda::Event;
use crate::world::{DAY, HOUR, Origin, Place, World};
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use mothball_domain::id::ContainerId;
use mothball_domain::job::Job;
use mothball_domain::policy::{ParkPolicy, Reason};
use mothball_domain::state::JobState;
use mothball_domain::usage::{GpuUse, IdleClock, IdleRule, Use};
use mothball_queue::Target;
use mothball_store::{Looked, Observed, Registered};
use rust_decimal::Decimal;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often workers look at their nodes.
pub(crate) const LOOK: i64 = 24 * HOUR;
/// How old a look may be.
pub(crate) const SEEN: Duration = Duration::from_hours(2);
/// The shortest grace, window and lifetime that a project sets.
const GRACE: i64 = 6 * HOUR;
const WINDOW: i64 = 2 * DAY;
const LIFETIME: i64 = 15 * DAY;
/// The smallest budget of a month.
const BUDGET: i64 = 8000;

impl World {
    /// A worker starts: it registers, thaws what was left frozen, and takes up what was left undone.
    pub(crate) async fn worker_starts(&mut self, node: usize) -> Result<()> {
        if self.nodes[node].inbox.is_some() {
            return Ok(());
        }
        let instance = self.fresh().to_string();
        self.nodes[node].run.instance.clone_from(&instance);
        let run = self.nodes[node].run.clone();
        let registered = self.store.register_node(&run, &self.node_report(node)).await?;
        ensure!(matches!(registered, Registered::Yes(_)), "node {} is refused", run.name);
        self.sweep(node);
        let target = Target::Node(run.name.clone());
        let never = CancellationToken::new();
        self.nodes[node].inbox = Some(self.queue.subscribe(vec![target.clone(), Target::Any], 8, never));
        for job in self.store.rescue_node(&run.name, &run.instance).await? {
            self.queue.wake(&target, job).await?;
        }
        self.soon();
        self.take_wakes(node).await
    }

    /// Thaws what nobody at work here holds frozen.
    fn sweep(&mut self, node: usize) {
        let held: Vec<String> = self
            .attempts
            .values()
            .filter(|a| a.node == node)
            .filter_map(crate::workers::Attempt::freezes)
            .collect();
        for docker_id in self.nodes[node].journal.clone() {
            if !held.contains(&docker_id) {
                self.thaw(node, &docker_id);
            }
        }
    }

    /// A worker looks at its node, and reports.
    pub(crate) async fn looks(&mut self, node: usize) -> Result<()> {
        self.later(LOOK, Event::Look(node));
        if self.nodes[node].inbox.is_none() {
            return Ok(());
        }
        if self.expects_jobs {
            self.discover().await?;
        }
        self.sweep(node);
        let (run, report) = (self.nodes[node].run.clone(), self.node_report(node));
        ensure!(self.store.heartbeat(&run, &report, &[]).await?, "node {} is not known", run.name);
        let here: Vec<(ContainerId, String)> = self
            .truths
            .iter()
            .filter(|(_, truth)| truth.place == Place::There)
            .filter_map(|(id, truth)| Some((*id, truth.docker.clone()?)))
            .filter(|(_, (on, _))| *on == node)
            .map(|(id, (_, docker_id))| (id, docker_id))
            .collect();
        let mut looks = Vec::new();
        for (id, docker_id) in here {
            let busy = self.truth(id)?.job.is_some_and(|job| self.open.contains(&job));
            let running = self.docker(node, &docker_id).map(|found| found.running);
            if running != Some(true) && !busy {
                self.observes(node, id, docker_id, running).await?;
            }
            let truth = self.truth_mut(id)?;
            truth.seen_busy = truth.last_busy;
            if running.is_some() {
                looks.extend(self.look(node, id)?);
            }
        }
        self.store.report_usage(&run.name, &GpuUse::default(), &looks).await?;
        Ok(())
    }

    async fn observes(
        &mut self,
        node: usize,
        id: ContainerId,
        docker_id: String,
        running: Option<bool>,
    ) -> Result<()> {
        let uid = self.nodes[node].run.uid.clone();
        self.store.observe(&uid, &Observed { id, docker_id, running, writable_bytes: None }).await?;
        if running.is_none() {
            let now = self.now();
            self.ledger.ends(id, now)?;
            self.truth_mut(id)?.place = Place::Lost;
            self.tally.note("containers that were lost");
        }
        let container = self.store.container(id).await?.context("a container is gone")?;
        self.check_place(&container)
    }

    /// What a container used since the last look, as its project's rule wants to know it; without one nobody asks.
    fn look(&mut self, node: usize, id: ContainerId) -> Result<Option<Looked>> {
        let (now, truth) = (self.now(), self.truth(id)?);
        let (last_busy, flavor) = (truth.last_busy, truth.flavor);
        let Some(rule) = self.projects[self.users[truth.user].project].policy.idle.clone() else {
            self.nodes[node].idle.remove(&id);
            return Ok(None);
        };
        let gpus = crate::world::FLAVORS[flavor].1;
        let before = self.nodes[node].idle.remove(&id);
        let Some((at, mut idle, _)) = before.filter(|(.., by)| *by == rule) else {
            self.nodes[node].idle.insert(id, (now, IdleClock::default(), rule));
            return Ok(None);
        };
        let works = last_busy > at;
        let used = Use {
            cpu_cores: if works { 3.5 } else { 0.01 },
            gpu: (gpus > 0).then_some(if works { 0.9 } else { 0.0 }),
            ..Use::default()
        };
        let every = Duration::from_millis(LOOK.unsigned_abs());
        idle.look(Duration::from_millis((now - at).unsigned_abs()), every, rule.activity(&used, gpus));
        self.nodes[node].idle.insert(id, (now, idle.clone(), rule.clone()));
        Ok(Some(Looked { container: id, used, idle, rule }))
    }

    /// Somebody who runs the platform or a project changes something.
    pub(crate) async fn administers(&mut self) -> Result<()> {
        let wait_ms = self.between(DAY, 5 * DAY);
        self.later(wait_ms, Event::Admin);
        let node = self.any_of(self.nodes.len());
        // A node is drained for as long as nothing else is done.
        for drained in (0..self.nodes.len()).filter(|i| self.nodes[*i].drained).collect::<Vec<_>>() {
            self.drains(drained, false).await?;
        }
        match self.between(0, 99) {
            0..=44 => self.sets_a_policy().await?,
            45..=54 => self.changes_prices(),
            55..=64 => {
                self.drains(node, true).await?;
            }
            65..=74 if self.nodes[node].inbox.is_some() => self.worker_stops(node).await?,
            75..=79 if !self.calm => {
                self.dark_until = self.now() + self.between(HOUR, 40 * HOUR);
                self.tally.note("times without a scheduler");
            }
            _ => {
                if !self.plans.all.is_empty() {
                    let i = self.any_of(self.plans.all.len());
                    self.change_plans(i).await?;
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn drains(&mut self, node: usize, drained: bool) -> Result<()> {
        self.nodes[node].drained = drained;
        let name = self.nodes[node].run.name.clone();
        self.store.drain_node(&name, drained).await?;
        self.soon();
        Ok(())
    }

    pub(crate) async fn sets_a_policy(&mut self) -> Result<()> {
        let project = self.any_of(self.projects.len());
        let hours = |hours: i64| (hours * 3600).unsigned_abs();
        let idle = self.chance(0.5).then(|| IdleRule {
            gpu_below: Some(0.05),
            cpu_below: Some(0.1),
            network_below: None,
            terminals: false,
            window_seconds: hours(self.between(WINDOW / HOUR, 6 * 24)),
            samples: 3,
        });
        let lifetime = self.chance(0.3).then(|| hours(self.between(LIFETIME / HOUR, 40 * 24)));
        let budget = self.chance(0.3).then(|| Decimal::from(self.between(BUDGET, 3 * BUDGET)));
        let policy = ParkPolicy {
            idle,
            lifetime_seconds: lifetime,
            budget_per_month: budget,
            grace_seconds: Some(hours(self.between(GRACE / HOUR, 48))),
        };
        // None at all, now and then.
        let policy = if self.chance(0.5) { ParkPolicy::default() } else { policy };
        self.store.set_park_policy(&self.projects[project].name.clone(), &policy).await?;
        self.projects[project].policy = policy;
        self.tally.note("policies that were set");
        Ok(())
    }

    fn changes_prices(&mut self) {
        let now = self.now();
        for flavor in 0..self.prices.len() {
            let price = self.price(flavor, now) * self.between(95, 107) / 100 + self.between(0, 9);
            self.prices[flavor].push((now, price));
        }
        let flavors: Vec<_> = (0..self.prices.len()).map(|flavor| self.flavor(flavor)).collect();
        for scheduler in &mut self.schedulers {
            scheduler.settings.flavors.clone_from(&flavors);
        }
    }

    /// A park by policy: of a container that gives the reason, after a warning and its grace, and once.
    pub(crate) async fn check_policy(&mut self, job: &Job) -> Result<()> {
        let id = job.container.context("a policy is about containers")?;
        let warning =
            self.store.warnings(&[id]).await?.remove(&id).context("it was parked without a warning")?;
        ensure!(
            warning.tried == Some(job.id),
            "the warning of container {id} led to another job than {}",
            job.id
        );
        let (created, warned) = (job.created_at.as_millisecond(), warning.warned_at.as_millisecond());
        ensure!(created - warned >= GRACE, "container {id} is parked before its grace is over");
        let truth = self.truth(id)?;
        let project = &self.projects[self.users[truth.user].project].name;
        let well_founded = match warning.reason {
            Reason::Idle => created - truth.seen_busy >= WINDOW,
            Reason::Lifetime => {
                self.ledger.running_since(id).is_some_and(|since| created - since >= LIFETIME)
            }
            Reason::Budget => {
                let first =
                    job.created_at.to_zoned(jiff::tz::TimeZone::UTC).first_of_month()?.start_of_day()?;
                let from_ms = first.timestamp().as_millisecond();
                self.ledger.cost(project.as_str(), from_ms, created) >= Decimal::from(BUDGET)
            }
        };
        ensure!(well_founded, "container {id} is parked for {}, and it is not so", warning.reason);
        let parks = self.warned.entry((id, warned)).or_default().clone();
        for earlier in parks {
            let before = self.store.job(earlier).await?.context("an earlier park is gone")?;
            ensure!(
                before.state != JobState::Succeeded
                    && created - self.known(earlier)?.over.unwrap_or(i64::MAX) >= GRACE,
                "one warning of container {id} led to two parks: {earlier} and {}",
                job.id
            );
        }
        self.warned.entry((id, warned)).or_default().push(job.id);
        self.tally.note(match warning.reason {
            Reason::Idle => "parks of what was idle",
            Reason::Lifetime => "parks of what was too old",
            Reason::Budget => "parks over a budget",
        });
        ensure!(self.known(job.id)?.origin == Origin::Policy);
        Ok(())
    }

    /// Looks at the bill of the month that is over, and of all the time before.
    pub(crate) async fn checks_the_bill(&mut self, start: Timestamp) -> Result<()> {
        let now = self.clock.now();
        let query = mothball_store::LedgerQuery { project: None, user: None, since: start };
        let sheets = self.store.ledger(&query).await?;
        ensure!(sheets.now == now, "the store has another time");
        self.ledger.check(&sheets, start, now)?;
        // Not at midnight, and into the time that has not come: what lasts is counted until now.
        let from = now - Duration::from_millis((31 * DAY + 5 * HOUR).unsigned_abs());
        self.ledger.check(&sheets, from.max(start), now + Duration::from_hours(7))?;
        self.tally.note("bills that were right");
        Ok(())
    }
}
