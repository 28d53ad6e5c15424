//! A save in passes: live ones while the container runs, then one while it stands still, which has little left to do.
//!
//! ```text
//! begin ─ live_pass … live_pass ─ (freeze) frozen_pass (thaw) ─ finish
//! ```
//!
//! Whoever calls decides when the container stands still; here nothing is frozen or thawed. After each slice that is in the
//! registry the caller hears of it, so that an attempt after a crash begins with what is there.

mod look;
mod preview;
mod report;
mod set_aside;
mod slices_up;

pub use preview::{Preview, preview};
pub use report::{Churn, FrozenReport, SaveReport};

use super::assemble::described;
use super::base::bring;
use super::compact::Limits;
use super::error::SaveError;
use super::exclude::Rules;
use super::pipeline::Upstream;
use super::record::{Sent, record};
use super::spool::SpoolSettings;
use crate::layer::index::{Base, Index, LayerBlob};
use crate::layer::root::Root;
use look::{Plan, blocking};
use set_aside::SetAside;
use slices_up::SlicesUp;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

/// Smallest layer where there are several and nothing else is said.
const SLICE_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// Layers of an earlier save that are looked for at once.
const LOOKS_AT_ONCE: usize = 8;

/// What a save is about.
#[derive(Debug, Clone)]
pub struct SaveSettings {
    /// What the container stands on.
    pub base: Base,
    /// What is never saved.
    pub rules: Rules,
    /// Where what is read while the container stands still is kept until it runs again.
    pub spool: SpoolSettings,
    /// Smallest layer where there are several, in bytes before compression: about what is sent again after a crash.
    pub slice_bytes_min: u64,
}

impl SaveSettings {
    /// With the usual bounds; `directory` is on the node's disk.
    pub fn new(base: Base, rules: Rules, directory: impl Into<PathBuf>) -> Self {
        Self { base, rules, spool: SpoolSettings::new(directory), slice_bytes_min: SLICE_BYTES_MIN }
    }
}

/// An earlier save of the same container, or an attempt at one that broke off.
#[derive(Debug, Clone)]
pub struct Earlier {
    /// What it holds.
    pub index: Index,
    /// The repository that has its layers.
    pub repo: String,
}

/// Hears what the registry holds so far.
pub type OnSlice = dyn Fn(&Index) + Send + Sync;

/// A save that is under way.
pub struct Save {
    to: Upstream,
    root: Arc<Root>,
    settings: Arc<SaveSettings>,
    limits: Limits,
    on_slice: Arc<OnSlice>,
    /// What the registry holds: the next pass sends what differs from it.
    last: Option<Arc<Index>>,
    frozen: Option<Frozen>,
    report: SaveReport,
}

/// What was read while the container stood still.
struct Frozen {
    plan: Plan,
    read: Read,
    report: FrozenReport,
}

enum Read {
    /// It waits for its upload.
    Aside(Vec<SetAside>),
    /// It was more than may wait, and was uploaded meanwhile.
    Sent(Vec<Sent>),
}

/// A save whose layers are all in the registry.
#[derive(Debug, Clone)]
pub struct SavedLayers {
    /// All layers on top of the base, oldest first: kept and new ones.
    pub layers: Vec<LayerBlob>,
    /// What they hold. It is worth keeping once the manifest was accepted.
    pub index: Arc<Index>,
    /// What was done.
    pub report: SaveReport,
}

impl Save {
    /// Opens the writable layer at `upper`, and looks whether the registry still has every layer of the earlier save: if
    /// not, everything is sent anew. `on_slice` is called on a thread that may wait.
    pub async fn begin(
        to: Upstream,
        upper: &Path,
        settings: SaveSettings,
        earlier: Option<Earlier>,
        on_slice: Arc<OnSlice>,
    ) -> Result<Self, SaveError> {
        let root = Root::open(upper).map_err(|e| SaveError::io("open the container's writable layer", e))?;
        let limits = Limits::on_base(settings.base.diff_ids.len());
        let mut report = SaveReport::default();
        let last = match earlier {
            None => None,
            Some(earlier) => match doubt(&to, &settings, &earlier).await? {
                None => Some(Arc::new(earlier.index)),
                Some(doubt) => {
                    tracing::info!(repo = %to.repo, %doubt, "an earlier save is not built upon");
                    report.full_because = Some(doubt);
                    None
                }
            },
        };
        let (root, settings) = (Arc::new(root), Arc::new(settings));
        Ok(Self { to, root, settings, limits, on_slice, last, frozen: None, report })
    }

    /// Reads and uploads all that differs from what the registry holds, while the container runs. May be repeated; each
    /// time less is left.
    pub async fn live_pass(&mut self) -> Result<(), SaveError> {
        self.frozen = None;
        let begin = Instant::now();
        let (root, settings) = (self.root.clone(), self.settings.clone());
        let (last, limits) = (self.last.clone(), self.limits);
        let plan =
            blocking("look at the container's files", move || look::live(&root, &settings, last, limits))
                .await?;
        self.report.live_passes += 1;
        self.report.saw(&plan);
        self.report.looking += begin.elapsed();
        let begin = Instant::now();
        let sent = self.upload(&plan, false, true).await?;
        self.report.uploading += begin.elapsed();
        self.report.sent(&sent);
        self.last = Some(self.recorded(&plan, sent, false).await?);
        Ok(())
    }

    /// How much a frozen pass would have to do now.
    pub async fn churn(&self) -> Result<Churn, SaveError> {
        let (root, settings, last) = (self.root.clone(), self.settings.clone(), self.last.clone());
        blocking("look at the container's files", move || {
            look::churn(&root, &settings.rules, last.as_deref())
        })
        .await
    }

    /// Reads what still differs, while the container stands still: when this returns, it may run again. What is too much to
    /// be set aside is uploaded before this returns. May be repeated when the container turns out to have run.
    pub async fn frozen_pass(&mut self) -> Result<FrozenReport, SaveError> {
        self.frozen = None;
        let begin = Instant::now();
        let (root, settings) = (self.root.clone(), self.settings.clone());
        let (last, limits) = (self.last.clone(), self.limits);
        let stop = self.to.cancel.clone();
        let (plan, aside) = blocking("read what changed last", move || {
            let plan = look::frozen(&root, &settings, last, limits)?;
            let aside = set_aside::all(&plan, &root, &settings.spool, &stop)?;
            Ok((plan, aside))
        })
        .await
        .map_err(|error| if self.to.cancel.is_cancelled() { SaveError::Cancelled } else { error })?;
        let (read, early) = match aside {
            Some(aside) => (Read::Aside(aside), true),
            None => (Read::Sent(self.upload(&plan, true, false).await?), false),
        };
        let report = FrozenReport {
            took: begin.elapsed(),
            entries: plan.changes.items.len(),
            bytes: plan.changes.content_bytes(&plan.tree),
            set_aside: early,
            secrets_kept: plan.secrets_kept,
        };
        self.frozen = Some(Frozen { plan, read, report: report.clone() });
        Ok(report)
    }

    /// Uploads what was set aside. The layers are then whole: those of a frozen pass where there was one, else those of
    /// the last live pass.
    pub async fn finish(mut self) -> Result<SavedLayers, SaveError> {
        if let Some(Frozen { plan, read, report }) = self.frozen.take() {
            let begin = Instant::now();
            let sent = match read {
                Read::Sent(sent) => sent,
                Read::Aside(aside) => SlicesUp::of_aside(&self.to, aside).end().await?,
            };
            self.report.uploading += begin.elapsed();
            self.report.saw(&plan);
            self.report.sent(&sent);
            self.report.frozen = Some(report);
            self.last = Some(self.recorded(&plan, sent, true).await?);
        }
        let index = self.last.ok_or_else(|| SaveError::Defect("a save without a pass".to_owned()))?;
        self.report.layers = index.layers.len();
        Ok(SavedLayers { layers: index.layers.clone(), index, report: self.report })
    }

    /// Uploads a plan's slices; the caller hears of each where that is wanted.
    async fn upload(&self, plan: &Plan, frozen: bool, tell: bool) -> Result<Vec<Sent>, SaveError> {
        let mut slices = SlicesUp::of_tree(&self.to, &plan.source(&self.root), &plan.slices);
        while slices.next().await {
            if tell && let Err(error) = self.tell(plan, slices.sent(), frozen).await {
                slices.fail(error);
            }
        }
        slices.end().await
    }

    async fn tell(&self, plan: &Plan, sent: Vec<Sent>, frozen: bool) -> Result<(), SaveError> {
        let (index, on_slice) = (self.recorded(plan, sent, frozen).await?, self.on_slice.clone());
        blocking("note what is uploaded", move || {
            on_slice(&index);
            Ok(())
        })
        .await
    }

    async fn recorded(&self, plan: &Plan, sent: Vec<Sent>, frozen: bool) -> Result<Arc<Index>, SaveError> {
        let (plan, settings) = (plan.clone(), self.settings.clone());
        blocking("note what is uploaded", move || {
            let rules = settings.rules.fingerprint();
            let (last, base) = (plan.last.as_deref(), &settings.base);
            Ok(Arc::new(record(last, base, rules, &plan.tree, &plan.changes, &sent, frozen)))
        })
        .await
    }
}

/// Why an earlier save cannot be built upon; nothing when it can.
async fn doubt(
    to: &Upstream,
    settings: &SaveSettings,
    earlier: &Earlier,
) -> Result<Option<String>, SaveError> {
    if earlier.index.base != settings.base {
        return Ok(Some("it stands on another base".to_owned()));
    }
    // On tasks of their own: a far registry answers each look in its own time.
    let mut looks = JoinSet::<Result<(bool, LayerBlob), SaveError>>::new();
    let mut layers = earlier.index.layers.iter();
    loop {
        while looks.len() < LOOKS_AT_ONCE
            && let Some(layer) = layers.next()
        {
            let (to, layer, repo) = (to.clone(), layer.clone(), earlier.repo.clone());
            looks.spawn(async move { Ok((bring(&to, &described(&layer), &repo).await?, layer)) });
        }
        if to.cancel.is_cancelled() {
            return Err(SaveError::Cancelled);
        }
        let Some(look) = looks.join_next().await else { return Ok(None) };
        let (is_there, layer) = look.map_err(|e| SaveError::Defect(e.to_string()))??;
        if !is_there {
            return Ok(Some(format!("the registry has lost layer {}", layer.digest)));
        }
    }
}
