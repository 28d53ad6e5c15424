//! A container that was filled by us, and one that Docker made of the same image, hold the same.

use crate::support::{Layer, REPO, client, noise};
use anyhow::{Context as _, Result, ensure};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::layer::{Flag, Item};
use mothball_harness::registry::Registry as Server;
use mothball_harness::tree::{Times, Tree};
use mothball_image::layer::walk::KeepAll;
use mothball_image::layer::{Base, Root, walk};
use mothball_image::oci::{digest_of, media};
use mothball_image::restore::plan;
use mothball_image::save::delta::{ChangeSet, Item as Change, LayerSet};
use mothball_image::{Descriptor, Registry, RestoreProgress, RestoreSettings, Restored, restore};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

const BASE: &[&str] = &["CMD [\"sleep\", \"1d\"]", "WORKDIR /made/by/docker"];

/// Creates a container of the base and fills it with the image; it has not been started.
async fn fill(dockerd: &Dockerd, registry: &Registry, name: &str, tag: &str, base: &str) -> Result<Restored> {
    let manifest = registry.manifest(REPO, tag).await?.context("no manifest")?;
    let config = registry.config(REPO, &manifest).await?;
    let inspected =
        dockerd.docker(&["image", "inspect", "--format", "{{json .RootFS.Layers}}", base]).await?;
    let base = Base { image_id: base.to_owned(), diff_ids: serde_json::from_str(&inspected)? };
    let plan = plan(manifest.image()?, &config, &base).map_err(anyhow::Error::msg)?;
    dockerd.docker(&["create", "--name", name, "--network", "none", &base.image_id]).await?;
    let driver = "{{.GraphDriver.Data.UpperDir}} {{.GraphDriver.Data.LowerDir}}";
    let directories = dockerd.docker(&["inspect", "--format", driver, name]).await?;
    let (upper, lower) = directories.trim().split_once(' ').context("no directories")?;
    let lower = lower.split(':').map(PathBuf::from).collect();
    let settings = RestoreSettings::new(upper.into(), lower, 1 << 30);
    let progress = Arc::new(RestoreProgress::default());
    let restored = restore(registry, REPO, &plan, &settings, progress, &CancellationToken::new()).await?;
    ensure!(!settings.staging.exists(), "the staging directory is left over");
    // The next save would send nothing but what Docker itself has made in the container, and the root, of which its layers
    // say nothing.
    let now = walk(&Root::open(&settings.upper)?, &KeepAll)?;
    let changes = ChangeSet::between(&now, Some(&restored.index), &LayerSet::new());
    let sent = changes.items.iter().map(|item| match item {
        Change::Entry(id) | Change::Opaque(id) => String::from_utf8_lossy(&now.path(*id)).into_owned(),
        Change::Removal(number) => format!("removal {number}"),
    });
    let sent: Vec<String> = sent.filter(|path| !path.is_empty() && !path.starts_with("made")).collect();
    assert_eq!(sent, Vec::<String>::new());
    Ok(restored)
}

/// Compares the started container with one that Docker makes of the image itself.
async fn compare(dockerd: &Dockerd, filled: &str, image: &str) -> Result<()> {
    dockerd.docker(&["start", filled]).await?;
    dockerd.docker(&["run", "-d", "--name", "pulled", "--network", "none", image]).await?;
    let (ours, theirs) =
        (Tree::of_container(dockerd, filled).await?, Tree::of_container(dockerd, "pulled").await?);
    let mut differences = theirs.links_counted().differences(&ours.links_counted(), Times::Nanoseconds);
    // Docker makes the working directory anew in each container that it creates.
    differences.retain(|line| !(line.starts_with("/made") && line.contains(":  time")));
    assert_eq!(differences, Vec::<String>::new());
    dockerd.docker(&["rm", "-f", "pulled"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_committed_layer_by_layer_is_the_same_when_we_fill_it_in() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let dockerd = Dockerd::start().await?;
    dockerd.import_busybox("bare:1", BASE).await?;
    // A base of two layers, with something to hide and to replace in each.
    dockerd.docker(&["run", "--name", "box", "--network", "none", "bare:1", "sh", "-c",
        "mkdir -p /a/b/c /r/s; echo 1 >/a/one; echo 2 >/a/b/two; echo 3 >/a/b/c/three; echo r >/r/s/t; echo f >/f"]).await?;
    dockerd.docker(&["commit", "--change", BASE[0], "box", "base:1"]).await?;
    let steps = [
        "rm -r /a/b; rm /f; echo new >/a/new; mkdir -p /opt/x/y; echo x >/opt/x/y/z; ln /opt/x/y/z /opt/x/link; mkfifo /opt/p",
        "mkdir -p /a/b; echo back >/a/b/back; rm -r /opt/x/y; mkdir /f; echo in >/f/in; chmod 4711 /a/new; chown 12:34 /a/new",
        "rm -r /f; echo file >/f; rm /a/one; rm -r /r; ln -s a /r; rm /opt/p; mkdir /opt/x/y; touch -d @5 /opt/x/y; chmod 700 /a",
        "rm /r; mkdir /r; rm -r /a; mkdir /a; mkdir /a/b; echo last >/a/b/last; rm -r /opt; rm -r /made",
    ];
    let mut image = "base:1".to_owned();
    for (number, step) in steps.iter().enumerate() {
        let container = format!("c{number}");
        dockerd.docker(&["run", "--name", &container, "--network", "none", &image, "sh", "-c", step]).await?;
        image = format!("{}/{REPO}:v{number}", server.address());
        // The command that the container was started with would become the image's.
        dockerd.docker(&["commit", "--change", BASE[0], &container, &image]).await?;
        dockerd.docker(&["push", &image]).await?;
        let name = format!("filled{number}");
        let restored = fill(&dockerd, &registry, &name, &format!("v{number}"), "base:1").await?;
        assert_eq!(restored.index.layers.len(), number + 1);
        compare(&dockerd, &name, &image).await?;
        // It can be saved again by Docker's own means.
        dockerd.docker(&["commit", &name, "again:1"]).await?;
    }
    Ok(())
}

/// Everything that a layer can hold, in layers made by hand.
fn zoo() -> Vec<Vec<Item>> {
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    let capable = |mut item: Item| {
        item.attributes.push((b"security.capability".to_vec(), capability.clone()));
        item
    };
    let mut big = Item::file("zoo/owner", "x");
    (big.owner, big.modified) = ((3_000_000_000, 2_500_000_000), (1_500_000_000, 1));
    let mut sticky = Item::directory("zoo/sticky");
    (sticky.mode, sticky.modified) = (0o1777, (1_400_000_000, 999_999_999));
    let mut node = Item::new("zoo/null", Flag::Character);
    (node.device, node.mode) = ((1, 3), 0o666);
    let mut block = Item::new("zoo/loop", Flag::Block);
    block.device = (7, 0);
    let mut sparse = vec![0; 3_000_000];
    sparse[2_000_000] = 1;
    let mut attributed = Item::file("zoo/attributes", "x");
    attributed.attributes =
        vec![(b"user.mime".to_vec(), b"text\0plain\n".to_vec()), (b"trusted.x".to_vec(), vec![255])];
    let first = vec![
        Item::directory("zoo"),
        capable(Item::file("zoo/ping", "program")),
        capable(Item::link("zoo/ping2", Flag::HardLink, "zoo/ping")),
        big,
        sticky,
        node,
        block,
        Item::new("zoo/fifo", Flag::Fifo),
        Item::file("zoo/sparse", sparse),
        attributed,
        Item::file(format!("zoo/{}", "n".repeat(255)), "x"),
        Item::file(b"zoo/not\xffutf8".as_slice(), "x"),
        Item::directory(format!("zoo/{}", "d".repeat(200))),
        Item::directory(format!("zoo/{}/{}", "d".repeat(200), "e".repeat(200))),
        Item::file(format!("zoo/{}/deep", "d".repeat(200) + "/" + &"e".repeat(200)), "x"),
        Item::link("zoo/dangling", Flag::Symlink, "/no/where"),
        Item::file("zoo/large", noise(9, 5_000_000)),
        Item::directory("zoo/d"),
        Item::file("zoo/d/old", "x"),
    ];
    let second = vec![
        Item::directory("zoo"),
        Item::file("zoo/.wh.loop", ""),
        Item::directory("zoo/d"),
        Item::file("zoo/d/.wh..wh..opq", ""),
        Item::file("zoo/d/new", "x"),
        Item::directory("bin"),
        Item::file("bin/.wh.cat", ""),
    ];
    let third =
        vec![Item::directory("zoo"), Item::file("zoo/loop", "a file now"), Item::file("zoo/.wh.d", "")];
    vec![first, second, third]
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_layer_can_hold_is_as_docker_unpacks_it() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let dockerd = Dockerd::start().await?;
    dockerd.import_busybox("bare:1", BASE).await?;
    let base = format!("{}/{REPO}:base", server.address());
    dockerd.docker(&["tag", "bare:1", &base]).await?;
    dockerd.docker(&["push", &base]).await?;
    let manifest = registry.manifest(REPO, "base").await?.context("no manifest")?;
    let mut image = manifest.image()?.clone();
    let mut config = registry.config(REPO, &manifest).await?;
    for items in zoo() {
        let layer = Layer::of(&items);
        let described = Descriptor::of(media::DOCKER_LAYER_GZIP, &layer.blob);
        registry.put_blob(REPO, &described.digest, layer.blob.clone()).await?;
        image.layers.push(described);
        config.rootfs.diff_ids.push(digest_of(&layer.tar));
    }
    config.history = None;
    let bytes = config.to_bytes()?;
    image.config = Descriptor::of(media::DOCKER_CONFIG, &bytes);
    registry.put_blob(REPO, &image.config.digest, bytes.into()).await?;
    registry.put_manifest(REPO, "zoo", &manifest.media_type, serde_json::to_vec(&image)?).await?;

    let restored = fill(&dockerd, &registry, "filled", "zoo", "bare:1").await?;
    assert_eq!(restored.report.attributes_skipped, 0);
    let reference = format!("{}/{REPO}:zoo", server.address());
    dockerd.docker(&["pull", &reference]).await?;
    compare(&dockerd, "filled", &reference).await
}
