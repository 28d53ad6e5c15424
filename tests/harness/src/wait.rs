//! Waiting on a predicate with a deadline: the one place of the tests where a timer may tick.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often predicates are looked at.
pub const TICK: Duration = Duration::from_millis(20);

/// Asks until the answer is `Some`, or fails at the deadline with what was waited for.
///
/// Level-triggered: it looks at the state of the world and cannot miss a change that came early.
pub async fn eventually<T, F>(limit: Duration, what: &str, mut ask: F) -> Result<T>
where
    F: AsyncFnMut() -> Option<T>,
{
    try_eventually(limit, what, async || Ok(ask().await)).await
}

/// Like [`eventually`], for questions that can find out that the answer will never come: an error ends the wait.
pub async fn try_eventually<T, F>(limit: Duration, what: &str, mut ask: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        // A question that hangs must not outlast the deadline either.
        let left = deadline.saturating_duration_since(Instant::now());
        if let Ok(answer) = tokio::time::timeout(left.max(TICK), ask()).await
            && let Some(value) = answer?
        {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} in vain for {what}");
        }
        tokio::time::sleep(TICK).await;
    }
}
