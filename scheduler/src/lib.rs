//! The scheduler role: time. One loop attends to jobs that are due, one fires schedules, one does what policies about
//! containers say, two let images go, one tells people of what happened, one keeps history from growing for ever. Any number
//! of schedulers may run: the store decides, and each decision is safe to be asked for twice. Whoever keeps time itself goes
//! [`once`].

mod attend;
mod history;
mod metrics;
mod notify;
mod once;
mod policies;
mod purges;
mod retention;
mod rounds;
mod schedules;

pub use metrics::Metrics;
pub use notify::{
    MailError, Mailer, NotifySettings, Senders, SmtpSettings, SmtpTls, WebhookSender, WebhookSetupError,
};
pub use once::{Round, once};

use mothball_domain::flavor::Flavor;
use mothball_queue::Queue;
use mothball_store::{Attention, Retaining, RunAttention, Store};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Plain settings of a scheduler.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often it looks for what is due.
    pub tick: Duration,
    /// How lately a node must have reported to count as alive.
    pub alive_within: Duration,
    /// After how long without its node a job is given up.
    pub gone_after: Duration,
    /// Attempts that the jobs of schedules and policies get.
    pub max_attempts: u32,
    /// Sizes that containers can be woken as.
    pub flavors: Vec<Flavor>,
    /// Images `name:tag` that no save may write: those of the catalogue.
    pub reserved_images: Vec<String>,
    /// How often it looks what policies say.
    pub policy_tick: Duration,
    /// How old a look at a container may be to count as knowing that it is idle.
    pub seen_within: Duration,
    /// How often it looks which images policies let go.
    pub retention_tick: Duration,
    /// How long after its notice an image is removed by its project's policy.
    pub notice: Duration,
    /// How long a removed image can be restored.
    pub undo: Duration,
    /// How long jobs that are over are kept.
    pub keep_jobs_for: Duration,
    /// How long the audit trail is kept.
    pub keep_audit_for: Duration,
    /// How long the ledger, which cost reports are made of, is kept.
    pub keep_ledger_for: Duration,
    /// How people and programs are told of what happens.
    pub notify: NotifySettings,
}

/// Everything that a scheduler works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The truth.
    pub store: Store,
    /// The wake-ups.
    pub queue: Queue,
    /// Numbers for Prometheus.
    pub metrics: Arc<Metrics>,
    /// What carries notices away.
    pub senders: Senders,
    /// Plain settings.
    pub settings: Settings,
}

impl Settings {
    fn attention(&self) -> Attention {
        Attention { alive_within: self.alive_within, gone_after: self.gone_after }
    }

    fn retaining(&self) -> Retaining {
        Retaining { notice: self.notice, undo: self.undo, max_attempts: self.max_attempts }
    }

    fn run_attention(&self) -> RunAttention {
        RunAttention {
            max_attempts: self.max_attempts,
            alive_within: self.alive_within,
            flavors: self.flavors.clone(),
            reserved: self.reserved_images.clone(),
        }
    }
}

/// Runs the scheduler until `shutdown`. A store or broker that is away is tried again with the next tick.
pub async fn run(parts: Parts, shutdown: CancellationToken) {
    tokio::join!(
        attend::run(&parts, &shutdown),
        schedules::run(&parts, &shutdown),
        policies::run(&parts, &shutdown),
        notify::run(&parts, &shutdown),
        retention::run(&parts, &shutdown),
        purges::run(&parts, &shutdown),
        history::run(&parts, &shutdown),
    );
}
