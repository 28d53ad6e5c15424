//! Warnings of a real save: the same look as a preflight's, beside the save, told in the job's notes before the job ends.

use super::look::layer_of;
use super::look_at_mounts;
use crate::attempt::Attempt;
use crate::docker::ContainerFacts;
use mothball_domain::exclude::{Exclude, Excluder};
use mothball_domain::survey::{MountedAs, SurveyReport, words};
use mothball_image::survey::Until;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long the look may take while the save goes on.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a save that has come to its end waits for what is left of the look.
const GRACE: Duration = Duration::from_secs(2);
/// How long a look that was stopped may take to tell what it has seen.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Threads of the look: few, since the save needs the cores.
const THREADS: usize = 2;
/// What is said of a look that saw a part.
const IN_PART: &str = "The container has more files than could be looked at during the save: there may be secrets and caches in it that are not named here.";
/// What is said of a look that told nothing.
const NOTHING: &str = "The container's files could not be looked at for secrets and caches during the save.";

/// A look that goes on beside a save, and ends with it. It holds nothing up and fails nothing.
#[derive(Debug)]
pub(crate) struct Warnings {
    /// What is to be said, once it is known; empty when it was told.
    look: JoinSet<Vec<String>>,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

impl Warnings {
    /// Begins to look at a container that is about to be saved.
    pub(crate) fn begin(attempt: &Attempt, facts: &ContainerFacts, excludes: &[Exclude]) -> Self {
        let stop = attempt.stop.token().child_token();
        let (node, secrets) = (Arc::clone(&attempt.node), attempt.parts.settings.secrets.clone());
        let (facts, excludes, stopped) = (facts.clone(), excludes.to_vec(), stop.clone());
        let look = async move {
            let layer = async {
                // Which way the save takes for want of a layer, and why, is said elsewhere.
                let Ok(upper) = node.reach.seen_layer(&facts) else { return Ok(None) };
                let excludes = Excluder::new(&excludes).map_err(|why| why.to_string())?;
                let until = Until::after(LIMIT).or(stopped.clone());
                layer_of(upper, excludes, secrets, until, THREADS).await.map(Some)
            };
            let mounts = look_at_mounts(&node, &facts, LIMIT, &stopped);
            let (layer, (mut mounts, package_trees)) = tokio::join!(layer, mounts);
            // Volumes without a name decide whether the container may go, and are told of there.
            mounts.retain(|m| matches!(m.mounted_as, MountedAs::Bind | MountedAs::Volume));
            let (layer, problem) = match layer {
                Ok(layer) => {
                    let in_part = layer.as_ref().is_some_and(|layer| !layer.secrets_complete);
                    (layer, in_part.then(|| IN_PART.to_owned()))
                }
                Err(why) => (None, Some(format!("{NOTHING} The reason: {why}."))),
            };
            let report = SurveyReport { layer, package_trees, ..SurveyReport::default() };
            words::mounts(&mounts).into_iter().chain(words::warnings(&report)).chain(problem).collect()
        };
        Self::of(look, stop)
    }

    /// Beside this look, which heeds `stop`.
    fn of(look: impl Future<Output = Vec<String>> + Send + 'static, stop: CancellationToken) -> Self {
        let mut beside = JoinSet::new();
        beside.spawn(look);
        Self { look: beside, _stop_when_dropped: stop.clone().drop_guard(), stop }
    }

    /// Tells the job's owner what was seen. What is left of the look is waited for; when that takes too long, what was seen
    /// until then is told, and that it is not all.
    pub(crate) async fn tell(&mut self, attempt: &mut Attempt) {
        self.sentences().await.into_iter().for_each(|sentence| attempt.note(sentence));
    }

    /// Tells what is known already, of a save that failed or was stopped, and waits for nothing.
    pub(crate) fn tell_if_seen(&mut self, attempt: &mut Attempt) {
        let seen = self.look.try_join_next().and_then(Result::ok);
        seen.into_iter().flatten().for_each(|sentence| attempt.note(sentence));
    }

    async fn sentences(&mut self) -> Vec<String> {
        if let Ok(sentences) = timeout(GRACE, self.ended()).await {
            return sentences;
        }
        self.stop.cancel();
        timeout(LAST_WORD, self.ended()).await.unwrap_or_else(|_| vec![NOTHING.to_owned()])
    }

    async fn ended(&mut self) -> Vec<String> {
        match self.look.join_next().await {
            Some(Ok(sentences)) => sentences,
            Some(Err(error)) => {
                tracing::error!(%error, "a look beside a save ended by a defect");
                vec![NOTHING.to_owned()]
            }
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    fn said(sentence: &str) -> Vec<String> {
        vec![sentence.to_owned()]
    }

    #[tokio::test(start_paused = true)]
    async fn a_save_that_is_done_waits_for_what_is_left_of_the_look() {
        let stop = CancellationToken::new();
        let mut warnings = Warnings::of(
            async {
                sleep(GRACE.saturating_sub(Duration::from_millis(1))).await;
                said("a key")
            },
            stop.clone(),
        );
        assert_eq!(warnings.sentences().await, said("a key"));
        assert!(!stop.is_cancelled());
        assert_eq!(warnings.sentences().await, Vec::<String>::new(), "it is told once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_takes_too_long_tells_what_it_has_seen() {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let mut warnings = Warnings::of(
            async move {
                stopped.cancelled().await;
                said(IN_PART)
            },
            stop,
        );
        assert_eq!(warnings.sentences().await, said(IN_PART));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_fails_or_hangs_is_said_and_fails_nothing() {
        let mut hangs = Warnings::of(std::future::pending(), CancellationToken::new());
        assert_eq!(hangs.sentences().await, said(NOTHING));
        let defect = async { std::iter::empty::<Vec<String>>().next().expect("a defect") };
        let mut breaks = Warnings::of(defect, CancellationToken::new());
        assert_eq!(breaks.sentences().await, said(NOTHING));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_ends_with_its_job() {
        let stop = CancellationToken::new();
        drop(Warnings::of(std::future::pending(), stop.clone()));
        assert!(stop.is_cancelled());
    }
}
