//! The private servers of a run, and Mothball in front of them.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::http::Api;
use mothball_harness::mothball::Mothball;
use mothball_harness::registry::Registry;
use mothball_harness::system::{BASE, Pair, System};

use crate::measure::Watched;
use crate::rivals::{Buildah, Way, Who};

/// The flavor of every container: all the memory, so that Docker's limit does not empty the page cache; one processor, which
/// every machine has.
pub(crate) const FLAVOR: &str = "bench";
const FLAVORS: &str =
    "[[flavors]]\nname = \"bench\"\ngpus = 0\ncpus = 1\nmemory = \"512GiB\"\nprice_per_hour = \"0\"";
const SETTING: &str = "MOTHBALL_WORKER__SNAPSHOT";

/// Engine, registries, and one Mothball at a time. Fields are dropped in order: Mothball first.
pub(crate) struct Rig {
    /// Mothball the way that was asked for, Docker Engine, and Mothball's registry.
    system: System,
    /// Mothball the engine's way, on the same data: only one of the two runs.
    engine: Option<Mothball>,
    /// Whether that one runs.
    engine_runs: bool,
    /// Docker's own registry: it must not find there what Mothball saved.
    pub(crate) docker_registry: Registry,
    /// buildah, where it takes part.
    pub(crate) buildah: Option<Buildah>,
}

impl Rig {
    /// Starts everything.
    pub(crate) async fn start(way: Way, buildah: bool) -> Result<Self> {
        let options = System::options(Pair::Embedded).env(SETTING, way.setting()).configuration(FLAVORS);
        let system = options.start().await.context("start Mothball and its servers")?;
        let docker_registry = Registry::start().await?;
        let buildah = if buildah { Some(Buildah::start().await?) } else { None };
        Ok(Self { system, engine: None, engine_runs: false, docker_registry, buildah })
    }

    /// Docker Engine.
    pub(crate) fn dockerd(&self) -> &Dockerd {
        self.system.dockerd()
    }

    /// Mothball's registry.
    pub(crate) fn registry(&self) -> &Registry {
        &self.system.registry
    }

    /// Mothball's API, with the operator's key.
    pub(crate) fn api(&self) -> Result<Api> {
        self.mothball().api()
    }

    /// Has the right Mothball run, where somebody is one; the container and all that is known of it stay.
    pub(crate) async fn take_turn(&mut self, who: Who) -> Result<()> {
        let wanted = match who {
            Who::Engine => true,
            Who::Mothball => false,
            _ => return Ok(()),
        };
        if wanted == self.engine_runs {
            return Ok(());
        }
        if wanted {
            self.system.api.stop().await?;
            match &mut self.engine {
                Some(engine) => engine.start_again().await?,
                None => self.engine = Some(self.start_engine().await?),
            }
        } else {
            if let Some(engine) = &mut self.engine {
                engine.stop().await?;
            }
            self.system.api.start_again().await?;
        }
        self.engine_runs = wanted;
        self.mothball().wait_able().await
    }

    async fn start_engine(&self) -> Result<Mothball> {
        let options = self.system.nodes[0].worker(self.system.settings());
        options.env(SETTING, Way::Engine.setting()).data(&self.system.api.data()).start().await
    }

    fn mothball(&self) -> &Mothball {
        self.engine.as_ref().filter(|_| self.engine_runs).unwrap_or(&self.system.api)
    }

    /// What is looked at while somebody saves a container (with its first process) or launches one.
    pub(crate) fn watched(&self, who: Who, container: Option<u32>) -> Result<Watched> {
        let pid = self.dockerd().directory().join("docker.pid");
        let pid = std::fs::read_to_string(pid).context("read Docker Engine's process id")?;
        let mut node = vec![self.dockerd().data(), self.mothball().data()];
        node.extend(self.buildah.as_ref().map(|buildah| buildah.storage().to_owned()));
        Ok(Watched {
            node,
            registry: self.registry_of(who)?.directory().to_owned(),
            container,
            mothball: self.mothball().pid(),
            dockerd: pid.trim().parse().context("read Docker Engine's process id")?,
        })
    }

    /// Where somebody saves to.
    pub(crate) fn registry_of(&self, who: Who) -> Result<&Registry> {
        match who {
            Who::Mothball | Who::Engine => Ok(self.registry()),
            Who::Docker | Who::DockerOwn => Ok(&self.docker_registry),
            Who::Buildah => Ok(&self.buildah.as_ref().context("find buildah")?.registry),
        }
    }

    /// Empties the registry that somebody saves to, so that the next save is a first one.
    pub(crate) fn empty_registry(&self, who: Who) -> Result<()> {
        let content = self.registry_of(who)?.directory().join("data/docker");
        match std::fs::remove_dir_all(&content) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("empty {}", content.display()))
            }
            _ => Ok(()),
        }
    }

    /// Takes every image but the base off the node.
    pub(crate) async fn remove_images(&self) -> Result<()> {
        let base = self.dockerd().docker(&["image", "inspect", "--format", "{{.Id}}", BASE]).await?;
        let all = self.dockerd().docker(&["image", "ls", "--all", "--quiet", "--no-trunc"]).await?;
        let mut others: Vec<&str> = all.lines().filter(|id| *id != base).collect();
        others.sort_unstable();
        others.dedup();
        for image in others {
            self.dockerd().docker(&["image", "rm", "--force", image]).await?;
        }
        Ok(())
    }

    /// An archive of the base image, for a tool that cannot ask Docker.
    pub(crate) async fn base_archive(&self) -> Result<PathBuf> {
        let archive = self.dockerd().directory().join("base.tar");
        let path = archive.to_str().context("name the base image's archive")?;
        self.dockerd().docker(&["save", "--output", path, BASE]).await?;
        Ok(archive)
    }
}
