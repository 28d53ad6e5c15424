//! Surveys: looks at containers before a save, asked for by people who wait. They have a queue and slots of their own, so that
//! no job waits for a survey and no survey for a job; they freeze nothing, hold no lease and cost no attempt.

mod direct;
mod look;
mod mounts;
mod rates;
pub(crate) mod warn;

pub(crate) use look::DISK_MARGIN_BYTES;
pub(crate) use mounts::{MountLooks, look_at_mounts};
pub(crate) use rates::Rates;

use crate::node::NodeContext;
use crate::settings::Parts;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::id::SurveyId;
use mothball_domain::survey::{Survey, SurveyOutcome};
use mothball_queue::{Delivery, Target};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Surveys at once.
const AT_ONCE: u16 = 2;
/// How often a store that does not answer is asked.
const TRIES: u32 = 4;
/// How long to wait between two tries.
const AGAIN: Duration = Duration::from_millis(200);

/// Takes surveys until `shutdown`, then answers those under way that nothing will come of them.
pub(crate) async fn run(parts: Arc<Parts>, node: Arc<NodeContext>, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(usize::from(AT_ONCE)));
    let targets = vec![Target::Survey(node.run.name.clone())];
    let mut subscription = parts.queue.subscribe(targets, AT_ONCE, shutdown.clone());
    let mut looking = JoinSet::new();
    loop {
        while let Some(ended) = looking.try_join_next() {
            report(ended);
        }
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await.ok()?;
            Some((slot, subscription.recv().await?))
        };
        let Some(Some((slot, delivery))) = shutdown.run_until_cancelled(next).await else { break };
        let Some(survey) = take(&parts, &node, delivery).await else { continue };
        let (parts, node, shutdown) = (Arc::clone(&parts), Arc::clone(&node), shutdown.clone());
        looking.spawn(async move {
            answer(&parts, &node, &survey, &shutdown).await;
            drop(slot);
        });
    }
    while let Some(ended) = looking.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = %error, "a survey's task ended by a defect");
    }
}

/// Takes the survey of a wake-up. The wake-up is settled whatever comes of it: who asked waits for seconds, not for a store that is
/// away, and asks again.
async fn take(parts: &Parts, node: &NodeContext, delivery: Delivery) -> Option<Survey> {
    let id = SurveyId(delivery.job.0);
    let taken =
        with_patience(|| parts.store.take_survey(id, &node.run.name, &node.run.instance)).await.flatten();
    if let Err(error) = delivery.ack().await {
        tracing::debug!(survey.id = %id, error = %error, "the wake-up could not be acknowledged");
    }
    taken
}

/// Looks, and writes down what was seen.
#[tracing::instrument(name = "survey", skip_all, fields(survey.id = %survey.id, container.id = %survey.container))]
async fn answer(parts: &Parts, node: &NodeContext, survey: &Survey, shutdown: &CancellationToken) {
    // Less than the caller waits: the report must be there before it gives up.
    let limit = Duration::from_millis(survey.limit_ms) * 9 / 10;
    let looked = shutdown.run_until_cancelled(timeout(limit, look::look(parts, node, survey, limit)));
    let outcome = match looked.await {
        Some(Ok(Ok(report))) => SurveyOutcome::Report(Box::new(report)),
        Some(Ok(Err(failure))) => SurveyOutcome::Failed(failure),
        Some(Err(_)) => SurveyOutcome::Failed(
            Failure::transient(
                FailureClass::Timeout,
                format!("the node could not look at the container within {} s", limit.as_secs()),
            )
            .with_hint(
                "Try again; if it happens again, ask the operator to look at Docker Engine on the node.",
            ),
        ),
        None => SurveyOutcome::Failed(
            Failure::transient(FailureClass::Engine, "the node's worker is being stopped")
                .with_hint("Try again in a moment."),
        ),
    };
    let finish = || parts.store.finish_survey(survey.id, &node.run.instance, &outcome);
    if with_patience(finish).await == Some(true) {
        tracing::debug!("looked at the container");
    }
}

/// Asks the store a few times; none when it does not answer.
async fn with_patience<T, F>(ask: impl Fn() -> F) -> Option<T>
where
    F: Future<Output = Result<T, mothball_store::StoreError>>,
{
    for _ in 0..TRIES {
        match ask().await {
            Ok(answer) => return Some(answer),
            Err(error) => tracing::warn!(error = %error, "the store does not answer a survey; trying again"),
        }
        sleep(AGAIN).await;
    }
    None
}
