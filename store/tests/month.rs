//! A month of a thousand containers is reported in one pass: the index is asked once, each sheet read once.

use crate::world::*;
use anyhow::{Context, Result, ensure};
use futures_util::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use mothball_domain::billing::{Cut, Span, Usage, report};
use mothball_store::{AdoptedContainer, LedgerQuery, Observed};
use std::collections::BTreeMap;
use std::time::Instant;

const CONTAINERS: usize = 1000;
const ON_A_NODE: usize = 20;
/// Times each is lost and found again, which makes as many stretches more.
const GAPS: usize = 3;

/// A container of its own on some node.
fn adopted(number: usize) -> AdoptedContainer {
    let node = format!("n{}", number / ON_A_NODE);
    AdoptedContainer {
        name: container_name(&format!("box{number}")),
        project: project(&format!("p{}", number % 7)),
        user: user(&format!("u{}", number % 31)),
        launch: launch_with(0),
        image_name: image_name("base"),
        node: node_name(&node),
        node_uid: node,
        docker_id: format!("d{number}"),
        gpus: Vec::new(),
        ports: Vec::new(),
        running: true,
    }
}

async fn live(w: &World, number: usize) -> Result<()> {
    let adopted = adopted(number);
    let container = w.store.adopt(&adopted).await?.map_err(|id| anyhow::anyhow!("{id} is in the way"))?;
    for _ in 0..GAPS {
        for running in [None, Some(true)] {
            let docker_id = adopted.docker_id.clone();
            let seen = Observed { id: container.id, docker_id, running, writable_bytes: None };
            w.store.observe(&adopted.node_uid, &seen).await?;
        }
    }
    Ok(())
}

async fn a_month_is_one_pass(adapter: &str) -> Result<()> {
    let ground = Ground::new().await?;
    let world = ground.world(adapter, "month")?;
    futures_util::stream::iter(0..CONTAINERS)
        .map(|number| live(&world, number))
        .buffer_unordered(32)
        .try_collect::<Vec<()>>()
        .await?;

    let asked = world.calls().await?;
    let begun = Instant::now();
    let query = LedgerQuery { project: None, user: None, since: Timestamp::UNIX_EPOCH };
    let ledger = world.store.ledger(&query).await?;
    let read_ms = begun.elapsed().as_millis();
    let span = Span { from: Timestamp::UNIX_EPOCH, to: Timestamp::MAX };
    let cut = Cut { container: true, user: true, project: true, flavor: true, days_of: None };
    let rows = report(&ledger.sheets, span, ledger.now, &cut);
    let all_ms = begun.elapsed().as_millis();
    let calls: BTreeMap<String, u64> = world
        .calls()
        .await?
        .into_iter()
        .map(|(name, count)| (name.clone(), count - asked.get(&name).unwrap_or(&0)))
        .collect();

    ensure!(rows.len() == CONTAINERS && ledger.sheets.len() == CONTAINERS, "{} rows", rows.len());
    ensure!(ledger.sheets.iter().map(|sheet| sheet.lines.len()).sum::<usize>() == (GAPS + 1) * CONTAINERS);
    if adapter == "redis" {
        // What the server itself counts.
        let expected = [("evalsha", 1), ("zrange", 1)].map(|(name, count)| (name.to_owned(), count));
        let reads: BTreeMap<String, u64> = calls
            .into_iter()
            .filter(|(name, count)| *count > 0 && ["evalsha", "zrange"].contains(&name.as_str()))
            .collect();
        ensure!(reads == expected.into(), "{reads:?}");
    }
    let whole: Usage = rows.into_values().sum();
    ensure!(whole == report(&ledger.sheets, span, ledger.now, &Cut { ..Cut::default() }).into_values().sum());
    #[expect(clippy::print_stderr, reason = "a figure for people, which no machine is asked to reach")]
    {
        eprintln!("{adapter}: {} sheets read in {read_ms} ms, reported in {all_ms} ms", ledger.sheets.len());
    }
    Ok(())
}

impl World {
    /// How often each command has been called, as Redis counts them; nothing where the store is a file.
    async fn calls(&self) -> Result<BTreeMap<String, u64>> {
        let Some(redis) = self.redis() else { return Ok(BTreeMap::new()) };
        let text = redis.cli(&["--raw", "INFO", "commandstats"]).await?;
        let line = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let (count, _) = rest.split_once(',')?;
            Some(count.parse().map(|count| (name.to_owned(), count)))
        };
        text.lines().filter_map(line).collect::<Result<_, _>>().context("read the server's counts")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_a_thousand_containers_is_one_pass_on_redis() -> Result<()> {
    a_month_is_one_pass("redis").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_a_thousand_containers_is_one_pass_on_embedded() -> Result<()> {
    a_month_is_one_pass("embedded").await
}
