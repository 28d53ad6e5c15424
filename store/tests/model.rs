//! Random histories, applied to a model that knows nothing of adapters, commits or indexes, to Redis and to SQLite:
//! all three must answer the same and look the same after every step, and be sound.
//!
//! Time is taken out: a lease, a wait or a silence is either over at once or outlasts the test.

mod apply;
mod calls;
mod ops;
mod rules;
mod rules_ending;
mod view;

use crate::world::{ADAPTERS, Ground, World};
use anyhow::{Context, Result, ensure};
use ops::Op;
use proptest::collection::vec;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use rules::Model;
use std::cell::Cell;

/// Histories of one run; a soak has many times as many.
const CASES: u32 = 16;
const SOAK_TIMES: u32 = 30;
/// Steps of one history.
const STEPS: std::ops::Range<usize> = 60..140;

#[test]
fn any_history_is_the_same_on_the_model_and_on_both_adapters() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let ground = runtime.block_on(Ground::new())?;
    let times = if std::env::var_os("MOTHBALL_SOAK").is_some() { SOAK_TIMES } else { 1 };
    let config = Config {
        cases: CASES * times,
        max_shrink_iters: 1000,
        failure_persistence: None,
        ..Config::default()
    };
    let number = Cell::new(0);
    let outcome = TestRunner::new(config).run(&vec(ops::any_op(), STEPS), |history| {
        number.set(number.get() + 1);
        let name = format!("model-{}", number.get());
        runtime
            .block_on(all_agree(&ground, &name, &history))
            .map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(TestError::Fail(why, history)) => {
            let steps: Vec<String> = history.iter().map(|op| format!("  {op:?}")).collect();
            anyhow::bail!("{why}\nthe shortest history found:\n{}", steps.join("\n"))
        }
        Err(TestError::Abort(why)) => anyhow::bail!("given up: {why}"),
    }
}

async fn all_agree(ground: &Ground, name: &str, history: &[Op]) -> Result<()> {
    let mut worlds = Vec::new();
    for adapter in ADAPTERS {
        worlds.push((adapter, ground.world(adapter, name)?));
    }
    let mut model = Model::default();
    let start = [Op::Register { node: 0 }, Op::Register { node: 1 }];
    for (step, op) in start.iter().chain(history).enumerate() {
        let id = crate::world::fresh_id();
        let call = model.call(op, id);
        if matches!(call, calls::Call::Nothing) {
            continue;
        }
        let expected = model.apply(&call);
        let steps = worlds.iter().map(async |(adapter, world)| {
            let answer = apply::apply(world, &call).await.with_context(|| format!("on {adapter}"))?;
            ensure!(answer == expected, "{adapter} answers {answer:?}, the model {expected:?}");
            looks_like(&model, world).await.with_context(|| format!("afterwards, on {adapter}"))
        });
        futures_util::future::try_join_all(steps).await.with_context(|| format!("step {step}, {call:?}"))?;
    }
    for (adapter, world) in &worlds {
        world.check_sound().await.with_context(|| format!("at the end, on {adapter}"))?;
    }
    Ok(())
}

async fn looks_like(model: &Model, world: &World) -> Result<()> {
    let seen = world.look().await?;
    let (expected, found) = (model.view(), view::of(world, &seen).await?);
    for (expected, found) in expected.iter().zip(&found) {
        ensure!(expected == found, "\n  the model has {expected}\n  the store has {found}");
    }
    ensure!(expected.len() == found.len(), "the model has {expected:#?}, the store {found:#?}");
    let due = world.store.due(10_000).await?;
    for (job, must) in model.due() {
        ensure!(due.contains(&job) == must, "{job} is {}due", if must { "not " } else { "" });
    }
    seen.check()
}
