//! The bill, from outside: by the second from `ready` until the container is gone, at the price of its launch, through parks,
//! wakes, deletions and crashes; what parking saves; the same money in every cut, in words, as JSON, as CSV and as metrics.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::{Api, send};
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::try_eventually;
use mothball_tests::{flow, people};
use reqwest::Method;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use crate::faults::{self, At, Way, assert_clean, give_up, proxy};

mothball_tests::on_both_pairs!(the_bill_is_right_to_the_last_decimal, the_bill_survives_crashes);

/// Prices at which a second costs 0.05 and something that does not end.
const PRICES: &str = "
[[flavors]]
name = \"cpu-small\"
gpus = 0
cpus = 1
memory = \"256MiB\"
price_per_hour = \"180\"
[[flavors]]
name = \"c.super\"
gpus = 0
cpus = 1
memory = \"256MiB\"
price_per_hour = \"58\"
[billing]
storage_price_per_gb_month = \"1000000\"
";

fn options(pair: Pair) -> Options {
    faults::options(pair).configuration(PRICES)
}

fn decimal(value: &Value) -> Result<Decimal> {
    let text = value.as_str().with_context(|| format!("a decimal is not text: {value}"))?;
    text.parse().with_context(|| format!("{text} is no decimal"))
}

async fn costs(api: &Api, query: &str) -> Result<Value> {
    api.get(&format!("/v1/costs?{query}")).await?.expect(200)
}

/// The row of a container.
async fn row(api: &Api, container: &str) -> Result<Value> {
    let report = costs(api, "by=container").await?;
    let rows = report["items"].as_array().context("rows")?;
    let found = rows.iter().find(|row| flow::text(&row["container"]) == container);
    found.cloned().with_context(|| format!("no row for {container} in {report:#}"))
}

async fn seconds(api: &Api, container: &str) -> Result<Decimal> {
    decimal(&row(api, container).await?["seconds"])
}

async fn the_bill_is_right_to_the_last_decimal(pair: Pair) -> Result<()> {
    let system = options(pair).start().await?;
    let operator = system.operator()?;
    let alice = people::member(&operator, "lab", "alice").await?;
    let bob = people::member(&operator, "lab", "bob").await?;

    let launched = Instant::now();
    let parked = flow::launch(&alice, "night", BASE).await?;
    let ready = Instant::now();
    let gone = flow::launch_as(&bob, &json!({"name": "gone", "image": BASE, "flavor": "c.super"})).await?;
    let job = bob.delete(&format!("/v1/containers/{}", gone.id)).await?.job_id(202)?;
    bob.wait_success(&job, JOB_LIMIT).await?;

    a_park_says_what_it_saves(&alice, &parked.id).await?;
    // While it is parked its bill stands still, and what is saved grows.
    let (before, first) = (row(&alice, &parked.id).await?, Instant::now());
    try_eventually(JOB_LIMIT, "the parked container to save", async || {
        let now = row(&alice, &parked.id).await?;
        ensure!(now["cost"] == before["cost"] && now["seconds"] == before["seconds"], "{before:#} {now:#}");
        Ok((first.elapsed() > Duration::from_secs(2)
            && decimal(&now["parked_seconds"])? > decimal(&before["parked_seconds"])? + Decimal::ONE)
            .then_some(()))
    })
    .await?;
    let billed = decimal(&before["seconds"])?;
    let longest = Decimal::from(launched.elapsed().as_secs() + 1);
    ensure!(billed > Decimal::ZERO && billed < longest, "{billed} s in {longest} s");
    ensure!(ready.elapsed() > Duration::from_secs(2));
    let job = alice.post(&format!("/v1/containers/{}/wake", parked.id), &json!({})).await?.job_id(202)?;
    alice.wait_success(&job, JOB_LIMIT).await?;
    let saved = row(&alice, &parked.id).await?["avoided"].clone();
    let job = alice.delete(&format!("/v1/containers/{}", parked.id)).await?.job_id(202)?;
    alice.wait_success(&job, JOB_LIMIT).await?;

    // All is over: every number is final, deleted as the containers are.
    let over = row(&alice, &parked.id).await?;
    ensure!(over["avoided"] == saved && decimal(&over["seconds"])? > billed, "{over:#}");
    ensure!(row(&alice, &parked.id).await? == over, "what is over still costs");
    exact(&operator, &over, "180").await?;
    exact(&operator, &row(&bob, &gone.id).await?, "58").await?;
    every_cut_is_the_whole(&operator).await?;
    seen_by_whom_it_should(&system, &operator, &alice, &bob).await?;
    assert_clean(&system).await
}

async fn a_park_says_what_it_saves(alice: &Api, container: &str) -> Result<()> {
    let job = alice.post(&format!("/v1/containers/{container}/park"), &json!({})).await?.job_id(202)?;
    let job = alice.wait_success(&job, JOB_LIMIT).await?;
    let notes = flow::notes(&job);
    ensure!(notes.contains("Parked: saves 180.00 TWD per hour; its image costs "), "{notes}");
    // The image's bytes at a million a gigabyte-month, for a day.
    let bytes = Decimal::from(job["size_bytes"].as_u64().context("a size")?);
    let a_day = bytes * Decimal::from(24) / Decimal::from(1000 * 730);
    let said =
        notes.split("its image costs ").nth(1).and_then(|rest| rest.split(' ').next()).context("a price")?;
    ensure!((said.parse::<Decimal>()? - a_day).abs() <= Decimal::new(5, 3), "{said} for {bytes} bytes");
    let shown = flow::container(alice, container).await?;
    ensure!(shown["state"] == "parked" && shown["cost"]["per_hour"] == "180", "{shown:#}");
    let an_hour = bytes / Decimal::from(1000 * 730);
    let off = (decimal(&shown["cost"]["now_per_hour"])? - an_hour).abs();
    ensure!(off < Decimal::new(1, 15), "{shown:#}");
    Ok(())
}

/// A row of one container is its seconds x price / 3600, and the whole of what was saved less the storage.
async fn exact(operator: &Api, row: &Value, price: &str) -> Result<()> {
    let price: Decimal = price.parse()?;
    let cost = (decimal(&row["seconds"])? * price / Decimal::from(3600)).normalize();
    ensure!(decimal(&row["cost"])? == cost, "{row:#} is not {cost}");
    let gross = decimal(&row["parked_seconds"])? * price / Decimal::from(3600);
    let off = (decimal(&row["avoided"])? + decimal(&row["storage_cost"])? - gross).abs();
    ensure!(off < Decimal::new(1, 20), "{row:#} saved {gross}");
    // The container's own page says the same.
    let shown = flow::container(operator, &flow::text(&row["container"])).await?;
    ensure!(shown["state"] == "deleted" && shown["cost"]["so_far"] == row["cost"], "{shown:#} {row:#}");
    Ok(())
}

async fn every_cut_is_the_whole(operator: &Api) -> Result<()> {
    let total = costs(operator, "by=project").await?["total"].clone();
    for by in ["container", "user", "project", "flavor", "day", "user,day", "container,flavor,day"] {
        for zone in ["UTC", "Asia/Taipei", "America/New_York"] {
            let report = costs(operator, &format!("by={by}&tz={zone}")).await?;
            // A month of another zone may begin while this runs.
            if report["total"] != total {
                ensure!(zone != "UTC", "the whole by {by} is {report:#}, not {total:#}");
                continue;
            }
            for (field, off) in
                [("seconds", 0), ("parked_seconds", 0), ("cost", 1), ("avoided", 1), ("storage_cost", 1)]
            {
                let rows = report["items"].as_array().context("rows")?;
                let sum: Decimal = rows.iter().map(|row| decimal(&row[field])).sum::<Result<_>>()?;
                let apart = (sum - decimal(&total[field])?).abs();
                ensure!(apart <= Decimal::new(off, 20), "{field} by {by} in {zone} is {apart} apart");
            }
        }
    }
    Ok(())
}

async fn seen_by_whom_it_should(system: &System, operator: &Api, alice: &Api, bob: &Api) -> Result<()> {
    let names = async |api: &Api| {
        let rows = costs(api, "by=user").await?["items"].clone();
        let users = rows.as_array().into_iter().flatten().map(|row| flow::text(&row["user"]));
        anyhow::Ok(users.collect::<Vec<_>>())
    };
    ensure!(names(alice).await? == ["alice"] && names(bob).await? == ["bob"]);
    ensure!(names(operator).await? == ["alice", "bob"]);
    assert_eq!(alice.get("/v1/costs?user=bob").await?.status, 403);

    let text = system.api.cli(&["cost", "--by", "user,flavor"]).await?.success()?;
    for word in ["USER", "FLAVOR", "BILLED", "SAVED", "alice", "c.super", "total", "TWD", "days in UTC"] {
        ensure!(text.contains(word), "{word} is not in\n{text}");
    }
    let rows = system.api.cli(&["cost", "--by", "user", "-o", "json"]).await?.json()?;
    ensure!(rows == costs(operator, "by=user").await?["items"], "{rows:#}");
    let csv = system.api.cli(&["cost", "--csv"]).await?.success()?;
    let over_http = send(operator.request(Method::GET, "/v1/costs").header("accept", "text/csv")).await?;
    ensure!(csv.trim_end() == std::str::from_utf8(&over_http.body)?.trim_end(), "{csv}");
    ensure!(csv.starts_with("BilledCost,BillingAccountId,") && csv.contains(",x_AvoidedCost,"), "{csv}");
    ensure!(csv.contains("Images of parked containers") && csv.contains(",Hours,"), "{csv}");
    let refused = system.api.cli(&["cost", "--from", "sometime"]).await?;
    ensure!(refused.code == 2 && refused.stderr.contains("from is a day"), "{}", refused.stderr);

    let metrics = |api: Api| async move {
        let body = send(api.request(Method::GET, "/metrics")).await?.body;
        anyhow::Ok(String::from_utf8(body.to_vec())?)
    };
    let total = decimal(&costs(operator, "by=project&project=lab").await?["total"]["cost"])?;
    let shown = metrics(operator.clone()).await?;
    let line = shown.lines().find_map(|line| line.strip_prefix("mothball_cost_total{project=\"lab\"} "));
    let off = (line.context("no money in the metrics")?.parse::<Decimal>()? - total).abs();
    ensure!(off < Decimal::new(1, 6), "{line:?} is not {total}");
    ensure!(shown.contains("mothball_cost_avoided_total{project=\"lab\"}"), "{shown}");
    ensure!(!metrics(operator.without_key()).await?.contains("mothball_cost_"), "money for everybody");
    Ok(())
}

/// Everything dies and comes back while a container runs, and again when it has just been removed: the bill goes on from the
/// same moment, and ends once.
async fn the_bill_survives_crashes(pair: Pair) -> Result<()> {
    let mut system = options(pair).start().await?;
    let api = system.operator()?;
    let (container, docker_id) = faults::launch(&system, "box").await?;
    let began = Instant::now();
    let before = seconds(&api, &container).await?;

    system.worker().kill9();
    system.scheduler().kill9();
    system.api.kill9();
    system.api.start_again().await?;
    if pair == Pair::Servers {
        system.scheduler().start_again().await?;
        system.worker().start_again().await?;
    }
    system.api.wait_able().await?;
    let api = system.operator()?;
    let elapsed = began.elapsed();
    let after = seconds(&api, &container).await?;
    let grown = after - before;
    let least = Decimal::from(elapsed.as_millis() as u64) / Decimal::from(1000) - Decimal::ONE;
    ensure!(grown >= least, "it was billed {grown} s of {elapsed:?}");

    // Removed, and nobody has heard of it.
    let socket = proxy(&system, Way::Docker)?;
    let gate = socket.hold_answer(At::docker("DELETE", "/containers/{id}").rule(&docker_id, ""));
    let job = api.post(&format!("/v1/containers/{container}/park"), &json!({})).await?.job_id(202)?;
    gate.reached(faults::SOON).await?;
    let removed = seconds(&api, &container).await?;
    system.worker().kill9();
    give_up(proxy(&system, Way::Docker)?, &gate);
    system.worker().start_again().await?;
    system.api.wait_able().await?;
    let api = system.operator()?;
    let job = api.wait_success(&job, JOB_LIMIT).await?;
    ensure!(flow::notes(&job).matches("Parked: saves").count() == 1, "{}", flow::notes(&job));
    let over = row(&api, &container).await?;
    ensure!(decimal(&over["seconds"])? >= removed, "{over:#} {removed}");
    ensure!(row(&api, &container).await?["cost"] == over["cost"], "it is billed on");
    let parts = costs(&api, "by=container,flavor,day").await?;
    ensure!(parts["total"]["cost"] == over["cost"], "{parts:#}");
    assert_clean(&system).await
}
