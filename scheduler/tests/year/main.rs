//! A year of two hundred users, played through in seconds: the real store on a clock that the test holds, the real
//! schedulers, two of them, and a world of users, nodes, workers and a registry that goes wrong wherever it can.
//!
//! All the way and at the end: no container is removed without its proven image, which holds what was in it; none has two
//! unfinished jobs; no warning and no run of a schedule leads to two parks; what is woken is what was parked; nothing is
//! stuck; and every bill is the world's own ledger to the last decimal.
//!
//! One seed is one year, to the last step. `MOTHBALL_SOAK=1` plays more of them; `MOTHBALL_SEED=n` plays that one.

mod agenda;
mod jobs;
mod ledger;
mod plans;
mod platform;
mod tally;
mod users;
mod workers;
mod world;

use agenda::Event;
use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use jiff::civil::date;
use jiff::tz::TimeZone;
use mothball_domain::name::{NodeName, ProjectName, UserName};
use mothball_domain::notice::delivery::DeliveryRetry;
use mothball_domain::notice::reach::Reach;
use mothball_domain::notice::words;
use mothball_domain::people::Role;
use mothball_queue::Queue;
use mothball_scheduler::{Metrics, NotifySettings, Parts, Round, Senders, Settings, WebhookSender};
use mothball_store::{HeldClock, NodeRun, Store};
use std::sync::Arc;
use std::time::Duration;
use world::{DAY, HOUR, MINUTE, Node, Place, World};

/// How large a year is.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    users: usize,
    projects: usize,
    nodes: usize,
    days: i64,
}

const YEAR: Sizes = Sizes { users: 200, projects: 12, nodes: 6, days: 365 };
/// Seeds of a soak.
const SOAK_SEEDS: u64 = 40;

#[test]
fn a_year_of_two_hundred_users() {
    let named = std::env::var_os("MOTHBALL_SEED").and_then(|seed| seed.to_str()?.parse().ok());
    let seeds = match (named, std::env::var_os("MOTHBALL_SOAK")) {
        (Some(seed), _) => seed..=seed,
        (None, Some(_)) => 1..=SOAK_SEEDS,
        (None, None) => 1..=1,
    };
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        match runtime.block_on(play(seed, YEAR)) {
            Ok(tally) => eprintln!("year {seed}: {tally}"),
            Err(error) => panic!("MOTHBALL_SEED={seed}: {error:#}"),
        }
    }
}

async fn play(seed: u64, sizes: Sizes) -> Result<tally::Tally> {
    let folder = tempfile::tempdir()?;
    let start = date(2026, 1, 1).at(0, 0, 0, 0).to_zoned(TimeZone::UTC)?.timestamp();
    let clock = HeldClock::new(start);
    let store = Store::embedded_with_clock(&folder.path().join("year.db"), &clock)?;
    let mut world = Box::pin(begin(seed, sizes, store, clock)).await?;
    let end = start.as_millisecond() + sizes.days * DAY;
    while let Some((at, event)) = world.agenda.next(end) {
        Box::pin(happens(&mut world, at, event, start)).await.with_context(|| when(&world, event))?;
    }
    calm_down(&mut world, start).await?;
    Ok(world.tally)
}

fn when(world: &World, event: Event) -> String {
    format!("at {}, {event:?}; until then {}", world.clock.now(), world.tally)
}

async fn happens(world: &mut World, at: i64, event: Event, start: Timestamp) -> Result<()> {
    world.clock.move_to(Timestamp::from_millisecond(at)?);
    match event {
        Event::User(user) => world.acts(user).await,
        Event::Regret(user) => world.after_the_last(user).await,
        Event::Look(node) => world.looks(node).await,
        Event::Start(node) => world.worker_starts(node).await,
        Event::Step(attempt) => world.step(attempt).await,
        Event::Planned(schedule, changes) => world.is_planned(schedule, changes),
        Event::Pass => world.pass(&[Round::Jobs, Round::Schedules]).await,
        Event::Policies => {
            world.later(platform::LOOK, Event::Policies);
            world.pass(&[Round::Jobs, Round::Schedules, Round::Policies, Round::Notices]).await
        }
        Event::History => {
            world.later(DAY, Event::History);
            world.pass(&Round::ALL).await?;
            world.discover().await
        }
        Event::Admin => world.administers().await,
        Event::Month => {
            world.later(30 * DAY + 7 * HOUR, Event::Month);
            world.check_plans().await?;
            world.checks_the_bill(start).await
        }
    }
}

/// The platform and its people, before anything has happened.
async fn begin(seed: u64, sizes: Sizes, store: Store, clock: HeldClock) -> Result<World> {
    let queue = Queue::local();
    let scheduler = || scheduler(&store, &queue);
    let schedulers = [scheduler()?, scheduler()?];
    let mut world = World::new(seed, store.clone(), clock, queue.clone(), schedulers);
    for i in 0..sizes.projects {
        let name = ProjectName::new(format!("p{i:02}"))?;
        store.create_project(&name).await?;
        world.projects.push(users::Project { name, policy: mothball_domain::policy::ParkPolicy::default() });
    }
    for i in 0..sizes.users {
        let name = UserName::new(format!("u{i:03}"))?;
        let project = i % sizes.projects;
        store.create_user(&name, false).await?;
        store.set_member(&world.projects[project].name, &name, Some(Role::Member)).await?;
        let every = world.between(15 * DAY, 120 * DAY);
        let (plans, daily) = (world.chance(0.05), world.chance(0.05));
        world.users.push(users::User {
            name,
            project,
            every,
            plans,
            daily,
            containers: Vec::new(),
            saved: Vec::new(),
            asked: None,
        });
        let wait_ms = world.between(MINUTE, every);
        world.later(wait_ms, Event::User(i));
    }
    for i in 0..sizes.nodes {
        let name = NodeName::new(format!("n{i}"))?;
        let run = NodeRun { name, uid: format!("uid-{i}"), instance: String::new() };
        world.nodes.push(Node::new(run, 18));
        world.worker_starts(i).await?;
        let wait_ms = platform::LOOK + world.between(0, MINUTE);
        world.later(wait_ms, Event::Look(i));
    }
    world.later(platform::LOOK + 5 * MINUTE, Event::Policies);
    world.later(3 * HOUR, Event::History);
    world.later(DAY, Event::Admin);
    world.later(31 * DAY + HOUR, Event::Month);
    Ok(world)
}

fn scheduler(store: &Store, queue: &Queue) -> Result<Parts> {
    let settings = Settings {
        tick: Duration::from_secs(1),
        alive_within: users::ALIVE,
        gone_after: Duration::from_hours(72),
        max_attempts: users::ATTEMPTS,
        flavors: world::FLAVORS
            .iter()
            .enumerate()
            .map(|(i, (_, _, price))| world::offered(i, *price))
            .collect(),
        reserved_images: Vec::new(),
        policy_tick: Duration::from_secs(30),
        seen_within: platform::SEEN,
        keep_jobs_for: Duration::from_hours(24 * 40),
        keep_audit_for: Duration::from_hours(24 * 20),
        keep_ledger_for: Duration::from_hours(24 * 1100),
        retention_tick: Duration::from_mins(5),
        notice: Duration::from_hours(72),
        undo: users::UNDO,
        notify: NotifySettings {
            setting: words::Setting::default(),
            timeout: Duration::from_secs(1),
            retry: DeliveryRetry { max: 1, first: Duration::from_secs(1) },
            keep_for: Duration::from_hours(1),
        },
    };
    let metrics = Arc::new(Metrics::register(&prometheus::Registry::new())?);
    // The first caller of the process installs it; it is never used, as nobody wants to be told.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let webhooks = WebhookSender::new(Reach::default(), Duration::from_secs(1), "0")?;
    let senders = Senders { webhooks: Arc::new(webhooks), mail: None };
    Ok(Parts { store: store.clone(), queue: queue.clone(), metrics, senders, settings })
}

/// Everything works for a while, nobody asks for anything new: all that was asked for comes to its end.
async fn calm_down(world: &mut World, start: Timestamp) -> Result<()> {
    world.calm = true;
    world.dark_until = 0;
    for node in 0..world.nodes.len() {
        world.drains(node, false).await?;
        world.worker_starts(node).await?;
    }
    let until = world.now() + 4 * DAY;
    world.soon();
    while let Some((at, event)) = world.agenda.next(until) {
        if !matches!(event, Event::User(_) | Event::Regret(_) | Event::Admin | Event::Month) {
            happens(world, at, event, start).await.with_context(|| when(world, event))?;
        }
    }
    let stuck: Vec<String> = world.open.iter().map(ToString::to_string).collect();
    ensure!(
        stuck.is_empty(),
        "after four days in which everything worked these jobs are not over: {stuck:?}"
    );
    let counted = world.store.unfinished_and_due().await?;
    ensure!(counted == (0, 0), "unfinished and due: {counted:?}");
    world.check_plans().await?;
    world.check_started()?;
    world.checks_the_bill(start).await?;
    check_containers(world).await
}

/// Compares every container with what the world has seen of it.
async fn check_containers(world: &mut World) -> Result<()> {
    let ids: Vec<_> = world.truths.keys().copied().collect();
    for id in ids {
        let found = world.store.container(id).await?;
        let Some(container) = found else {
            ensure!(world.truth(id)?.place == Place::Gone, "container {id} is forgotten");
            continue;
        };
        world.check_place(&container)?;
        world.check_parked(&container)?;
        let now = world.now();
        world.ledger.check_life(id, &container.usage(world.clock.now()), now)?;
    }
    for (i, node) in world.nodes.iter().enumerate() {
        let frozen = node.boxes.values().filter(|b| b.paused).count();
        ensure!(frozen == 0, "{frozen} containers of node {i} were left frozen");
    }
    world.tally.require(&[
        "parks",
        "containers that were removed, each with its image",
        "images that were not proven",
        "images that were proven and not recorded",
        "removals that were told of by the next attempt",
        "holders that had lost their job",
        "processes that slept",
        "workers that were killed",
        "workers that were stopped",
        "wake-ups that were lost",
        "schedulers that died half-way",
        "times without a scheduler",
        "jobs of schedules",
        "parks of what was idle",
        "parks of what was too old",
        "parks over a budget",
        "images that were deleted",
        "contents that were removed for good",
        "launches of saved images",
        "jobs that failed",
        "jobs that were cancelled",
        "containers that were lost",
        "bills that were right",
    ])
}
