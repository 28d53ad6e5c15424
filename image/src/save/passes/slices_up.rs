//! Slices on their way up, several at once.

use super::set_aside::SetAside;
use crate::layer::index::LayerBlob;
use crate::save::error::SaveError;
use crate::save::pipeline::{Upstream, upload_layer};
use crate::save::record::Sent;
use crate::save::slices::Slice;
use crate::save::source::{SliceReport, Source};
use std::io::Write;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

type Done = (usize, Result<(LayerBlob, SliceReport), SaveError>);

/// Slices on their way up. When one fails the others are stopped. It is to be driven to its end: then nothing is under way.
pub(super) struct SlicesUp {
    /// The first failure stops the others, and not what comes after them.
    stop: CancellationToken,
    slices: Vec<Arc<Slice>>,
    tasks: JoinSet<Done>,
    up: Vec<Option<Sent>>,
    failed: Option<SaveError>,
}

impl SlicesUp {
    /// Uploads slices of a tree.
    pub(super) fn of_tree(to: &Upstream, source: &Source, slices: &[Arc<Slice>]) -> Self {
        let (mut all, to) = Self::new(to, slices.to_vec());
        for (number, slice) in slices.iter().cloned().enumerate() {
            let (to, source) = (to.clone(), source.clone());
            all.tasks.spawn(async move {
                let tar = move |out: &mut dyn Write| source.write_slice(&slice, out, &|_| {});
                (number, upload_layer(&to, tar).await)
            });
        }
        all
    }

    /// Uploads what was set aside.
    pub(super) fn of_aside(to: &Upstream, aside: Vec<SetAside>) -> Self {
        let (mut all, to) = Self::new(to, aside.iter().map(|aside| aside.slice.clone()).collect());
        for (number, SetAside { report, tar, .. }) in aside.into_iter().enumerate() {
            let to = to.clone();
            all.tasks.spawn(async move {
                let up = upload_layer(&to, move |out: &mut dyn Write| tar.copy_to(out)).await;
                (number, up.map(|(blob, ())| (blob, report)))
            });
        }
        all
    }

    fn new(to: &Upstream, slices: Vec<Arc<Slice>>) -> (Self, Upstream) {
        let stop = to.cancel.child_token();
        let to = Upstream { cancel: stop.clone(), ..to.clone() };
        to.progress.plan(slices.iter().map(|slice| slice.tar_bytes).sum());
        let up = vec![None; slices.len()];
        (Self { stop, slices, tasks: JoinSet::new(), up, failed: None }, to)
    }

    /// Waits for one more; whether there was one.
    pub(super) async fn next(&mut self) -> bool {
        let Some(joined) = self.tasks.join_next().await else { return false };
        match joined.map_err(|e| SaveError::Defect(e.to_string())) {
            Ok((number, Ok((blob, report)))) => {
                self.up[number] = Some(Sent { slice: self.slices[number].clone(), report, blob });
            }
            Ok((_, Err(error))) | Err(error) => self.fail(error),
        }
        true
    }

    /// Stops what is under way; each takes its upload out of the registry.
    pub(super) fn fail(&mut self, error: SaveError) {
        self.stop.cancel();
        // The others fail because of the first.
        self.failed.get_or_insert(error);
    }

    /// Those that are up, in the order of the slices.
    pub(super) fn sent(&self) -> Vec<Sent> {
        self.up.iter().flatten().cloned().collect()
    }

    /// All of them, or the first failure.
    pub(super) async fn end(mut self) -> Result<Vec<Sent>, SaveError> {
        while self.next().await {}
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(self.sent()),
        }
    }
}
