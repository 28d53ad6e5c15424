//! From settings to ready parts.

use crate::config::{GpuRequest, Gpus, Settings, SmtpTls, Snapshot};
use crate::exit::Fail;
use mothball_api::{Limits, ReadyCheck};
use mothball_domain::container::MountRule;
use mothball_domain::name::NodeName;
use mothball_domain::notice::delivery::DeliveryRetry;
use mothball_domain::notice::reach::Reach;
use mothball_domain::notice::words;
use mothball_domain::policy::PolicyBounds;
use mothball_domain::retention::RetentionBounds;
use mothball_domain::retry::RetryPolicy;
use mothball_image::survey::SecretRules;
use mothball_image::{Credentials, Registry, RegistrySettings};
use mothball_queue::{Queue, RabbitMqSettings};
use mothball_scheduler::{Mailer, NotifySettings, Senders, SmtpSettings, WebhookSender};
use mothball_store::{RedisSettings, Store};
use mothball_worker::docker::{self, Engine, EngineLimits};
use mothball_worker::gpus::GpuInventory;
use mothball_worker::guard::GuardCommand;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The product's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What several roles share.
pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) queue: Queue,
    pub(crate) metrics: prometheus::Registry,
}

impl Shared {
    /// Opens the store and the queue. Only the embedded store does anything yet; servers are reached when needed.
    pub(crate) fn build(settings: &Settings) -> Result<Self, Fail> {
        let metrics = prometheus::Registry::new();
        let jobs = mothball_store::JobMetrics::register(&metrics).map_err(|e| metrics_failed(&e))?;
        Ok(Self { store: store(settings)?.with_metrics(Arc::new(jobs)), queue: queue(settings)?, metrics })
    }
}

pub(crate) fn store(settings: &Settings) -> Result<Store, Fail> {
    let opened = if settings.store.url.is("embedded") {
        Store::embedded(&settings.data_dir.join("store.db"))
    } else {
        Store::redis(RedisSettings {
            url: settings.store.url.0.clone(),
            prefix: settings.store.prefix.clone(),
            timeout: settings.store.timeout.0,
        })
    };
    opened.map_err(|e| Fail::failed(e.to_string()))
}

pub(crate) fn queue(settings: &Settings) -> Result<Queue, Fail> {
    if settings.queue.url.is("local") {
        return Ok(Queue::local());
    }
    let rabbitmq = RabbitMqSettings {
        prefix: settings.queue.prefix.clone(),
        publish_timeout: settings.queue.publish_timeout.0,
        connect_timeout: settings.queue.connect_timeout.0,
        queue_len_max: settings.queue.len_max,
        ..RabbitMqSettings::new(settings.queue.url.0.clone())
    };
    rabbitmq.check().map_err(|e| Fail::usage(e.to_string()).hint(e.hint()))?;
    Ok(Queue::rabbitmq(rabbitmq))
}

pub(crate) fn registry(settings: &Settings) -> Result<Registry, Fail> {
    let s = &settings.registry;
    let credentials = match (&s.username, &s.password_file) {
        (Some(username), Some(password_file)) => {
            Credentials::File { username: username.clone(), password_file: password_file.clone() }
        }
        _ => Credentials::Anonymous,
    };
    let registry = RegistrySettings {
        timeout: s.timeout.0,
        connect_timeout: s.connect_timeout.0,
        stall_timeout: s.stall_timeout.0,
        finish_timeout: s.finish_timeout.0,
        ca_file: s.ca_file.clone(),
        ..RegistrySettings::new(s.url.clone(), credentials)
    };
    Registry::new(registry).map_err(|e| Fail::usage(format!("registry: {e}")))
}

pub(crate) fn engine(settings: &Settings) -> Result<Engine, Fail> {
    let limits = EngineLimits { stream_idle: settings.worker.stall_timeout.0, ..EngineLimits::default() };
    Engine::connect(&settings.worker.docker_host, limits).map_err(|e| {
        Fail::usage(format!("worker.docker_host: {e}"))
            .hint("write unix:///path/docker.sock or tcp://HOST:PORT")
    })
}

pub(crate) fn node(settings: &Settings) -> Result<NodeName, Fail> {
    let name = settings.worker.node.clone().unwrap_or_default();
    NodeName::new(name).map_err(|e| Fail::usage(format!("worker.node: {e}")))
}

pub(crate) fn gpus(settings: &Settings) -> GpuInventory {
    match settings.worker.gpus {
        Gpus::Auto => GpuInventory::Auto,
        Gpus::Fixed(count) => GpuInventory::Fixed(count),
    }
}

/// Two looks may be late; a worker that is silent for longer is no proof of idleness.
fn seen_within(settings: &Settings) -> Duration {
    settings.worker.usage_interval.0 * 3
}

pub(super) fn api(
    settings: &Settings,
    shared: &Shared,
    metrics: Arc<mothball_api::Metrics>,
    ready: Vec<ReadyCheck>,
) -> mothball_api::Parts {
    let catalog = settings.catalog.iter().map(|c| mothball_api::CatalogEntry {
        name: c.name.clone(),
        image: c.image.clone(),
        kind: c.kind.clone(),
    });
    let api = mothball_api::Settings {
        currency: settings.currency.clone(),
        catalog: catalog.collect(),
        flavors: settings.flavors.clone(),
        mounts: mounts(settings),
        max_attempts: settings.jobs.max_attempts,
        alive_within: settings.worker.alive_within.0,
        seen_within: seen_within(settings),
        policy_bounds: PolicyBounds {
            grace_seconds_min: settings.policies.grace_min.0.as_secs(),
            grace_seconds_max: settings.policies.grace_max.0.as_secs(),
            lifetime_seconds_min: settings.policies.lifetime_min.0.as_secs(),
            idle_seconds_min: settings.policies.idle_min.0.as_secs(),
        },
        reach: reach(settings),
        retention_bounds: RetentionBounds {
            keep_last_min: settings.retention.keep_last_min,
            unused_days_min: settings.retention.unused_days_min,
        },
        notice: settings.retention.notice.0,
        undo: settings.retention.undo.0,
        support_contact: settings.support_contact.clone(),
        health: settings.telemetry.listen.is_none(),
        limits: Limits {
            body_bytes: settings.api.body_max.0 as usize,
            rate_per_second: settings.api.rate_per_second,
            rate_burst: settings.api.rate_burst,
            request_timeout: settings.api.request_timeout.0,
            survey_timeout: settings.api.survey_timeout.0,
            streams: settings.api.streams as usize,
            streams_per_user: settings.api.streams_per_user as usize,
            ..Limits::default()
        },
    };
    mothball_api::Parts {
        store: shared.store.clone(),
        queue: shared.queue.clone(),
        settings: Arc::new(api),
        metrics,
        ready,
        version: VERSION.to_owned(),
    }
}

pub(super) fn scheduler(settings: &Settings, shared: &Shared) -> Result<mothball_scheduler::Parts, Fail> {
    let metrics = mothball_scheduler::Metrics::register(&shared.metrics).map_err(|e| metrics_failed(&e))?;
    Ok(mothball_scheduler::Parts {
        store: shared.store.clone(),
        queue: shared.queue.clone(),
        metrics: Arc::new(metrics),
        settings: mothball_scheduler::Settings {
            tick: settings.scheduler.tick.0,
            alive_within: settings.worker.alive_within.0,
            gone_after: settings.jobs.gone_after.0,
            max_attempts: settings.jobs.max_attempts,
            flavors: settings.flavors.clone(),
            reserved_images: settings.catalog.iter().map(|c| with_tag(&c.name)).collect(),
            policy_tick: settings.policies.tick.0,
            seen_within: seen_within(settings),
            retention_tick: settings.retention.tick.0,
            notice: settings.retention.notice.0,
            undo: settings.retention.undo.0,
            keep_jobs_for: settings.jobs.keep_for.0,
            keep_audit_for: settings.jobs.audit_keep_for.0,
            keep_ledger_for: settings.billing.keep_for.0,
            notify: notify(settings),
        },
        senders: senders(settings)?,
    })
}

fn reach(settings: &Settings) -> Reach {
    Reach { allowed: settings.notifications.allow_networks.clone() }
}

fn notify(settings: &Settings) -> NotifySettings {
    let n = &settings.notifications;
    let public_url = settings.api.public_url.as_ref().map(|url| url.trim_end_matches('/').to_owned());
    NotifySettings {
        setting: words::Setting { currency: settings.currency.clone(), public_url },
        timeout: n.timeout.0,
        retry: DeliveryRetry { max: n.max_attempts, first: n.retry_first.0 },
        keep_for: n.keep_for.0,
    }
}

fn senders(settings: &Settings) -> Result<Senders, Fail> {
    let webhooks = WebhookSender::new(reach(settings), settings.notifications.timeout.0, VERSION)
        .map_err(|e| Fail::failed(e.to_string()))?;
    Ok(Senders { webhooks: Arc::new(webhooks), mail: mailer(settings)?.map(Arc::new) })
}

/// What sends mail; none where there is no mail server.
pub(crate) fn mailer(settings: &Settings) -> Result<Option<Mailer>, Fail> {
    let smtp = &settings.notifications.smtp;
    let Some(host) = smtp.host.clone().filter(|host| !host.is_empty()) else { return Ok(None) };
    let mailer = Mailer::new(SmtpSettings {
        host,
        port: smtp.port,
        tls: match smtp.tls {
            SmtpTls::Starttls => mothball_scheduler::SmtpTls::Starttls,
            SmtpTls::Tls => mothball_scheduler::SmtpTls::Tls,
            SmtpTls::None => mothball_scheduler::SmtpTls::None,
        },
        login: smtp.username.clone().zip(smtp.password_file.clone()),
        from: smtp.from.clone(),
        timeout: settings.notifications.timeout.0,
    });
    mailer.map(Some).map_err(|e| Fail::usage(e.to_string()).hint("write \"Mothball <mothball@example.org>\""))
}

pub(super) fn worker(
    settings: &Settings,
    shared: &Shared,
    ready: watch::Sender<bool>,
) -> Result<mothball_worker::Parts, Fail> {
    let w = &settings.worker;
    let metrics = mothball_worker::Metrics::register(&shared.metrics).map_err(|e| metrics_failed(&e))?;
    let state_dir = w.state_dir.clone().unwrap_or_else(|| settings.data_dir.join("worker"));
    Ok(mothball_worker::Parts {
        store: shared.store.clone(),
        queue: shared.queue.clone(),
        engine: engine(settings)?,
        registry: registry(settings)?,
        guard: GuardCommand::own(),
        metrics: Arc::new(metrics),
        ready,
        settings: mothball_worker::Settings {
            node: node(settings)?,
            docker_host: w.docker_host.clone(),
            state_dir: std::path::absolute(&state_dir).unwrap_or(state_dir),
            concurrency: w.concurrency,
            gpus: gpus(settings),
            gpu_request: match w.gpu_request {
                GpuRequest::Nvidia => docker::GpuRequest::Nvidia,
                GpuRequest::None => docker::GpuRequest::None,
            },
            snapshot: match w.snapshot {
                Snapshot::Auto => mothball_worker::SnapshotMode::Auto,
                Snapshot::Direct => mothball_worker::SnapshotMode::Direct,
                Snapshot::Engine => mothball_worker::SnapshotMode::Engine,
            },
            publish_address: w.publish_address.clone(),
            network: w.network.clone(),
            lease: settings.jobs.lease.0,
            retry: RetryPolicy {
                max_attempts: settings.jobs.max_attempts,
                first: settings.jobs.retry_first.0,
                max: settings.jobs.retry_max.0,
            },
            heartbeat: w.heartbeat.0,
            usage_interval: w.usage_interval.0,
            stop_grace: w.stop_grace.0,
            mounts: mounts(settings),
            secrets: SecretRules::new(&w.secret_files, &w.secret_files_ignored)
                .map_err(|e| Fail::usage(format!("worker.secret_files: {e}")))?,
            frozen_max: w.frozen_max.0,
            currency: settings.currency.clone(),
            storage_price: settings.billing.storage_price_per_gb_month,
            undo: settings.retention.undo.0,
            version: VERSION.to_owned(),
        },
    })
}

fn mounts(settings: &Settings) -> Vec<MountRule> {
    let rules = settings.mounts.iter();
    rules.map(|m| MountRule { target: m.target.clone(), source: m.source.clone() }).collect()
}

/// A catalogue entry's name with its tag; the tag that stands for none is `latest`.
fn with_tag(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

fn metrics_failed(error: &prometheus::Error) -> Fail {
    Fail::failed(format!("register metrics: {error}"))
}
