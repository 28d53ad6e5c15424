//! A direct save of a container that is kept: how it is made to stand still, if at all.

use super::Direct;
use crate::attempt::Attempt;
use crate::freeze::{self, Freeze};
use crate::halt::Halt;
use crate::snapshot::{Request, Unfit};
use mothball_domain::image::Digest;
use mothball_domain::job::PauseMode;

/// How often a container is frozen anew because somebody let it run meanwhile.
const THAWED_MAX: u32 = 3;

/// Saves the container; the digest of the image's manifest.
pub(in crate::snapshot) async fn keep(
    attempt: &mut Attempt,
    request: &Request,
    direct: &mut Direct<'_>,
) -> Result<Digest, Unfit> {
    let facts = &direct.ready.facts;
    let runs = facts.status.is_alive() && !facts.is_paused();
    if !runs {
        watched(attempt, direct).await?;
    } else if request.pause == PauseMode::Never {
        attempt.note("The container was not frozen, as asked: files written during the save may be half written in the image.");
        direct.live(attempt).await?;
    } else {
        if request.pause == PauseMode::Auto {
            direct.live(attempt).await?;
        }
        frozen(attempt, direct).await?;
    }
    direct.finish(attempt).await
}

/// Reads the rest of a container that runs: frozen for it, and no longer.
async fn frozen(attempt: &mut Attempt, direct: &mut Direct<'_>) -> Result<(), Unfit> {
    let mut thawed = 0;
    loop {
        let freeze = Freeze::begin(attempt, &direct.ready.facts.id).await?;
        let read = direct.rest(attempt).await;
        let checked = let_go(attempt, freeze, read).await;
        attempt.save_unless_lost().await;
        match checked {
            // Somebody let it run: what was read may mix two moments.
            Err(Unfit::Halt(Halt::Failed(failure)))
                if failure.message == freeze::RAN && thawed < THAWED_MAX =>
            {
                thawed += 1;
            }
            done => return done,
        }
    }
}

/// Reads a container that stands still already, because it does not run or its user froze it, and looks that it stayed so.
async fn watched(attempt: &mut Attempt, direct: &mut Direct<'_>) -> Result<(), Unfit> {
    let freeze = Freeze::begin(attempt, &direct.ready.facts.id).await?;
    let read = direct.live(attempt).await;
    // Where it was started between the look at it and the freeze, the freeze is ours.
    let_go(attempt, freeze, read).await
}

/// Ends the freeze after a read, and finds out whether it had held so long.
async fn let_go(attempt: &mut Attempt, freeze: Freeze, read: Result<(), Unfit>) -> Result<(), Unfit> {
    match read {
        Ok(()) => freeze.thaw_and_check(attempt).await.map_err(Unfit::from),
        Err(unfit) => {
            freeze.thaw(attempt).await;
            Err(unfit)
        }
    }
}
