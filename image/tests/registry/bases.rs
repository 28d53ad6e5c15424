//! Base layers found, mounted and exported; images that are put together and read by a Docker that is not ours.

use crate::support::anonymous;
use anyhow::{Context as _, Result};
use mothball_domain::image::Digest;
use mothball_harness::dockerd::Dockerd;
use mothball_harness::proxy::{Address, Fault, Proxy, Rule};
use mothball_harness::registry::Registry as Server;
use mothball_image::save::{
    self, BaseCache, Parts, Pool, PoolSettings, Progress, Provenance, SaveError, Upstream,
};
use mothball_image::{BaseNote, Descriptor, ImageConfig, Registry, ScrubRules};
use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use tokio::process::ChildStdout;
use tokio_util::sync::CancellationToken;

pub(crate) fn upstream(registry: &Registry, repo: &str) -> Result<Upstream> {
    Ok(Upstream {
        registry: registry.clone(),
        repo: repo.to_owned(),
        pool: Arc::new(Pool::new(PoolSettings::default())?),
        progress: Progress::default(),
        cancel: CancellationToken::new(),
    })
}

/// What `docker save` writes.
pub(crate) fn export(dockerd: &Dockerd, image: &str) -> std::io::Result<ChildStdout> {
    let mut client = dockerd.client().map_err(std::io::Error::other)?;
    let mut child = client.args(["save", image]).stdout(Stdio::piped()).spawn()?;
    child.stdout.take().ok_or_else(|| std::io::Error::other("no output"))
}

/// The image's config, as Docker's export has it.
pub(crate) async fn config(dockerd: &Dockerd, image: &str) -> Result<(Digest, ImageConfig)> {
    let id = dockerd.docker(&["image", "inspect", "--format", "{{.Id}}", image]).await?;
    let id = Digest::new(id.trim())?;
    let file = dockerd.data().join("image/overlay2/imagedb/content/sha256").join(id.hex());
    Ok((id, ImageConfig::parse("read the base's config", &std::fs::read(file)?)?))
}

pub(crate) fn provenance(image_id: Digest) -> Provenance {
    let base = BaseNote { image_id, manifest: None, name: Some("base:1".to_owned()) };
    let (container, job) = (Some("c1".to_owned()), Some("j1".to_owned()));
    Provenance { created: "2026-11-25T12:00:00Z".to_owned(), base, container, job }
}

fn digests(layers: &[Descriptor]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.digest.clone()).collect()
}

/// A base of two layers.
async fn base(dockerd: &Dockerd) -> Result<(Digest, ImageConfig)> {
    dockerd.import_busybox("plain:1", &["CMD [\"/bin/sh\"]"]).await?;
    dockerd
        .docker(&["run", "--name", "b1", "--network", "none", "plain:1", "sh", "-c", "echo base >/base"])
        .await?;
    dockerd
        .docker(&[
            "commit",
            "-c",
            "ENV OF_BASE=yes",
            "-c",
            "CMD [\"cat\",\"/base\",\"/own\"]",
            "b1",
            "base:1",
        ])
        .await?;
    dockerd.docker(&["rm", "b1"]).await?;
    config(dockerd, "base:1").await
}

/// A tar with one file, as this machine's tar writes it.
fn tar(name: &str, content: &str) -> Result<Vec<u8>> {
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join(name), content)?;
    let output = std::process::Command::new("tar").arg("-C").arg(dir.path()).args(["-c", name]).output()?;
    anyhow::ensure!(output.status.success(), "tar: {}", output.status);
    Ok(output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_put_together_is_pulled_and_run() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    let (saver, other) = (Dockerd::start().await?, Dockerd::start().await?);
    let (id, config) = base(&saver).await?;
    let to = upstream(&registry, "p1/base")?;
    let cache = BaseCache::default();
    let export = || async { export(&saver, "base:1") };
    let base_layers = save::base_layers(&to, &config.rootfs.diff_ids, &cache, &[], export).await?;
    assert_eq!(base_layers.len(), 2);

    let own = [tar("own", "first\n")?, tar("own", "second\n")?];
    let mut layers = Vec::new();
    for tar in own {
        layers.push(save::upload_layer(&to, move |out: &mut dyn Write| out.write_all(&tar)).await?.0);
    }
    let parts = Parts {
        base: &config,
        base_layers: &base_layers,
        layers: &layers,
        rules: &ScrubRules { comment: Some("job j1".to_owned()), ..ScrubRules::default() },
        provenance: &provenance(id),
    };
    let image = save::assemble(&parts)?;
    let digest = save::assemble::put(&to, &image).await?;
    assert_eq!(save::assemble::put(&to, &image).await?, digest);
    let proof = registry.verify("p1/base", &digest).await?;
    assert_eq!(proof.layers, 4);

    let name = format!("{}/p1/base@{digest}", server.address());
    other.docker(&["pull", &name]).await?;
    let said = other.docker(&["run", "--rm", "--network", "none", &name]).await?;
    assert_eq!(said, "base\nsecond");
    let env = other.docker(&["image", "inspect", "--format", "{{.Config.Env}}", &name]).await?;
    assert!(env.contains("OF_BASE=yes"), "{env}");
    let history = other.docker(&["history", "--format", "{{.CreatedBy}} {{.Comment}}", &name]).await?;
    assert_eq!(history.matches("mothball save").count(), 2, "{history}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn base_layers_are_exported_once_then_found_mounted_or_learned() -> Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::http(Address::Tcp(server.address())).await?;
    let registry = anonymous(&proxy.url())?;
    let saver = Dockerd::start().await?;
    let (_, config) = base(&saver).await?;
    let diff_ids = &config.rootfs.diff_ids;
    let dir = tempfile::tempdir()?;
    let cache = BaseCache::open(&dir.path().join("base.json"));
    let never = || async { Err::<ChildStdout, _>(std::io::Error::other("exported again")) };

    // The registry loses the second layer's upload; Docker exports again, and what is there is not sent again.
    proxy.inject(Rule::on("PATCH", "/blobs/").skip(1).times(1), Fault::LoseAnswer);
    let to = upstream(&registry, "p1/base")?;
    let once = || async { export(&saver, "base:1") };
    let exported = save::base_layers(&to, diff_ids, &cache, &[], once).await?;
    assert_eq!(proxy.count("PATCH", ""), 3);
    for blob in &exported {
        assert_eq!(registry.blob_size("p1/base", &blob.digest).await?, Some(blob.size));
    }

    proxy.forget();
    assert_eq!(save::base_layers(&to, diff_ids, &cache, &[], never).await?, exported);
    let second = upstream(&registry, "p2/base")?;
    let again = BaseCache::open(&dir.path().join("base.json"));
    assert_eq!(save::base_layers(&second, diff_ids, &again, &[], never).await?, exported, "mounted");
    assert_eq!((proxy.count("PATCH", ""), proxy.count("PUT", "")), (0, 0));

    // Nothing is known any more, but the image itself is in the registry, as Docker pushed it.
    let pushed = format!("{}/bases/base:1", server.address());
    saver.docker(&["tag", "base:1", &pushed]).await?;
    saver.docker(&["push", &pushed]).await?;
    let third = upstream(&registry, "p3/base")?;
    let places = [("bases/none".to_owned(), "1".to_owned()), ("bases/base".to_owned(), "1".to_owned())];
    let learned = save::base_layers(&third, diff_ids, &BaseCache::default(), &places, never).await?;
    let manifest = registry.manifest("bases/base", "1").await?.context("no manifest")?;
    assert_eq!(digests(&learned), digests(&manifest.image()?.layers));
    assert!(learned.iter().all(|layer| layer.media_type.starts_with("application/vnd.oci")));

    // A blob that got lost behind our back is not believed in.
    server.remove_blob(exported[1].digest.as_str())?;
    let once = || async { export(&saver, "base:1") };
    assert_eq!(save::base_layers(&to, diff_ids, &cache, &[], once).await?, exported);
    registry.blob_size("p1/base", &exported[1].digest).await?.context("it is not there again")?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_another_image_says_what_is_missing() -> Result<()> {
    let server = Server::start().await?;
    let saver = Dockerd::start().await?;
    base(&saver).await?;
    let to = upstream(&anonymous(&server.url())?, "p1/base")?;
    let absent = mothball_image::oci::digest_of(b"absent");
    let cache = BaseCache::default();
    let other = || async { export(&saver, "plain:1") };
    let error = save::base_layers(&to, std::slice::from_ref(&absent), &cache, &[], other).await.err();
    let error = error.context("it went well and should not have")?;
    assert!(matches!(&error, SaveError::Base(text) if text.contains(absent.as_str())), "{error:?}");
    assert!(error.failure().is_permanent());
    Ok(())
}
