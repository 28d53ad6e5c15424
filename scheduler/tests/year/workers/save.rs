//! A save, with the removal that may follow it.

use super::{Attempt, Flow, Halt, Held, Phase, permanent, transient};
use crate::ledger::PRICE_SCALE;
use crate::users::UNDO;
use crate::world::{Manifest, STORAGE, World};
use anyhow::{Context, ensure};
use mothball_domain::failure::FailureClass;
use mothball_domain::image::Digest;
use mothball_domain::job::{Checkpoint, Frozen, Step};
use mothball_store::{Effect, ImageDraft, Recorded, Renewal};
use rust_decimal::Decimal;

impl Attempt {
    pub(super) async fn preflight(&mut self, world: &mut World) -> Result<Flow, Halt> {
        let container = self.container(world).await?;
        let docker_id = self.docker_id_here(world, &container)?;
        self.enter(world, Step::Preflight).await?;
        if world.docker(self.node, &docker_id).is_none() {
            if self.then().removes() && self.checkpoint.recorded {
                world.tally.note("removals that were told of by the next attempt");
                return Ok(Flow::End(Effect::Removed));
            }
            return Err(permanent(FailureClass::Gone, "the container is not there any more"));
        }
        if self.then().removes() {
            // It ran between two attempts: everything is read anew.
            self.checkpoint = Checkpoint::default();
        } else if self.checkpoint.manifest.is_some() {
            return Ok(Flow::To(Phase::Verify));
        }
        Ok(Flow::To(Phase::Live))
    }

    /// Reads the container while it runs, and is written in.
    pub(super) async fn live(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::Read).await?;
        let docker_id = self.its_docker_id()?;
        world.write_in(self.node, &docker_id);
        Ok(Flow::To(Phase::Intend))
    }

    pub(super) async fn intend(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.check_wanted()?;
        let docker_id = self.its_docker_id()?;
        world.write_in(self.node, &docker_id);
        let Some(found) = world.docker(self.node, &docker_id) else { return Err(removed()) };
        if !found.running {
            self.held = Some(Held { docker_id, paused: false, ran: found.ran });
            return Ok(Flow::To(Phase::Put));
        }
        self.checkpoint.frozen = Some(Frozen { docker_id: docker_id.clone(), since: world.clock.now() });
        self.save(world).await?;
        world.nodes[self.node].journal.insert(docker_id);
        Ok(Flow::To(Phase::Freeze))
    }

    pub(super) fn freeze(&mut self, world: &mut World) -> Result<Flow, Halt> {
        let docker_id = self.its_docker_id()?;
        let Some(found) = world.docker(self.node, &docker_id).filter(|b| b.running) else {
            return Err(removed());
        };
        found.paused = true;
        self.held = Some(Held { docker_id, paused: true, ran: found.ran });
        Ok(Flow::To(Phase::Put))
    }

    /// What is frozen goes to the registry, which now and then takes it and loses a part.
    pub(super) async fn put(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::Upload).await?;
        let content = self.still(world)?;
        let number = world.fresh();
        let digest = digest_of(number);
        let bytes = world.between(100_000_000, 60_000_000_000).unsigned_abs();
        let whole = !world.fault(0.04);
        let of = self.job.container.context("a save of no container")?;
        world.registry.manifests.insert(digest.clone(), Manifest { of, content, whole, bytes });
        if !self.then().removes()
            && let Some(held) = self.held.take()
            && held.paused
        {
            world.thaw(self.node, &held.docker_id);
            self.checkpoint.frozen = None;
        }
        self.checkpoint.manifest = Some(digest);
        self.save(world).await?;
        Ok(Flow::To(Phase::Verify))
    }

    pub(super) async fn verify(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::Verify).await?;
        let digest = self.manifest()?;
        if !world.registry.manifests.get(&digest).is_some_and(|manifest| manifest.whole) {
            world.tally.note("images that were not proven");
            self.checkpoint.manifest = None;
            return Err(transient(FailureClass::Registry, "the registry does not have all of it"));
        }
        self.checkpoint.verified = true;
        self.checkpoint.size_bytes = world.registry.manifests.get(&digest).map(|m| m.bytes);
        self.save(world).await?;
        Ok(Flow::To(Phase::Tag))
    }

    pub(super) async fn tag(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.confirm(world).await?;
        let digest = self.manifest()?;
        let image = World::image_of(&self.job).context("a save of no image")?.clone();
        world.registry.tags.insert((self.job.project.clone(), image), digest);
        Ok(Flow::To(Phase::Record))
    }

    pub(super) async fn record(&mut self, world: &mut World) -> Result<Flow, Halt> {
        if world.fault(0.02) {
            world.tally.note("images that were proven and not recorded");
            return Err(transient(FailureClass::Internal, "the store cannot be reached"));
        }
        // No cancel comes between the tag and the record.
        self.step = Some(Step::Record);
        self.save(world).await?;
        let digest = self.manifest()?;
        let draft = ImageDraft {
            digest: digest.clone(),
            size_bytes: world.registry.manifests.get(&digest).map_or(0, |m| m.bytes),
            storage_price: Decimal::new(STORAGE, PRICE_SCALE),
            layers: 3,
            reference: format!("registry/{}@{digest}", self.job.project),
            base: None,
            undo: UNDO,
        };
        let renewal = match world.store.record_image(self.job.id, self.job.fence, &draft).await? {
            Recorded::Held { cancel } => Renewal::Held { cancel },
            Recorded::Lost => Renewal::Lost,
            Recorded::Leaving(_) => {
                world.tally.note("images whose content was just being removed");
                self.checkpoint.manifest = None;
                self.checkpoint.verified = false;
                return Err(transient(FailureClass::Registry, "the very same content is being removed"));
            }
        };
        self.heard(world, renewal)?;
        world.known(self.job.id)?.recorded = Some(digest);
        self.checkpoint.recorded = true;
        self.save(world).await?;
        Ok(if self.then().removes() { Flow::To(Phase::Confirm) } else { Flow::End(Effect::None) })
    }

    /// The container may be removed: its image is proven, it is not protected, it stood still, the job is ours and wanted.
    pub(super) async fn may_remove(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::DeleteContainer).await?;
        if !(self.checkpoint.verified && self.checkpoint.recorded) {
            return Err(permanent(FailureClass::Internal, "it was about to be deleted without proof"));
        }
        if self.container(world).await?.protected {
            return Err(permanent(FailureClass::Engine, "it was protected meanwhile"));
        }
        self.still(world)?;
        self.confirm(world).await?;
        Ok(Flow::To(Phase::Kill))
    }

    pub(super) async fn kill(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.check_lease(world)?;
        self.still(world)?;
        self.confirm(world).await?;
        Ok(Flow::To(Phase::RemoveSaved))
    }

    /// The one step that cannot be undone. What must hold is asked of the world, not of what the worker believes.
    pub(super) fn remove_saved(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.check_lease(world)?;
        let docker_id = self.its_docker_id()?;
        let found = world.nodes[self.node].boxes.remove(&docker_id).context("nothing is there to remove")?;
        let id = found.of;
        let recorded = world.known(self.job.id)?.recorded.clone();
        let image = recorded.with_context(|| format!("container {id} is removed without an image"))?;
        world.check_image(id, &image, found.content).with_context(|| {
            format!("container {id} is removed without a proven image, by job {}", self.job.id)
        })?;
        check_may_go(world, id, self.looked_at)?;
        ensure_still(id, found.paused || !found.running)?;
        world.known(self.job.id)?.removed = Some(found.content);
        world.tally.note("containers that were removed, each with its image");
        self.held = None;
        world.nodes[self.node].journal.remove(&docker_id);
        Ok(Flow::To(Phase::Tell))
    }

    pub(super) async fn tell(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.checkpoint.removed_at = Some(world.clock.now());
        self.save(world).await?;
        Ok(Flow::End(Effect::Removed))
    }

    /// What is in the container, if nobody has let it run since it was frozen.
    fn still(&self, world: &mut World) -> Result<u64, Halt> {
        let Some(held) = &self.held else { return Err(removed()) };
        let found = world.docker(self.node, &held.docker_id).ok_or_else(removed)?;
        let as_it_was = found.ran == held.ran && if held.paused { found.paused } else { !found.running };
        if !as_it_was {
            world.tally.note("containers that ran while they were saved");
            return Err(transient(FailureClass::Engine, "it ran while it was saved"));
        }
        Ok(found.content)
    }

    fn its_docker_id(&self) -> Result<String, Halt> {
        Ok(self.docker_id.clone().context("the attempt knows no container")?)
    }

    fn manifest(&self) -> Result<Digest, Halt> {
        Ok(self.checkpoint.manifest.clone().context("the attempt has put no manifest")?)
    }
}

/// Whether a container may be removed at all.
pub(super) fn check_may_go(
    world: &World,
    id: mothball_domain::id::ContainerId,
    looked_at: i64,
) -> anyhow::Result<()> {
    let truth = world.truth(id)?;
    let since = truth.protected_since.filter(|since| *since < looked_at);
    ensure!(since.is_none(), "container {id} is removed although it is protected");
    Ok(())
}

fn ensure_still(id: mothball_domain::id::ContainerId, still: bool) -> anyhow::Result<()> {
    ensure!(still, "container {id} is removed while it runs");
    Ok(())
}

fn removed() -> Halt {
    transient(FailureClass::Gone, "it was removed or ended while it was saved")
}

fn digest_of(number: u64) -> Digest {
    let mut bytes = [0; 32];
    bytes[24..].copy_from_slice(&number.to_be_bytes());
    Digest::from_sha256(bytes)
}
