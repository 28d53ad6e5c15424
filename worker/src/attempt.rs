//! One attempt at a job: the fence it holds, what it writes down, and when it must stop.

use crate::halt::{Halt, Stop, StopSignal};
use crate::meter::Meter;
use crate::node::NodeContext;
use crate::settings::Parts;
use mothball_domain::container::Container;
use mothball_domain::failure::{Failure, FailureClass};
use mothball_domain::job::{Checkpoint, Job, Progress, Step};
use mothball_store::{Checkpointed, ImageDraft, Recorded, Renewal, StoreError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a store that is away is waited for in the middle of an attempt. Longer than a restart of Redis takes.
const STORE_PATIENCE: Duration = Duration::from_mins(10);
/// The longest wait between two tries.
const STORE_AGAIN_MAX: Duration = Duration::from_secs(5);

/// How often work that says how far it is is asked.
const LOOK: Duration = Duration::from_millis(250);

/// One attempt at a job.
pub(crate) struct Attempt {
    pub(crate) parts: Arc<Parts>,
    pub(crate) node: Arc<NodeContext>,
    /// The job as it was claimed.
    pub(crate) job: Job,
    /// What a retry would need; written with [`Attempt::save`].
    pub(crate) checkpoint: Checkpoint,
    pub(crate) stop: StopSignal,
    notes: Vec<String>,
    progress: watch::Sender<Option<Progress>>,
    meter: Arc<Mutex<Meter>>,
    step: Option<(Step, Instant)>,
}

/// That the job was ours a moment ago. A process can be stopped between any two lines and resumed much later, so what cannot be
/// undone asks once more, of the clock alone, right before.
#[must_use]
pub(crate) struct Confirmed {
    until: Instant,
    stop: StopSignal,
}

impl Confirmed {
    /// Whether the lease that was confirmed still runs.
    pub(crate) fn check(&self) -> Result<(), Halt> {
        if Instant::now() < self.until {
            return Ok(());
        }
        self.stop.stop(Stop::Lost);
        Err(Halt::Stopped(Stop::Lost))
    }
}

/// What is written with the attempt's fence.
enum Write<'a> {
    Checkpoint(Checkpointed),
    Image(&'a ImageDraft),
    Lease,
}

impl Attempt {
    pub(crate) fn new(
        parts: Arc<Parts>,
        node: Arc<NodeContext>,
        job: Job,
        stop: StopSignal,
        progress: watch::Sender<Option<Progress>>,
    ) -> Self {
        let checkpoint = job.checkpoint.clone();
        Self {
            parts,
            node,
            job,
            checkpoint,
            stop,
            notes: Vec::new(),
            progress,
            meter: Arc::default(),
            step: None,
        }
    }

    /// Begins a step: nothing begins once the attempt must stop.
    pub(crate) async fn step(&mut self, step: Step) -> Result<(), Halt> {
        self.stop.check()?;
        self.follow_up(step).await
    }

    /// Begins a step that only writes down what has been done already: no cancel and no shutdown comes between the two.
    pub(crate) async fn follow_up(&mut self, step: Step) -> Result<(), Halt> {
        self.end_step();
        self.step = Some((step, Instant::now()));
        self.progress.send_replace(None);
        *self.meter.lock().unwrap_or_else(PoisonError::into_inner) = Meter::default();
        self.write(&Write::Checkpoint(self.checkpointed())).await
    }

    /// Writes the checkpoint and the notes down.
    pub(crate) async fn save(&mut self) -> Result<(), Halt> {
        self.write(&Write::Checkpoint(self.checkpointed())).await
    }

    /// Writes the record of the proven image. Fails as transient where the same content is just being removed from the
    /// registry: the proof counts no more.
    pub(crate) async fn record_image(&mut self, draft: &ImageDraft) -> Result<(), Halt> {
        self.write(&Write::Image(draft)).await
    }

    /// Makes sure, now, that the job is still ours and wanted: before what cannot be undone.
    pub(crate) async fn confirm(&mut self) -> Result<Confirmed, Halt> {
        let asked_at = Instant::now();
        self.write(&Write::Lease).await?;
        self.stop.check()?;
        Ok(Confirmed { until: asked_at + self.parts.settings.lease, stop: self.stop.clone() })
    }

    /// Tells the job's owner something; written with the next checkpoint.
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Something to report bytes with, from inside a callback.
    pub(crate) fn reporter(&self) -> impl Fn(u64, u64) + Send + Sync + use<> {
        let (progress, meter) = (self.progress.clone(), Arc::clone(&self.meter));
        move |done, total| {
            let at = meter.lock().unwrap_or_else(PoisonError::into_inner).at(Instant::now(), done, total);
            progress.send_replace(Some(at));
        }
    }

    /// Runs `work` to its end while it is reported how far it is: bytes done, and bytes in all.
    pub(crate) async fn shown<T>(&self, bytes: impl Fn() -> (u64, u64), work: impl Future<Output = T>) -> T {
        let report = self.reporter();
        // On the heap: what takes long also takes much.
        let mut work = Box::pin(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(LOOK) => {
                    let (done, total) = bytes();
                    report(done, total);
                }
            }
        }
    }

    /// Runs `work`, unless the attempt must stop first: then `work` is dropped where it stands.
    pub(crate) async fn until_stopped<T, E: Into<Halt>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Halt> {
        tokio::select! {
            biased;
            why = self.stop.stopped() => Err(Halt::Stopped(why)),
            done = work => done.map_err(Into::into),
        }
    }

    /// The container that the job is about, as the store has it now.
    pub(crate) async fn container(&self) -> Result<Container, Halt> {
        let gone = || Failure::permanent(FailureClass::Gone, "the container's record is gone");
        let id = self.job.container.ok_or_else(gone)?;
        let deadline = Instant::now() + STORE_PATIENCE;
        let mut wait = Duration::from_millis(200);
        loop {
            match self.parts.store.container(id).await {
                Ok(container) => return Ok(container.ok_or_else(gone)?),
                Err(error) => self.store_is_away(&error, deadline, &mut wait).await?,
            }
        }
    }

    /// Notes how long the last step took.
    pub(crate) fn end_step(&mut self) {
        if let Some((step, since)) = self.step.take() {
            let labels = [self.job.kind().as_str(), step.as_str()];
            self.parts.metrics.step_seconds.with_label_values(&labels).observe(since.elapsed().as_secs_f64());
        }
    }

    fn checkpointed(&self) -> Checkpointed {
        Checkpointed {
            step: self.step.map(|(step, _)| step),
            checkpoint: self.checkpoint.clone(),
            notes: self.notes.clone(),
        }
    }

    /// Writes with the fence, waiting for a store that is away. The fence makes repetition harmless.
    async fn write(&self, what: &Write<'_>) -> Result<(), Halt> {
        let (store, id, fence) = (&self.parts.store, self.job.id, self.job.fence);
        let deadline = Instant::now() + STORE_PATIENCE;
        let mut wait = Duration::from_millis(100);
        loop {
            let written = match what {
                Write::Checkpoint(checkpointed) => store.checkpoint(id, fence, checkpointed).await,
                Write::Image(draft) => match store.record_image(id, fence, draft).await {
                    Ok(Recorded::Held { cancel }) => Ok(Renewal::Held { cancel }),
                    Ok(Recorded::Lost) => Ok(Renewal::Lost),
                    Ok(Recorded::Leaving(other)) => {
                        let why = format!("job {other} is removing the very same content from the registry");
                        return Err(Failure::transient(FailureClass::Registry, why).into());
                    }
                    Err(error) => Err(error),
                },
                Write::Lease => store.renew(id, fence, self.parts.settings.lease, None).await,
            };
            match written {
                Ok(Renewal::Held { cancel }) => {
                    if cancel {
                        self.stop.stop(Stop::Cancelled);
                    }
                    return Ok(());
                }
                Ok(Renewal::Lost) => {
                    self.stop.stop(Stop::Lost);
                    return Err(Halt::Stopped(Stop::Lost));
                }
                Err(error) => self.store_is_away(&error, deadline, &mut wait).await?,
            }
        }
    }

    async fn store_is_away(
        &self,
        error: &StoreError,
        deadline: Instant,
        wait: &mut Duration,
    ) -> Result<(), Halt> {
        if !matches!(error, StoreError::Unavailable(_) | StoreError::Contended(_)) {
            return Err(Failure::permanent(FailureClass::Internal, error.to_string()).into());
        }
        tracing::warn!(job.id = %self.job.id, error = %error, "the store does not answer; trying again");
        if Instant::now() >= deadline {
            self.stop.stop(Stop::Lost);
        }
        tokio::select! {
            biased;
            why = self.stop.stopped() => Err(Halt::Stopped(why)),
            () = tokio::time::sleep(*wait) => {
                *wait = (*wait * 2).min(STORE_AGAIN_MAX);
                Ok(())
            }
        }
    }
}

impl Attempt {
    /// Writes the last checkpoint even though the attempt has stopped; false when the job is another's.
    pub(crate) async fn save_unless_lost(&self) -> bool {
        let checkpointed = self.checkpointed();
        match self.parts.store.checkpoint(self.job.id, self.job.fence, &checkpointed).await {
            Ok(Renewal::Lost) => false,
            Ok(Renewal::Held { .. }) => true,
            Err(error) => {
                // The outcome itself is tried for longer; only what the checkpoint adds may be missing.
                tracing::warn!(job.id = %self.job.id, error = %error, "the last checkpoint could not be written");
                true
            }
        }
    }
}
