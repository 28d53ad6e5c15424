//! Deletions, starts and stops.

use super::save::check_may_go;
use super::{Attempt, Flow, Halt, Phase, permanent};
use crate::users::UNDO;
use crate::world::{Place, World};
use anyhow::ensure;
use mothball_domain::failure::FailureClass;
use mothball_domain::image::Digest;
use mothball_domain::job::{JobSpec, Step};
use mothball_store::{Effect, Removal};

impl Attempt {
    pub(super) async fn stop_to_delete(&mut self, world: &mut World) -> Result<Flow, Halt> {
        let container = self.container(world).await?;
        if container.docker_id.is_none() {
            // A launch that died may have left something under its name.
            self.enter(world, Step::Remove).await?;
            world.nodes[self.node].boxes.retain(|_, found| found.of != container.id);
            return Ok(Flow::End(Effect::Removed));
        }
        self.docker_id_here(world, &container)?;
        self.enter(world, Step::Stop).await?;
        Ok(Flow::To(Phase::Stop))
    }

    pub(super) fn stop_box(&mut self, world: &mut World) -> Flow {
        let docker_id = self.docker_id.clone().unwrap_or_default();
        world.thaw(self.node, &docker_id);
        if let Some(found) = world.docker(self.node, &docker_id) {
            found.running = false;
        }
        Flow::To(Phase::Remove)
    }

    pub(super) async fn remove(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::Remove).await?;
        let container = self.container(world).await?;
        if container.protected {
            return Err(permanent(FailureClass::Engine, "it was protected meanwhile"));
        }
        self.confirm(world).await?;
        check_may_go(world, container.id, self.looked_at)?;
        let docker_id = self.docker_id.clone().unwrap_or_default();
        world.nodes[self.node].boxes.remove(&docker_id);
        Ok(Flow::To(Phase::Tell))
    }

    /// Takes the tag away; the content stays for as long as the image can be restored.
    pub(super) async fn untag(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::Untag).await?;
        let JobSpec::DeleteImage { image, digest } = self.job.spec.clone() else {
            return Err(permanent(FailureClass::Internal, "not the deletion of an image"));
        };
        let tag = (self.job.project.clone(), image);
        if world.registry.tags.get(&tag) == Some(&digest) {
            self.confirm(world).await?;
            world.registry.tags.remove(&tag);
        }
        world.tally.note("images that were deleted");
        Ok(Flow::End(Effect::ImageRemoved { undo: UNDO }))
    }

    /// Removes content for good, if the store says that nothing needs it.
    pub(super) async fn remove_manifest(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::RemoveManifest).await?;
        let JobSpec::PurgeImage { digest, .. } = self.job.spec.clone() else {
            return Err(permanent(FailureClass::Internal, "not the removal of content"));
        };
        match world.store.remove_content(self.job.id, self.job.fence).await? {
            Removal::Go => {}
            Removal::Needed(_) | Removal::NotLeaving => return Ok(Flow::End(Effect::None)),
            Removal::Lost => return Err(Halt::Lost),
        }
        self.confirm(world).await?;
        check_not_needed(world, &digest)?;
        world.registry.manifests.remove(&digest);
        world.tally.note("contents that were removed for good");
        Ok(Flow::End(Effect::ContentRemoved))
    }

    pub(super) async fn power(&mut self, world: &mut World) -> Result<Flow, Halt> {
        let container = self.container(world).await?;
        let docker_id = self.docker_id_here(world, &container)?;
        let starts = self.job.spec == JobSpec::Start;
        self.enter(world, if starts { Step::Start } else { Step::Stop }).await?;
        let Some(found) = world.docker(self.node, &docker_id) else {
            return Err(permanent(FailureClass::Gone, "the container is not there any more"));
        };
        found.ran += u64::from(starts);
        found.running = starts;
        let running = Effect::Running { docker_id, ports: Vec::new() };
        Ok(Flow::End(if starts { running } else { Effect::Stopped }))
    }
}

/// Nothing that is parked, or is being woken, is lost with a manifest.
fn check_not_needed(world: &World, digest: &Digest) -> anyhow::Result<()> {
    for (id, truth) in &world.truths {
        let parked = matches!(&truth.place, Place::Parked { digest: d, .. } if d == digest);
        let waking = truth.waking.as_ref().is_some_and(|(d, _)| d == digest);
        ensure!(!parked && !waking, "the image that container {id} wakes from is deleted");
    }
    Ok(())
}
