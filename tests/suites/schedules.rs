//! Schedules from outside: a night and a morning, two schedulers, one that is killed around a firing, and days without any.
//! The store's clock is moved, so that a night takes a second; everything else goes by the real one.

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use mothball_harness::clock::Clock;
use mothball_harness::http::Api;
use mothball_harness::mothball::Outcome;
use mothball_harness::proxy::{Fault, Rule};
use mothball_harness::system::{JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::try_eventually;
use mothball_tests::flow::{self, text};
use mothball_tests::people;
use serde_json::{Value, json};

use crate::faults::{At, SOON, Way, assert_clean, launch, options, proxy, write};

mothball_tests::on_both_pairs!(
    a_night_and_a_morning,
    a_scheduler_killed_around_a_firing_fires_once,
    down_over_firings_each_schedule_keeps_its_policy,
    a_run_waits_for_a_job_in_its_way,
    a_park_that_fails_leaves_the_container_running,
    what_is_kept_protected_or_no_longer_allowed_is_left_alone,
    the_command_line_looks_ahead_and_back,
);

/// A system whose store's clock is moved.
struct Night {
    clock: Clock,
    system: System,
    api: Api,
}

impl Night {
    async fn begin(pair: Pair) -> Result<Self> {
        Self::with(options(pair)).await
    }

    async fn with(options: Options) -> Result<Self> {
        let clock = Clock::new()?;
        // However far the clock moves, the node does not count as silent before it reports again.
        let system = options.clock(&clock)?.env("MOTHBALL_WORKER__ALIVE_WITHIN", "10000h").start().await?;
        let api = system.operator()?;
        Ok(Self { clock, system, api })
    }

    /// Moves the clock to a moment.
    fn move_to(&self, at: Timestamp) -> Result<()> {
        self.clock.set(at.duration_since(Timestamp::now()))
    }

    /// Makes a schedule.
    async fn schedule(&self, body: &Value) -> Result<Value> {
        self.api.post("/v1/schedules", body).await?.expect(201)
    }

    /// A schedule as it is now.
    async fn now(&self, schedule: &Value) -> Result<Value> {
        self.api.get(&path(schedule, "")).await?.expect(200)
    }

    /// Lets the time of a schedule's next run come; the planned time.
    async fn let_come(&self, schedule: &Value) -> Result<Timestamp> {
        let planned = at(&self.now(schedule).await?["next_at"])?;
        self.move_to(planned + SignedDuration::from_secs(1))?;
        Ok(planned)
    }

    /// The history of a schedule, newest first.
    async fn runs(&self, schedule: &Value) -> Result<Vec<Value>> {
        let runs = self.api.get(&path(schedule, "/runs")).await?.expect(200)?;
        runs["items"].as_array().cloned().context("a list of runs")
    }

    /// Waits until the run that was planned for this time has this outcome.
    async fn run(&self, schedule: &Value, planned: Timestamp, outcome: &str) -> Result<Value> {
        let mut seen = Value::Null;
        let found = try_eventually(SOON, "the run", async || {
            let runs = self.runs(schedule).await?;
            seen = json!(runs);
            Ok(runs.into_iter().find(|run| {
                // One that has just begun has not looked up its containers yet.
                let looked_up = run["reason"].is_string() || run["containers"][0].is_object();
                let planned_then = at(&run["planned_at"]).is_ok_and(|at| at == planned);
                planned_then && run["outcome"] == outcome && looked_up
            }))
        });
        found.await.with_context(|| format!("{outcome} at {planned} is not among {seen:#}"))
    }

    /// Lets the next run come, and waits until it has this outcome.
    async fn fire(&self, schedule: &Value, outcome: &str) -> Result<Value> {
        let planned = self.let_come(schedule).await?;
        self.run(schedule, planned, outcome).await
    }

    /// Lets the next run come, and waits until the job that it starts has succeeded.
    async fn succeed(&self, schedule: &Value) -> Result<Value> {
        let run = self.fire(schedule, "started").await?;
        let job = text(&run["containers"][0]["job"]);
        ensure!(self.now(schedule).await?["last_job"] == job.as_str(), "it is not the schedule's last job");
        self.api.wait_success(&job, JOB_LIMIT).await
    }

    /// How many jobs schedules have started.
    async fn jobs(&self) -> Result<usize> {
        let jobs = self.api.get("/v1/jobs?all=true&limit=200").await?.expect(200)?;
        let jobs = jobs["items"].as_array().context("a list of jobs")?;
        Ok(jobs.iter().filter(|job| job["schedule"].is_string()).count())
    }

    /// A command that must end with 0; what it printed.
    async fn cli(&self, args: &[&str]) -> Result<String> {
        self.system.api.cli(args).await?.success()
    }
}

fn path(schedule: &Value, rest: &str) -> String {
    format!("/v1/schedules/{}{rest}", text(&schedule["id"]))
}

fn at(value: &Value) -> Result<Timestamp> {
    value.as_str().with_context(|| format!("{value} is no time"))?.parse().context("read a time")
}

fn daily(container: &str, action: &str, hour: u8) -> Value {
    let cron = format!("0 {hour} * * *");
    json!({"container": container, "action": action, "cron": cron, "timezone": "Asia/Taipei"})
}

/// Parked in the evening and woken in the morning, as itself, in another size, with what was in it.
async fn a_night_and_a_morning(pair: Pair) -> Result<()> {
    let sizes = "[[flavors]]\nname = \"cpu-small\"\ngpus = 0\ncpus = 1\nmemory = \"256MiB\"\nprice_per_hour = \"2\"\n\
                 [[flavors]]\nname = \"cpu-day\"\ngpus = 0\ncpus = 2\nmemory = \"512MiB\"\nprice_per_hour = \"5\"";
    let night = Night::with(options(pair).configuration(sizes)).await?;
    let (container, docker_id) = launch(&night.system, "box").await?;
    let park = night.schedule(&daily("box", "park", 20)).await?;
    ensure!(at(&park["next_at"])?.strftime("%H:%M:%S").to_string() == "12:00:00", "{park:#}");

    let job = night.succeed(&park).await?;
    ensure!(job["user"] == "admin" && job["schedule"] == park["id"] && job["then"] == "park", "{job:#}");
    ensure!(job["tag"].as_str().is_some_and(|tag| tag.ends_with("-120000-box")), "{job:#}");
    ensure!(flow::status(night.system.dockerd(), &docker_id).await? == "absent");
    let parked = flow::container(&night.api, &container).await?;
    ensure!(parked["state"] == "parked" && parked["name"] == "box", "{parked:#}");
    // A second evening finds it parked.
    let run = night.fire(&park, "nothing").await?;
    ensure!(text(&run["containers"][0]["reason"]).contains("parked already"), "{run:#}");

    let mut wake = daily("box", "wake", 8);
    wake["flavor"] = json!("cpu-day");
    let wake = night.schedule(&wake).await?;
    let before = at(&wake["next_at"])?;
    night.succeed(&wake).await?;
    let awake = flow::container(&night.api, &container).await?;
    ensure!(awake["state"] == "ready" && awake["name"] == "box" && awake["id"] == parked["id"], "{awake:#}");
    ensure!(awake["flavor"] == "cpu-day" && awake["cost"]["per_hour"] == "5", "{awake:#}");
    let docker_id = night.system.docker_id(&container).await?;
    ensure!(night.system.dockerd().sh(&docker_id, "cat /note").await?.trim() == "box");
    // A morning that finds it awake, because nobody parked it.
    night.api.patch(&path(&park, ""), &json!({"enabled": false})).await?.expect(200)?;
    let run = night.fire(&wake, "nothing").await?;
    ensure!(text(&run["containers"][0]["reason"]).contains("runs already"), "{run:#}");
    let day = SignedDuration::from_hours(24);
    ensure!(
        at(&night.now(&wake).await?["next_at"])?.duration_since(before) >= day + day,
        "it did not move on"
    );
    ensure!(night.jobs().await? == 2);
    assert_clean(&night.system).await
}

/// Two schedulers, and one that comes later: each run once, each container one job.
#[tokio::test]
async fn two_schedulers_fire_once() -> Result<()> {
    let night = Night::begin(Pair::Servers).await?;
    let _second = night.system.another("scheduler").start().await?;
    let third = night.system.another("scheduler").start().await?;
    for name in ["box-a", "box-b"] {
        night.system.launch(name).await?;
    }
    let all = json!({"all_containers": true, "action": "save", "cron": "30 * * * *", "timezone": "UTC"});
    let schedules = [
        night.schedule(&all).await?,
        night.schedule(&daily("box-a", "save", 3)).await?,
        night.schedule(&daily("box-b", "save", 4)).await?,
    ];
    for round in 1..=3 {
        let planned = night.let_come(&schedules[0]).await?;
        let run = night.run(&schedules[0], planned, "started").await?;
        let started = run["containers"].as_array().context("containers")?;
        ensure!(started.len() == 2, "{run:#}");
        for target in started {
            night.api.wait_success(&text(&target["job"]), JOB_LIMIT).await?;
        }
        ensure!(night.runs(&schedules[0]).await?.len() == round, "a run was done twice");
    }
    drop(third);
    for schedule in &schedules[1..] {
        night.succeed(schedule).await?;
    }
    // Moving past 03:00 and 04:00 passed half-hours, too.
    let mut expected = 0;
    for schedule in &schedules {
        for run in night.runs(schedule).await? {
            let containers = run["containers"].as_array().context("containers")?;
            expected += containers.iter().filter(|c| c["outcome"] == "started").count();
            for target in containers.iter().filter(|c| c["job"].is_string()) {
                night.api.wait_success(&text(&target["job"]), JOB_LIMIT).await?;
            }
        }
    }
    ensure!(night.jobs().await? == expected, "{} jobs, {expected} in the histories", night.jobs().await?);
    Ok(())
}

/// The scheduler dies before the time comes, as it comes, when the run has begun, and when its job is there.
async fn a_scheduler_killed_around_a_firing_fires_once(pair: Pair) -> Result<()> {
    let mut night = Night::begin(pair).await?;
    night.system.launch("box").await?;
    let schedule = night.schedule(&daily("box", "save", 20)).await?;
    for (round, moment) in ["before", "as it comes", "begun", "started"].into_iter().enumerate() {
        let planned = at(&night.now(&schedule).await?["next_at"])?;
        if moment == "before" {
            night.system.scheduler().kill9();
        }
        night.move_to(planned + SignedDuration::from_secs(1))?;
        if moment == "begun" || moment == "started" {
            try_eventually(SOON, moment, async || {
                let runs = night.runs(&schedule).await?;
                let begun = runs.into_iter().find(|run| at(&run["planned_at"]).is_ok_and(|at| at == planned));
                Ok(begun.filter(|run| moment == "begun" || run["outcome"] == "started"))
            })
            .await?;
        }
        night.system.scheduler().kill9();
        night.system.scheduler().start_again().await?;
        night.system.api.wait_able().await?;
        let run = night.run(&schedule, planned, "started").await.context(moment)?;
        ensure!(run["missed"] == 0, "killed {moment}: {run:#}");
        night.api.wait_success(&text(&run["containers"][0]["job"]), JOB_LIMIT).await.context(moment)?;
        ensure!(night.runs(&schedule).await?.len() == round + 1, "killed {moment}: a run too many");
        ensure!(night.jobs().await? == round + 1, "killed {moment}: a job too many");
    }
    assert_clean(&night.system).await
}

/// Three days without a scheduler: one run for all of them, or none, as each schedule says; then on as before.
async fn down_over_firings_each_schedule_keeps_its_policy(pair: Pair) -> Result<()> {
    let mut night = Night::begin(pair).await?;
    night.system.launch("once").await?;
    night.system.launch("skip").await?;
    let once = night.schedule(&daily("once", "save", 20)).await?;
    let mut skips = daily("skip", "save", 20);
    skips["missed"] = json!("skip");
    let skips = night.schedule(&skips).await?;
    let first = at(&once["next_at"])?;
    night.system.scheduler().kill9();
    let last = first + SignedDuration::from_hours(2 * 24);
    night.move_to(last + SignedDuration::from_hours(3))?;
    night.system.scheduler().start_again().await?;
    night.system.api.wait_able().await?;

    let run = night.run(&once, last, "started").await?;
    ensure!(run["missed"] == 2, "{run:#}");
    night.api.wait_success(&text(&run["containers"][0]["job"]), JOB_LIMIT).await?;
    let run = night.run(&skips, last, "missed").await?;
    ensure!(run["missed"] == 3 && text(&run["reason"]).contains("3 runs"), "{run:#}");
    for schedule in [&once, &skips] {
        ensure!(night.runs(schedule).await?.len() == 1, "a run too many");
        let next = at(&night.now(schedule).await?["next_at"])?;
        ensure!(next == last + SignedDuration::from_hours(24), "it goes on at {next}");
    }
    ensure!(night.jobs().await? == 1);
    night.succeed(&skips).await.map(drop)
}

/// A save is under way when the park's time comes: it waits, says for what, and then has its turn.
async fn a_run_waits_for_a_job_in_its_way(pair: Pair) -> Result<()> {
    let night = Night::begin(pair).await?;
    let (container, docker_id) = launch(&night.system, "box").await?;
    let park = night.schedule(&daily("box", "park", 20)).await?;
    // A lease is over when the clock jumps a day: it is brought near the time before.
    let planned = at(&park["next_at"])?;
    night.move_to(planned - SignedDuration::from_mins(5))?;
    try_eventually(SOON, "the clock", async || {
        let health = night.api.get(&path(&park, "/next?count=1")).await?;
        Ok((health.status == 200).then_some(()))
    })
    .await?;
    let registry = proxy(&night.system, Way::Registry)?;
    let gate = registry.hold(At::registry("GET", "/v2/").rule(&docker_id, "v1"));
    let save = flow::save(&night.api, &container, &json!({"tag": "v1"})).await?;
    gate.reached(JOB_LIMIT).await?;
    night.move_to(planned + SignedDuration::from_secs(1))?;
    // The run is written down first, and then why it waits.
    try_eventually(SOON, "the run that names the job it waits for", async || {
        let run = night.run(&park, planned, "waiting").await?;
        Ok(text(&run["containers"][0]["reason"]).contains(&save).then_some(()))
    })
    .await?;
    gate.open();
    registry.clear();
    night.api.wait_success(&save, JOB_LIMIT).await?;
    let run = night.run(&park, planned, "started").await?;
    night.api.wait_success(&text(&run["containers"][0]["job"]), JOB_LIMIT).await?;
    ensure!(flow::container(&night.api, &container).await?["state"] == "parked");
    ensure!(night.runs(&park).await?.len() == 1 && night.jobs().await? == 1);
    assert_clean(&night.system).await
}

/// The registry refuses: the job fails, and the container runs as before.
async fn a_park_that_fails_leaves_the_container_running(pair: Pair) -> Result<()> {
    let night = Night::begin(pair).await?;
    let (container, docker_id) = launch(&night.system, "box").await?;
    let park = night.schedule(&daily("box", "park", 20)).await?;
    let registry = proxy(&night.system, Way::Registry)?;
    registry.inject(
        Rule::on("PUT", "/manifests/"),
        Fault::answer(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
    );
    registry.inject(
        Rule::on("POST", "/blobs/uploads/"),
        Fault::answer(403, r#"{"errors":[{"code":"DENIED","message":"no"}]}"#),
    );
    let run = night.fire(&park, "started").await?;
    let job = text(&run["containers"][0]["job"]);
    let failed = night.api.wait_job(&job, JOB_LIMIT).await?;
    ensure!(failed["state"] == "failed", "{failed:#}");
    registry.clear();
    let container = flow::container(&night.api, &container).await?;
    ensure!(container["state"] == "ready" && container["docker_id"] == docker_id.as_str(), "{container:#}");
    write(&night.system, &docker_id, "goes on").await?;
    let history = &night.runs(&park).await?[0]["containers"][0];
    ensure!(history["job_state"] == "failed", "{history:#}");
    // The next evening does it.
    night.succeed(&park).await?;
    ensure!(flow::status(night.system.dockerd(), &docker_id).await? == "absent");
    Ok(())
}

/// Kept by its owner, protected, and made by somebody who may not any more: the history says so, and no job is started.
async fn what_is_kept_protected_or_no_longer_allowed_is_left_alone(pair: Pair) -> Result<()> {
    let night = Night::begin(pair).await?;
    let ann = people::member(&night.api, "lab", "ann").await?;
    let body =
        json!({"name": "box", "image": "base:latest", "flavor": "cpu-small", "labels": {"night": "off"}});
    let job = ann.post("/v1/containers", &body).await?.job_id(202)?;
    let container = text(&ann.wait_success(&job, JOB_LIMIT).await?["container"]);
    let body = json!({"labels": {"night": "off"}, "action": "park", "cron": "0 20 * * *", "timezone": "Asia/Taipei"});
    let schedule = ann.post("/v1/schedules", &body).await?.expect(201)?;
    let patch = async |body: Value| {
        ann.patch(&format!("/v1/containers/{container}"), &body).await?.expect(200)?;
        anyhow::Ok(())
    };
    patch(json!({"protected": true})).await?;
    let run = night.fire(&schedule, "left_alone").await?;
    ensure!(text(&run["containers"][0]["reason"]).contains("protected"), "{run:#}");
    let until = at(&night.now(&schedule).await?["next_at"])? + SignedDuration::from_hours(1);
    patch(json!({"protected": false, "keep_until": until})).await?;
    let run = night.fire(&schedule, "left_alone").await?;
    ensure!(text(&run["containers"][0]["reason"]).contains("kept"), "{run:#}");
    patch(json!({"labels": {}})).await?;
    let run = night.fire(&schedule, "nothing").await?;
    ensure!(text(&run["reason"]).contains("no container"), "{run:#}");

    let one =
        json!({"container": &container, "action": "park", "cron": "0 21 * * *", "timezone": "Asia/Taipei"});
    let one = ann.post("/v1/schedules", &one).await?.expect(201)?;
    night.api.delete("/v1/projects/lab/members/ann").await?.expect(200)?;
    let run = night.fire(&one, "not_run").await?;
    ensure!(text(&run["containers"][0]["reason"]).contains("ann, who made the schedule, may not"), "{run:#}");
    ensure!(night.jobs().await? == 0);
    ensure!(flow::container(&night.api, &container).await?["state"] == "ready");
    let again = people_again(&night.api).await?;
    ensure!(again == 200, "{again}");
    // Back in the project, its next evening is hers again.
    night.api.patch(&path(&one, ""), &json!({"action": "save"})).await?.expect(200)?;
    let run = night.fire(&one, "started").await?;
    let job = night.api.wait_success(&text(&run["containers"][0]["job"]), JOB_LIMIT).await?;
    ensure!(job["user"] == "ann", "{job:#}");
    Ok(())
}

async fn people_again(operator: &Api) -> Result<u16> {
    let request = operator.request(reqwest::Method::PUT, "/v1/projects/lab/members/ann");
    let answer = mothball_harness::http::send(request.json(&json!({"role": "member"}))).await?;
    Ok(answer.status)
}

/// Every `schedules` command, in words and as JSON.
async fn the_command_line_looks_ahead_and_back(pair: Pair) -> Result<()> {
    let night = Night::begin(pair).await?;
    night.system.launch("box").await?;
    let add = ["schedules", "add", "--container", "box", "--action", "save"];
    let when = ["--cron", "30 2 * * *", "--tz", "Europe/Berlin"];
    let words = night.cli(&[&add[..], &when[..]].concat()).await?;
    ensure!(words.contains("Europe/Berlin") && words.contains("30 2 * * *"), "{words}");
    let made: Value = night.system.api.cli(&["-o", "json", "schedules"]).await?.json()?;
    ensure!(made.as_array().is_some_and(|all| all.len() == 1), "{made:#}");
    let schedule = made[0].clone();
    let id = text(&schedule["id"]);

    let next = night.system.api.cli(&["-o", "json", "schedules", "next"]).await?.json()?;
    ensure!(next.as_array().is_some_and(|all| all.len() == 10), "{next:#}");
    ensure!(
        next[0]["at"] == schedule["next_at"] && text(&next[0]["local"]).contains("02:30:00 +0"),
        "{next:#}"
    );
    night.cli(&["schedules", "skip", &id]).await?;
    let after = night.system.api.cli(&["-o", "json", "schedules", "next", &id, "-n", "2"]).await?.json()?;
    ensure!(after[0] == next[1], "{after:#}");
    let skipped = night.let_come(&schedule).await?;
    night.run(&schedule, skipped, "skipped").await?;
    let moved =
        night.system.api.cli(&["-o", "json", "schedules", "postpone", &id, "--by", "90m"]).await?.json()?;
    ensure!(
        at(&moved["next_at"])?.duration_since(at(&moved["postponed_from"])?) == SignedDuration::from_mins(90)
    );
    let planned = at(&moved["postponed_from"])?;
    night.move_to(at(&moved["next_at"])? + SignedDuration::from_secs(1))?;
    let run = night.run(&schedule, planned, "started").await?;
    night.api.wait_success(&text(&run["containers"][0]["job"]), JOB_LIMIT).await?;

    let history = night.cli(&["schedules", "runs", &id]).await?;
    for word in ["PLANNED", "skipped", "started", "box", "succeeded"] {
        ensure!(history.contains(word), "{word} is not in\n{history}");
    }
    night.cli(&["schedules", "edit", &id, "--cron", "0 9 * * MON-FRI", "--missed", "skip"]).await?;
    let edited = night.now(&schedule).await?;
    ensure!(edited["cron"] == "0 9 * * MON-FRI" && edited["missed"] == "skip", "{edited:#}");
    let paused = night.cli(&["schedules", "pause", &id]).await?;
    ensure!(paused.contains("switched off"), "{paused}");
    ensure!(night.cli(&["schedules"]).await?.contains("off"));
    night.cli(&["schedules", "resume", &id]).await?;
    let shown = night.cli(&["schedules", "show", &id]).await?;
    ensure!(shown.contains("last job:") && shown.contains("box"), "{shown}");
    let preview = night.cli(&["schedules", "next", "--cron", "0 3 * * SUN", "--tz", "Asia/Taipei"]).await?;
    ensure!(preview.lines().count() == 11 && preview.contains("03:00:00 +08:00"), "{preview}");

    let refused = |outcome: &Outcome, words: &[&str]| -> Result<()> {
        ensure!(outcome.code == 2, "{outcome:?}");
        ensure!(words.iter().all(|word| outcome.stderr.contains(word)), "{outcome:?}");
        Ok(())
    };
    let wrong = |cron, zone| [&add[..], &["--cron", cron, "--tz", zone]].concat();
    refused(&night.system.api.cli(&wrong("0 0 30 2 *", "UTC")).await?, &["never fires", "hint"])?;
    refused(&night.system.api.cli(&wrong("0 20 * * *", "Taipei")).await?, &["Asia/Taipei"])?;
    let words = night.cli(&["label", "box", "team=vision", "night"]).await?;
    ensure!(words.contains("team=vision"), "{words}");
    night
        .cli(&[
            "schedules",
            "add",
            "--label",
            "team=vision",
            "--action",
            "park",
            "--cron",
            "@weekly",
            "--tz",
            "UTC",
        ])
        .await?;
    ensure!(night.cli(&["schedules"]).await?.contains("team=vision"));
    ensure!(night.cli(&["schedules", "remove", &id]).await?.contains(&id));
    let left = night.system.api.cli(&["-o", "json", "schedules"]).await?.json()?;
    ensure!(left.as_array().is_some_and(|all| all.len() == 1), "{left:#}");
    Ok(())
}
