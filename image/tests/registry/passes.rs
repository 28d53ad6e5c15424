//! Containers saved in passes, and what another Docker makes of the images.

use crate::bases::{config, export, provenance, upstream};
use crate::support::anonymous;
use anyhow::{Context as _, Result};
use mothball_domain::image::Digest;
use mothball_harness::busybox;
use mothball_harness::dockerd::Dockerd;
use mothball_harness::proxy::{Address, Fault, Proxy, Rule};
use mothball_harness::registry::Registry as Server;
use mothball_harness::tree::{Times, Tree};
use mothball_image::layer::index::{Base, Index};
use mothball_image::save::{
    self, BaseCache, Earlier, OnSlice, Parts, Rules, Save, SaveError, SaveSettings, SavedLayers,
};
use mothball_image::{ImageConfig, Registry, ScrubRules};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

const MAKE: &str = "set -e
mkdir -p /srv/deep/er /srv/gone /srv/again; echo a >/srv/deep/a; echo b >/srv/deep/er/b; ln /srv/deep/a /srv/deep/er/hard
ln -s ../a /srv/deep/er/soft; mkfifo /srv/pipe; echo su >/srv/su; chmod 4755 /srv/su; chown 1000:1000 /srv/deep/er
echo x >/srv/gone/x; echo y >/srv/again/y; rm /bin/vi; rm -r /var/tmp; mkdir /var/tmp; echo new >/var/tmp/new
dd if=/dev/urandom of=/srv/big bs=1M count=20 2>/dev/null; dd if=/dev/zero of=/srv/sparse bs=1M seek=5 count=1 2>/dev/null
touch -d @86400 /srv/deep/a /srv/deep; echo 1 >/srv/log";
const CHANGE: &str = "set -e
echo more >>/srv/log; rm -r /srv/gone; rm -r /srv/again; mkdir /srv/again; echo z >/srv/again/z; rm /srv/deep/er/soft
echo file >/srv/deep/er/soft; mv /srv/su /srv/renamed; chmod 600 /srv/deep/er/b";

/// A registry, a container, and what it takes to save it.
struct World {
    server: Server,
    registry: Registry,
    docker: Dockerd,
    base: (Digest, ImageConfig),
    spool: tempfile::TempDir,
    cache: BaseCache,
}

impl World {
    async fn new() -> Result<Self> {
        let (server, docker) = (Server::start().await?, Dockerd::start().await?);
        let registry = anonymous(&server.url())?;
        docker.import_busybox("base:1", &[busybox::IDLE]).await?;
        let base = config(&docker, "base:1").await?;
        docker.docker(&["run", "-d", "--name", "c1", "--network", "none", "base:1"]).await?;
        let (spool, cache) = (tempfile::tempdir()?, BaseCache::default());
        Ok(Self { server, registry, docker, base, spool, cache })
    }

    async fn upper(&self) -> Result<PathBuf> {
        let format = "{{.GraphDriver.Data.UpperDir}}";
        Ok(PathBuf::from(self.docker.docker(&["inspect", "--format", format, "c1"]).await?.trim()))
    }

    fn settings(&self) -> Result<SaveSettings> {
        let base = Base { image_id: self.base.0.to_string(), diff_ids: self.base.1.rootfs.diff_ids.clone() };
        Ok(SaveSettings::new(base, Rules::new(&[])?, self.spool.path()))
    }

    async fn begin(&self, registry: &Registry, earlier: Option<Index>) -> Result<Save> {
        let earlier = earlier.map(|index| Earlier { index, repo: "p1/base".to_owned() });
        self.begin_with(registry, self.settings()?, earlier, Arc::new(|_: &Index| {})).await
    }

    async fn begin_with(
        &self,
        registry: &Registry,
        settings: SaveSettings,
        earlier: Option<Earlier>,
        on_slice: Arc<OnSlice>,
    ) -> Result<Save> {
        let to = upstream(registry, "p1/base")?;
        Ok(Save::begin(to, &self.upper().await?, settings, earlier, on_slice).await?)
    }

    async fn pause(&self) -> Result<()> {
        self.docker.docker(&["pause", "c1"]).await.map(drop)
    }

    async fn unpause(&self) -> Result<()> {
        self.docker.docker(&["unpause", "c1"]).await.map(drop)
    }

    /// Live pass, frozen pass, finish; what the tree was while the container stood still.
    async fn save(&self, earlier: Option<Index>) -> Result<(SavedLayers, Tree)> {
        let mut save = self.begin(&self.registry, earlier).await?;
        save.live_pass().await?;
        self.pause().await?;
        save.frozen_pass().await?;
        let tree = Tree::of_container(&self.docker, "c1").await?;
        self.unpause().await?;
        Ok((save.finish().await?, tree))
    }

    /// Puts the image together, and has another Docker run it.
    async fn pulled(&self, saved: &SavedLayers) -> Result<Tree> {
        let to = upstream(&self.registry, "p1/base")?;
        let export = || async { export(&self.docker, "base:1") };
        let diff_ids = &self.base.1.rootfs.diff_ids;
        let base_layers = save::base_layers(&to, diff_ids, &self.cache, &[], export).await?;
        let image = save::assemble(&Parts {
            base: &self.base.1,
            base_layers: &base_layers,
            layers: &saved.layers,
            rules: &ScrubRules::default(),
            provenance: &provenance(self.base.0.clone()),
        })?;
        let digest = save::assemble::put(&to, &image).await?;
        self.registry.verify("p1/base", &digest).await?;
        let other = Dockerd::start().await?;
        let name = format!("{}/p1/base@{digest}", self.server.address());
        other.docker(&["pull", &name]).await?;
        other.docker(&["run", "-d", "--name", "c2", "--network", "none", &name]).await?;
        Tree::of_container(&other, "c2").await
    }

    fn uploads(&self) -> usize {
        crate::layers::uploads(&self.server).len()
    }
}

fn assert_same(source: &Tree, pulled: &Tree) {
    let differences = source.differences(pulled, Times::Nanoseconds);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pulled_is_what_was_there_when_the_container_stood_still() -> Result<()> {
    let world = World::new().await?;
    world.docker.sh("c1", MAKE).await?;
    let mut save = world.begin(&world.registry, None).await?;
    save.live_pass().await?;
    world.docker.sh("c1", CHANGE).await?;
    let churn = save.churn().await?;
    assert!(churn.entries > 5 && churn.bytes < 1000, "{churn:?}");
    world.pause().await?;
    let frozen = save.frozen_pass().await?;
    assert!(frozen.set_aside && frozen.bytes < 1000, "{frozen:?}");
    let source = Tree::of_container(&world.docker, "c1").await?;
    world.unpause().await?;
    world.docker.sh("c1", "echo late >/srv/late; echo late >>/srv/log; rm /srv/renamed").await?;
    let saved = save.finish().await?;
    assert_eq!((saved.report.live_passes, saved.report.layers, saved.report.layers_sent), (1, 2, 2));
    assert_same(&source, &world.pulled(&saved).await?);
    assert_eq!(world.uploads(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_save_sends_what_changed_and_no_more() -> Result<()> {
    let world = World::new().await?;
    world.docker.sh("c1", MAKE).await?;
    let (first, _) = world.save(None).await?;
    assert!(first.report.sent_bytes > 20_000_000);
    world.docker.sh("c1", CHANGE).await?;
    let (second, tree) = world.save(Some(Index::clone(&first.index))).await?;
    assert!(second.report.sent_bytes < 100_000, "{:?}", second.report);
    assert_eq!(second.layers[..first.layers.len()], first.layers);
    assert_eq!(second.report.full_because, None);
    assert_same(&tree, &world.pulled(&second).await?);

    // Nothing more happened: what was read while the container stood still is looked at once more, and that is all.
    let (third, tree) = world.save(Some(Index::clone(&second.index))).await?;
    assert!(third.report.sent_bytes < 50_000, "{:?}", third.report);
    assert_same(&tree, &world.pulled(&third).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lost_a_layer_gets_everything_anew() -> Result<()> {
    let world = World::new().await?;
    world.docker.sh("c1", MAKE).await?;
    let (first, _) = world.save(None).await?;
    world.server.remove_blob(first.layers[0].digest.as_str())?;
    let (second, tree) = world.save(Some(Index::clone(&first.index))).await?;
    assert!(second.report.full_because.is_some_and(|why| why.contains("lost layer")));
    assert!(second.report.sent_bytes > 20_000_000);
    let pulled = world.begin(&world.registry, None).await.map(drop);
    pulled?;
    assert_same(&tree, &world.pulled(&SavedLayers { report: first.report, ..second }).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_after_a_crash_sends_only_what_is_missing() -> Result<()> {
    let world = World::new().await?;
    world.docker.sh("c1", "for n in 1 2 3 4; do head -c 10485760 /dev/urandom >/home/f$n; done").await?;
    let proxy = Proxy::http(Address::Tcp(world.server.address())).await?;
    let registry = anonymous(&proxy.url())?;
    let settings = SaveSettings { slice_bytes_min: 10 << 20, ..world.settings()? };
    let noted: Arc<Mutex<Option<Index>>> = Arc::default();
    let note = noted.clone();
    let on_slice: Arc<OnSlice> = Arc::new(move |index: &Index| {
        *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(index.clone());
    });
    // Two slices get through, the others never.
    proxy.inject(Rule::on("PUT", "/blobs/uploads/").skip(2), Fault::answer(413, ""));
    let mut save = world.begin_with(&registry, settings.clone(), None, on_slice).await?;
    let error = save.live_pass().await.err().context("it went well and should not have")?;
    assert!(matches!(error, SaveError::Registry(_)), "{error:?}");
    let index = noted.lock().unwrap_or_else(PoisonError::into_inner).take().context("nothing was noted")?;
    assert_eq!(index.layers.len(), 2);

    proxy.clear();
    proxy.forget();
    let earlier = Earlier { index, repo: "p1/base".to_owned() };
    let mut save = world.begin_with(&registry, settings, Some(earlier), Arc::new(|_: &Index| {})).await?;
    save.live_pass().await?;
    let saved = save.finish().await?;
    assert_eq!((saved.report.layers_sent, proxy.count("PATCH", ""), saved.layers.len()), (2, 2, 4));
    assert!(saved.report.read_bytes <= 21 << 20, "{:?}", saved.report);
    let tree = Tree::of_container(&world.docker, "c1").await?;
    assert_same(&tree, &world.pulled(&saved).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_be_set_aside_is_uploaded_while_the_container_stands_still() -> Result<()> {
    let world = World::new().await?;
    world.docker.sh("c1", MAKE).await?;
    let mut settings = world.settings()?;
    settings.spool.bytes_max = 1_000_000;
    let mut save = world.begin_with(&world.registry, settings, None, Arc::new(|_: &Index| {})).await?;
    world.pause().await?;
    let frozen = save.frozen_pass().await?;
    assert!(!frozen.set_aside, "{frozen:?}");
    let tree = Tree::of_container(&world.docker, "c1").await?;
    world.unpause().await?;
    world.docker.sh("c1", CHANGE).await?;
    let saved = save.finish().await?;
    assert_same(&tree, &world.pulled(&saved).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_pass_that_is_repeated_counts_once() -> Result<()> {
    let world = World::new().await?;
    world.docker.sh("c1", MAKE).await?;
    let mut save = world.begin(&world.registry, None).await?;
    save.live_pass().await?;
    world.docker.sh("c1", "echo first >/srv/first").await?;
    save.frozen_pass().await?;
    // It ran in between.
    world.docker.sh("c1", "rm /srv/first; echo second >/srv/second").await?;
    world.pause().await?;
    save.frozen_pass().await?;
    let tree = Tree::of_container(&world.docker, "c1").await?;
    world.unpause().await?;
    let saved = save.finish().await?;
    assert_eq!(saved.layers.len(), 2);
    assert_same(&tree, &world.pulled(&saved).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_is_stopped_leaves_no_upload_and_nothing_behind() -> Result<()> {
    let world = World::new().await?;
    world.docker.sh("c1", MAKE).await?;
    let proxy = Proxy::http(Address::Tcp(world.server.address())).await?;
    let gate = proxy.hold_after(Rule::on("PATCH", ""), 3_000_000);
    let to = upstream(&anonymous(&proxy.url())?, "p1/base")?;
    let cancel = to.cancel.clone();
    let on_slice: Arc<OnSlice> = Arc::new(|_: &Index| {});
    let mut save = Save::begin(to, &world.upper().await?, world.settings()?, None, on_slice).await?;
    let stop = async {
        gate.reached(std::time::Duration::from_secs(20)).await?;
        cancel.cancel();
        gate.open();
        Ok::<_, anyhow::Error>(())
    };
    let (result, stopped) = tokio::join!(save.live_pass(), stop);
    stopped?;
    assert!(matches!(result, Err(SaveError::Cancelled)), "{result:?}");
    assert_eq!(world.uploads(), 0);
    assert!(world.server.blobs()?.is_empty());
    assert!(matches!(save.frozen_pass().await, Err(SaveError::Cancelled)));
    Ok(())
}

/// The future can be run on any thread: jobs are.
#[test]
fn a_save_can_be_a_task() {
    fn is_send<T: Send>(_: Option<T>) {}
    fn futures(save: &mut Save) -> bool {
        is_send(Some(save.live_pass()));
        is_send(Some(save.churn()));
        is_send(Some(save.frozen_pass()));
        true
    }
    let _: fn(&mut Save) -> bool = futures;
    is_send::<Save>(None);
}
