//! `mothball serve`: the wiring. The only place that knows which roles run in this process; a role gets ready parts and a
//! token that tells it to stop.

mod admin_key;
pub(crate) mod parts;
mod signals;
mod targets;

use crate::commands::ConfigFile;
use crate::config::Settings;
use crate::context::Context;
use crate::exit::Fail;
use crate::output::say;
use clap::Args;
use mothball_api::{Metrics, ReadyCheck};
use mothball_store::{Store, StoreError};
use parts::Shared;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use targets::{Role, Target};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a store that is away is waited for before the API gives up: it may be starting beside it.
const STORE_PATIENCE: Duration = Duration::from_mins(2);
/// The longest pause between two tries.
const AGAIN_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// What this process does; may be given several times.
    #[arg(short, long, value_enum, default_value = "all")]
    target: Vec<Target>,
    #[command(flatten)]
    file: ConfigFile,
}

pub(crate) async fn run(args: ServeArgs, cx: &Context) -> Result<(), Fail> {
    let settings = args.file.load(cx)?;
    crate::telemetry::start(settings.log.format, &settings.log.filter)?;
    let roles = targets::roles(&args.target);
    targets::check(&roles, &settings)?;
    let shared = Shared::build(&settings)?;
    let shutdown = CancellationToken::new();
    let served = tokio::select! {
        served = serve(&roles, &settings, &shared, &shutdown) => served,
        () = signals::twice(&shutdown) => Err(Fail::failed("stopped at once by a second signal")),
    };
    let _ = timeout(AGAIN_MAX, shared.queue.close()).await;
    served
}

/// A role that ended: its name, and what it ended with.
type Ended = (&'static str, anyhow::Result<()>);

async fn serve(
    roles: &BTreeSet<Role>,
    settings: &Settings,
    shared: &Shared,
    shutdown: &CancellationToken,
) -> Result<(), Fail> {
    let mut tasks: JoinSet<Ended> = JoinSet::new();
    let (worker_ready, worker_is_ready) = watch::channel(false);
    let mut ready = Vec::new();
    if roles.contains(&Role::Worker) {
        ready.push(ReadyCheck { name: "worker".to_owned(), ready: worker_is_ready.clone() });
    }
    let metrics =
        Metrics::new(&shared.metrics).map_err(|e| Fail::failed(format!("register metrics: {e}")))?;
    let api = parts::api(settings, shared, Arc::new(metrics), ready);

    // Listeners first: a port that is taken is found before anything else is begun.
    let listener =
        if roles.contains(&Role::Api) { Some(bind("api.listen", &settings.api.listen).await?) } else { None };
    if let Some(listen) = &settings.telemetry.listen {
        let listener = bind("telemetry.listen", listen).await?;
        let router = mothball_api::health_router(api.clone(), shutdown.clone());
        let stop = shutdown.clone().cancelled_owned();
        tasks.spawn(async move {
            (
                "telemetry",
                axum::serve(listener, router).with_graceful_shutdown(stop).await.map_err(Into::into),
            )
        });
    }
    if roles.contains(&Role::Scheduler) {
        let (parts, stop) = (parts::scheduler(settings, shared)?, shutdown.clone());
        tasks.spawn(async move {
            Box::pin(mothball_scheduler::run(parts, stop)).await;
            ("scheduler", Ok(()))
        });
    }
    if roles.contains(&Role::Worker) {
        let (parts, stop) = (parts::worker(settings, shared, worker_ready)?, shutdown.clone());
        // On the heap: the state of a whole worker is large.
        let worker = Box::pin(mothball_worker::run(parts, stop));
        tasks.spawn(async move { ("worker", worker.await.map_err(Into::into)) });
    }
    let announced = match listener {
        Some(listener) => {
            let address =
                listener.local_addr().map_err(|e| Fail::failed(format!("ask for the address: {e}")))?;
            let key = admin_key::of(settings)?;
            bootstrap(&shared.store, &key, shutdown).await?;
            let (parts, stop) = (api, shutdown.clone());
            tasks.spawn(async move {
                ("api", mothball_api::serve(listener, parts, stop).await.map_err(Into::into))
            });
            format!("listening on http://{address}")
        }
        None => "ready".to_owned(),
    };
    let waits = !roles.contains(&Role::Api) && roles.contains(&Role::Worker);
    announce(announced, waits.then_some(worker_is_ready), &mut tasks, shutdown).await?;
    until_ended(tasks, settings.shutdown_grace.0, shutdown).await
}

/// Says on standard output that this process is ready; where it is a worker alone, once that has registered its node.
async fn announce(
    line: String,
    worker: Option<watch::Receiver<bool>>,
    tasks: &mut JoinSet<Ended>,
    shutdown: &CancellationToken,
) -> Result<(), Fail> {
    if let Some(mut worker) = worker {
        tokio::select! {
            seen = worker.wait_for(|ready| *ready) => drop(seen),
            () = shutdown.cancelled() => return Ok(()),
            Some(ended) = tasks.join_next() => return early(ended).map_or(Ok(()), Err),
        }
    }
    if !shutdown.is_cancelled() {
        tracing::info!("{line}");
        say(line);
    }
    Ok(())
}

/// Waits until every role has ended. One that ends by itself takes the others with it, in order.
async fn until_ended(
    mut tasks: JoinSet<Ended>,
    grace: Duration,
    shutdown: &CancellationToken,
) -> Result<(), Fail> {
    let mut failed = None;
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => {}
            ended = tasks.join_next() => {
                failed = ended.and_then(early);
                shutdown.cancel();
            }
        }
    }
    let stopping = Instant::now();
    loop {
        match timeout(grace.saturating_sub(stopping.elapsed()), tasks.join_next()).await {
            Ok(None) => break,
            Ok(Some(ended)) => failed = failed.or(early(ended)),
            Err(_) => {
                tracing::error!(
                    left = tasks.len(),
                    "roles did not end within shutdown_grace and are cut off"
                );
                return Err(failed.unwrap_or_else(|| Fail::failed("not everything could be stopped in time")));
            }
        }
    }
    tracing::info!(duration_ms = stopping.elapsed().as_millis() as u64, "stopped");
    failed.map_or(Ok(()), Err)
}

/// Why a role ended, if it did not end well.
fn early(ended: Result<Ended, tokio::task::JoinError>) -> Option<Fail> {
    match ended {
        Ok((_, Ok(()))) => None,
        Ok((role, Err(error))) => {
            let error = error.context(role);
            tracing::error!("{error:#}");
            Some(Fail::failed(format!("{error:#}")))
        }
        Err(error) => {
            tracing::error!(%error, "a role broke");
            Some(Fail::failed(format!("a role broke: {error}")))
        }
    }
}

async fn bind(key: &str, listen: &str) -> Result<TcpListener, Fail> {
    TcpListener::bind(listen).await.map_err(|e| {
        Fail::failed(format!("cannot listen on {listen}: {e}"))
            .hint(format!("set {key} to another HOST:PORT; port 0 takes any"))
    })
}

/// Makes the first records, waiting for a store that is away.
async fn bootstrap(
    store: &Store,
    key: &admin_key::AdminKey,
    shutdown: &CancellationToken,
) -> Result<(), Fail> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(200);
    loop {
        // The store's own words come first: a rule that refuses is not worth a second try.
        match store.now().await {
            Ok(_) => break,
            Err(error @ StoreError::Unavailable(_)) if begun.elapsed() < STORE_PATIENCE => {
                tracing::warn!(%error, "the store does not answer; waiting for it");
            }
            Err(error) => {
                return Err(Fail::failed(error.to_string()).hint("check store.url, and `mothball doctor`"));
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = sleep(pause) => pause = (pause * 2).min(AGAIN_MAX),
        }
    }
    let made = mothball_api::bootstrap(store, &key.sha256()).await;
    made.map_err(|e| Fail::failed(format!("make the first user and project: {e}")))
}
