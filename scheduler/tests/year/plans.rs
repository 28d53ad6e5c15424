//! The world's own calendar of schedules: when each is planned, reckoned from dates and clocks alone, and what its runs came
//! to. Every planned time must have had its one run.

use crate::agenda::Event;
use crate::world::{DAY, HOUR, MINUTE, Origin, World};
use anyhow::{Context, Result, ensure};
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use mothball_domain::id::{ContainerId, JobId, ScheduleId};
use mothball_domain::schedule::run::{Run, RunOutcome};
use mothball_domain::schedule::{Missed, Plan, ScheduleAction, ScheduleTarget};
use mothball_store::{ScheduleChange, ScheduleDraft, ScheduleMade};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Zones that users live in.
pub(crate) const ZONES: [&str; 5] =
    ["Asia/Taipei", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Chatham"];

/// A schedule, as its maker thinks of it.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) id: ScheduleId,
    pub(crate) container: ContainerId,
    pub(crate) user: usize,
    project: usize,
    action: ScheduleAction,
    hour: i8,
    minute: i8,
    /// The day of the week; every day where there is none.
    weekday: Option<Weekday>,
    zone: &'static str,
    /// How often it was changed.
    changes: u32,
    next: i64,
    /// Planned times that have come, and whether a run may be missing, because no scheduler ran.
    due: BTreeMap<i64, bool>,
    skipped: BTreeSet<i64>,
    runs: BTreeMap<i64, RunOutcome>,
}

/// All schedules, and the jobs that their runs say they started.
#[derive(Debug, Default)]
pub(crate) struct Plans {
    pub(crate) all: Vec<Planned>,
    started: BTreeMap<JobId, (ScheduleId, i64)>,
}

impl Planned {
    /// The first planned time after a moment: day by day, as one reads a calendar.
    fn after(&self, at_ms: i64) -> Result<i64> {
        let zone = TimeZone::get(self.zone)?;
        let mut date = Timestamp::from_millisecond(at_ms)?.to_zoned(zone.clone()).date();
        loop {
            let planned =
                date.at(self.hour, self.minute, 0, 0).to_zoned(zone.clone())?.timestamp().as_millisecond();
            if planned > at_ms && self.weekday.is_none_or(|day| day == date.weekday()) {
                return Ok(planned);
            }
            date = date.checked_add(1.day())?;
        }
    }

    fn plan(&self) -> Result<Plan> {
        let day = self.weekday.map_or_else(|| "*".to_owned(), |day| day.to_sunday_zero_offset().to_string());
        let text = |error| anyhow::anyhow!("{error}");
        Ok(Plan {
            target: ScheduleTarget::Container(self.container),
            action: self.action,
            cron: format!("{} {} * * {day}", self.minute, self.hour).parse().map_err(text)?,
            timezone: self.zone.parse().map_err(|e| anyhow::anyhow!("{e}"))?,
            missed: if self.user.is_multiple_of(2) { Missed::RunOnce } else { Missed::Skip },
            patience_s: 3 * 3600,
            tag: None,
            flavor: None,
            discard_volumes: false,
            description: String::new(),
        })
    }
}

impl World {
    /// A user has a container parked at night and woken in the morning.
    pub(crate) async fn make_plans(&mut self, user: usize, container: ContainerId) -> Result<()> {
        let zone = ZONES[user % ZONES.len()];
        let daily = self.users[user].daily;
        let (hour, minute) = (self.between(19, 23) as i8, self.between(0, 59) as i8);
        let night = (ScheduleAction::Park, hour, minute, (!daily).then_some(Weekday::Friday));
        let hour = self.between(6, 9) as i8;
        let morning = (ScheduleAction::Wake, hour, minute, (!daily).then_some(Weekday::Monday));
        for (action, hour, minute, weekday) in [night, morning] {
            let mut planned = Planned {
                id: ScheduleId(Uuid::now_v7()),
                container,
                user,
                project: self.users[user].project,
                action,
                hour,
                minute,
                weekday,
                zone,
                changes: 0,
                next: 0,
                due: BTreeMap::new(),
                skipped: BTreeSet::new(),
                runs: BTreeMap::new(),
            };
            let draft = ScheduleDraft {
                id: planned.id,
                project: self.projects[planned.project].name.clone(),
                user: self.users[user].name.clone(),
                plan: planned.plan()?,
                enabled: true,
                idempotency: None,
            };
            let made = self.store.create_schedule(&draft).await?;
            ensure!(matches!(made, ScheduleMade::Made(_)), "{made:?}");
            planned.next = planned.after(self.now())?;
            self.agenda.add(planned.next, Event::Planned(self.plans.all.len(), 0));
            self.plans.all.push(planned);
        }
        Ok(())
    }

    /// A planned time has come.
    pub(crate) fn is_planned(&mut self, i: usize, changes: u32) -> Result<()> {
        let (now, dark) = (self.now(), self.now() < self.dark_until + MINUTE);
        let planned = &mut self.plans.all[i];
        if planned.changes != changes {
            return Ok(());
        }
        let at = planned.next;
        planned.due.insert(at, dark);
        planned.next = planned.after(at)?;
        let next = planned.next;
        self.agenda.add(next, Event::Planned(i, changes));
        self.expects_jobs = true;
        ensure!(at == now, "the world's calendar is wrong");
        let wait_ms = self.between(1, 30_000);
        self.later(wait_ms, Event::Pass);
        Ok(())
    }

    /// Somebody changes one of their schedules: leaves its next run out, or moves it to another hour.
    pub(crate) async fn change_plans(&mut self, i: usize) -> Result<()> {
        // Not around its time: whether the change comes before the run is nobody's promise.
        let now = self.now();
        if self.plans.all[i].next - now < HOUR || now < self.dark_until + HOUR {
            return Ok(());
        }
        if self.chance(0.5) {
            let id = self.plans.all[i].id;
            let skipped = self.store.skip_run(id, true).await?;
            if let Ok(Some(schedule)) = skipped
                && schedule.enabled
            {
                let planned = &mut self.plans.all[i];
                planned.skipped.insert(planned.next);
                self.tally.note("runs that were to be skipped");
            }
            return Ok(());
        }
        let minute = self.between(0, 59) as i8;
        let planned = &mut self.plans.all[i];
        // What was said about the next run is void when the time moves.
        let moves = planned.minute != minute;
        if !moves {
            return Ok(());
        }
        planned.minute = minute;
        planned.skipped.remove(&planned.next);
        planned.changes += 1;
        planned.next = planned.after(now)?;
        let (next, changes, id) = (planned.next, planned.changes, planned.id);
        let cron = Some(planned.plan()?.cron);
        let change = ScheduleChange {
            plan: mothball_domain::schedule::PlanChange { cron, ..Default::default() },
            enabled: None,
        };
        self.store.change_schedule(id, &change).await?;
        self.agenda.add(next, Event::Planned(i, changes));
        self.tally.note("schedules that were moved");
        Ok(())
    }

    /// Reads what the schedules' runs came to since the last time, and holds it against the calendar.
    pub(crate) async fn check_plans(&mut self) -> Result<()> {
        for i in 0..self.plans.all.len() {
            let (id, newest) = (self.plans.all[i].id, self.plans.all[i].runs.keys().next_back().copied());
            let mut cursor: Option<String> = None;
            'pages: loop {
                let page = self.store.schedule_runs(id, cursor.as_deref(), 50).await?;
                for run in &page.items {
                    let at = run.planned_at.as_millisecond();
                    // A day is looked at again: a run of yesterday may have waited.
                    if newest.is_some_and(|newest| at < newest - 2 * DAY) {
                        break 'pages;
                    }
                    self.check_run(i, run).with_context(|| format!("run {at} of schedule {id}"))?;
                }
                match page.next {
                    Some(next) => cursor = Some(next),
                    None => break,
                }
            }
            self.check_calendar(i)?;
        }
        Ok(())
    }

    fn check_run(&mut self, i: usize, run: &Run) -> Result<()> {
        let at = run.planned_at.as_millisecond();
        let (id, outcome) = (run.schedule, run.outcome());
        let planned = &mut self.plans.all[i];
        ensure!(planned.due.contains_key(&at), "it was not planned");
        ensure!(planned.skipped.contains(&at) == (outcome == RunOutcome::Skipped), "it came to {outcome}");
        planned.runs.insert(at, outcome);
        for target in run.targets.iter().flatten().filter(|t| t.outcome == RunOutcome::Started) {
            let job = target.job.context("it started no job")?;
            let earlier = self.plans.started.insert(job, (id, at));
            ensure!(earlier.is_none_or(|earlier| earlier == (id, at)), "job {job} is another run's too");
            let known = self.jobs.get(&job).with_context(|| format!("there is no job {job}"))?;
            ensure!(known.origin == Origin::Schedule(id), "job {job} is not its own");
        }
        Ok(())
    }

    fn check_calendar(&self, i: usize) -> Result<()> {
        let planned = &self.plans.all[i];
        if self.truth(planned.container)?.place == crate::world::Place::Gone {
            // It was switched off when its container was found gone; when exactly is nobody's promise.
            return Ok(());
        }
        for (at, dark) in planned.due.range(..self.now() - 6 * HOUR) {
            let done = planned.runs.contains_key(at);
            ensure!(
                done || *dark,
                "schedule {} did not fire at {}",
                planned.id,
                Timestamp::from_millisecond(*at)?
            );
        }
        Ok(())
    }

    /// Every job that a schedule started stands in exactly one run of it.
    pub(crate) fn check_started(&self) -> Result<()> {
        for (job, known) in &self.jobs {
            let Origin::Schedule(id) = known.origin else { continue };
            let run = self.plans.started.get(job);
            ensure!(
                run.is_some_and(|(of, _)| *of == id),
                "job {job} of schedule {id} stands in no run of it"
            );
        }
        Ok(())
    }
}
