//! A launch, of a base or of what was saved.

use super::{Attempt, Flow, Halt, Phase, permanent};
use crate::world::{DockerBox, World};
use anyhow::{Context, ensure};
use mothball_domain::container::{Container, Source};
use mothball_domain::failure::FailureClass;
use mothball_domain::job::Step;
use mothball_store::Effect;

impl Attempt {
    pub(super) async fn fetch(&mut self, world: &mut World) -> Result<Flow, Halt> {
        let container = self.container(world).await?;
        self.enter(world, Step::Fetch).await?;
        // What an earlier attempt at it has made, written down or not.
        let boxes = &mut world.nodes[self.node].boxes;
        boxes.retain(|_, found| found.of != container.id);
        self.checkpoint.created = None;
        content_of(world, &container)?;
        Ok(Flow::To(Phase::Create))
    }

    pub(super) async fn create(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::Create).await?;
        let container = self.container(world).await?;
        let content = content_of(world, &container)?;
        let docker_id = format!("d{}", world.fresh());
        let made = DockerBox { of: container.id, content, running: false, paused: false, ran: 0 };
        world.nodes[self.node].boxes.insert(docker_id.clone(), made);
        self.docker_id = Some(docker_id);
        Ok(Flow::To(Phase::WriteCreated))
    }

    pub(super) async fn write_created(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.checkpoint.created.clone_from(&self.docker_id);
        self.save(world).await?;
        Ok(Flow::To(Phase::Start))
    }

    pub(super) async fn start(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::Start).await?;
        if world.fault(0.01) {
            world.tally.note("launches of what ended at once");
            return Err(permanent(FailureClass::Engine, "the container ended at once"));
        }
        let docker_id = self.docker_id.clone().context("nothing was made")?;
        if let Some(found) = world.docker(self.node, &docker_id) {
            found.running = true;
            found.ran += 1;
        }
        Ok(Flow::To(Phase::Ready))
    }

    pub(super) async fn ready(&mut self, world: &mut World) -> Result<Flow, Halt> {
        self.enter(world, Step::Ready).await?;
        let docker_id = self.docker_id.clone().context("nothing was made")?;
        let id = self.job.container.context("a launch of no container")?;
        // It begins with what was saved, and goes on from there.
        if let Some((_, content)) = world.truth(id)?.waking.clone() {
            let found = world.docker(self.node, &docker_id).context("what was started is gone")?.content;
            ensure_same(id, content, found)?;
        }
        Ok(Flow::End(Effect::Running { docker_id, ports: Vec::new() }))
    }

    /// Takes away what was made; now and then Docker refuses.
    pub(super) fn remove_made(&mut self, world: &mut World) {
        if self.checkpoint.created.is_none() || world.fault(0.2) {
            return;
        }
        if let Some(made) = self.checkpoint.created.take() {
            world.nodes[self.node].boxes.remove(&made);
        }
    }
}

fn ensure_same(id: mothball_domain::id::ContainerId, parked: u64, woken: u64) -> anyhow::Result<()> {
    ensure!(parked == woken, "container {id} was parked with {parked} in it and woke with {woken}");
    Ok(())
}

/// What a launched container has in it; what was parked must be there.
fn content_of(world: &mut World, container: &Container) -> Result<u64, Halt> {
    let Source::Custom { digest, .. } = &container.launch.source else { return Ok(world.fresh()) };
    if let Some((parked, content)) = world.truth(container.id)?.waking.clone() {
        let cannot = || format!("container {} cannot be woken", container.id);
        world.check_image(container.id, digest, content).with_context(cannot)?;
        ensure_digest(container, parked == *digest)?;
        return Ok(content);
    }
    let image = world.registry.manifests.get(digest).filter(|image| image.whole);
    let content = image.map(|image| image.content);
    content.ok_or_else(|| permanent(FailureClass::Gone, "the registry has no such image"))
}

fn ensure_digest(container: &Container, same: bool) -> anyhow::Result<()> {
    ensure!(same, "container {} wakes from another image than the one that it was parked as", container.id);
    Ok(())
}
