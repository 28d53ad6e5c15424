//! Whatever goes wrong, nothing of it is in the container and nothing lies about.

use crate::support::{Container, Layer, REPO, client, names, noise, push, refused};
use anyhow::Result;
use mothball_domain::failure::FailureClass;
use mothball_harness::layer::{Flag, Item, tar};
use mothball_harness::proxy::{Address, Fault, Proxy, Rule};
use mothball_harness::registry::Registry as Server;
use mothball_harness::wait::eventually;
use mothball_image::oci::digest_of;
use mothball_image::{RestoreError, RestorePlan, RestoreProgress, restore};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(30);

fn good() -> Layer {
    Layer::of(&[Item::directory("d"), Item::file("d/good", noise(1, 2_000_000))])
}

async fn error_of(items: &[Item]) -> Result<RestoreError> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let container = Container::new()?;
    let plan = push(&registry, &[good(), Layer::of(items)]).await?;
    let error = refused(container.restore(&registry, &plan).await)?;
    assert!(container.is_clean(), "{error:?}");
    Ok(error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_layer_leaves_nothing() -> Result<()> {
    let link = Item::link("a", Flag::Symlink, "/tmp");
    for items in [
        vec![Item::file("../escaped", "x")],
        vec![link, Item::file("a/escaped", "x")],
        vec![Item::file("fine", "x"), Item::new("whiteout", Flag::Character)],
    ] {
        let error = error_of(&items).await?;
        assert!(matches!(error, RestoreError::Layer { .. }) && error.may_be_pulled(), "{error:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_a_volume_is_left_to_a_pull() -> Result<()> {
    let error = error_of(&[Item::directory("volume"), Item::file("volume/x", "x")]).await?;
    assert!(matches!(error, RestoreError::Unsuitable { .. }) && error.may_be_pulled(), "{error:?}");
    assert!(error.to_string().contains("/volume"), "{error}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_was_changed_never_reaches_the_container() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let bytes = tar(&[Item::file("a", noise(2, 300_000))]);
    // A plain tar: its last byte can be changed without anybody but the digest noticing.
    let plan = push(&registry, &[good(), Layer { tar: bytes.clone(), blob: bytes.into() }]).await?;
    server.corrupt_blob(plan.layers[1].blob.digest.as_str())?;
    let container = Container::new()?;
    let error = refused(container.restore(&registry, &plan).await)?;
    assert_eq!(error.failure().class, FailureClass::Registry, "{error:?}");
    assert!(container.is_clean());
    server.remove_blob(plan.layers[1].blob.digest.as_str())?;
    let error = refused(container.restore(&registry, &plan).await)?;
    assert_eq!(error.failure().class, FailureClass::Gone, "{error:?}");
    assert!(container.is_clean());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tar_that_is_not_the_configs_is_refused() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let mut plan = push(&registry, &[good()]).await?;
    plan.layers[0].diff_id = digest_of(b"another");
    let container = Container::new()?;
    let error = refused(container.restore(&registry, &plan).await)?;
    assert!(error.to_string().contains("hashes to"), "{error}");
    assert!(container.is_clean());
    Ok(())
}

/// What a decompressor and a tar reader get to see when whoever made the layer made its digests too.
#[tokio::test(flavor = "multi_thread")]
async fn broken_streams_are_refused_and_none_hangs() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let bytes = tar(&[
        Item::directory("d"),
        Item::file("d/a", noise(3, 150_000)),
        Item::file("d/b", vec![7; 90_000]),
    ]);
    let gzip = Layer::gzip(bytes.clone()).blob.to_vec();
    let zstd = zstd::encode_all(&bytes[..], 3)?;
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    for (kind, whole) in [("gzip", &gzip), ("zstd", &zstd), ("plain", &bytes)] {
        for part in 1..8 {
            blobs.push((format!("{kind} cut at {part}/8"), whole[..whole.len() * part / 8].to_vec()));
        }
        for seed in 1..15_u64 {
            let mut changed = whole.clone();
            let at = noise(seed, 8).iter().fold(0, |at, byte| at * 256 + usize::from(*byte)) % changed.len();
            changed[at] ^= 1 << (seed % 8);
            blobs.push((format!("{kind} changed at {at}"), changed));
        }
        blobs.push((format!("{kind} and more"), [&whole[..], b"nonsense"].concat()));
    }
    let trailer = blobs.len();
    blobs.push(("window".to_owned(), zstd_with_a_huge_window()));
    assert_eq!(blobs.len(), trailer + 1);
    for (what, blob) in blobs {
        let container = Container::new()?;
        let plan = push(&registry, &[Layer { tar: bytes.clone(), blob: blob.into() }]).await?;
        let ended = tokio::time::timeout(LIMIT, container.restore(&registry, &plan)).await;
        let ended = ended.unwrap_or_else(|_| panic!("{what} hangs"));
        // A changed byte that does not count (a time in gzip's header) changes nothing.
        match ended {
            Ok(_) => assert_eq!(std::fs::read(container.upper("d/b"))?, vec![7; 90_000], "{what}"),
            Err(error) => {
                assert!(matches!(error, RestoreError::Layer { .. }), "{what}: {error:?}");
                assert!(container.is_clean(), "{what}");
            }
        }
    }
    Ok(())
}

/// A frame that asks for 2 GiB of memory.
fn zstd_with_a_huge_window() -> Vec<u8> {
    vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00]
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_are_stopped_by_the_bounds() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let zeros = vec![0; 50_000_000];
    let bomb = Layer::of(&[Item::file("zeros", &zeros)]);
    let tail = Layer::gzip([tar(&[Item::file("small", "x")]), zeros].concat());
    for layer in [bomb, tail] {
        let mut container = Container::new()?;
        container.settings.bytes_max = 10_000_000;
        let error = refused(container.restore(&registry, &push(&registry, &[layer]).await?).await)?;
        assert!(matches!(error, RestoreError::TooLarge { unit: "bytes", .. }), "{error:?}");
        assert_eq!(error.failure().class, FailureClass::TooLarge);
        assert!(container.is_clean());
    }
    let mut container = Container::new()?;
    container.settings.entries_max = 1;
    let error = refused(container.restore(&registry, &push(&registry, &[good()]).await?).await)?;
    assert!(matches!(error, RestoreError::TooLarge { unit: "entries", .. }), "{error:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_breaks_is_taken_up_where_it_broke() -> Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::http(Address::Tcp(server.address())).await?;
    let registry = client(&proxy.url())?;
    let plan = push(&registry, &[good(), Layer::of(&[Item::file("b", noise(5, 3_000_000))])]).await?;
    proxy.inject(Rule::on("GET", "/blobs/").times(4), Fault::CutAnswer { after: 500_000 });
    let container = Container::new()?;
    let progress = Arc::new(RestoreProgress::default());
    let never = CancellationToken::new();
    restore(&registry, REPO, &plan, &container.settings, Arc::clone(&progress), &never).await?;
    assert_eq!(std::fs::read(container.upper("b"))?, noise(5, 3_000_000));
    assert_eq!(progress.bytes(), (plan.bytes(), plan.bytes()));

    proxy.inject(Rule::on("GET", "/blobs/"), Fault::CutAnswer { after: 10 });
    let container = Container::new()?;
    let error = refused(container.restore(&registry, &plan).await)?;
    assert_eq!(error.failure().class, FailureClass::Network, "{error:?}");
    assert!(container.is_clean());
    Ok(())
}

/// Two layers, of which one is in its directory and the other on its way when `end` happens.
async fn in_the_middle(
    end: impl AsyncFnOnce(tokio::task::JoinHandle<Result<(), RestoreError>>, CancellationToken) -> Result<()>,
) -> Result<Container> {
    let server = Server::start().await?;
    let proxy = Proxy::http(Address::Tcp(server.address())).await?;
    let registry = client(&proxy.url())?;
    let plan = push(&registry, &[good(), Layer::of(&[Item::file("b", noise(5, 1_000_000))])]).await?;
    let gate = proxy.hold_answer(Rule::on("GET", plan.layers[1].blob.digest.as_str()));
    let container = Container::new()?;
    let cancel = CancellationToken::new();
    let running = {
        let (settings, cancel, plan): (_, _, RestorePlan) =
            (container.settings.clone(), cancel.clone(), plan.clone());
        #[expect(clippy::disallowed_methods, reason = "a test drops it in the middle, or waits for it")]
        tokio::spawn(async move {
            let progress = Arc::new(RestoreProgress::default());
            restore(&registry, REPO, &plan, &settings, progress, &cancel).await.map(drop)
        })
    };
    let staging = &container.settings.staging;
    let whole = || async {
        let first = names(staging).into_iter().find(|name| name.starts_with("0-"))?;
        let found = std::fs::metadata(staging.join(first).join("d/good")).ok()?;
        (found.len() == 2_000_000).then_some(())
    };
    eventually(LIMIT, "the first layer", whole).await?;
    end(running, cancel).await?;
    drop(gate);
    Ok(container)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_it_at_once_and_leaves_nothing() -> Result<()> {
    let container = in_the_middle(async |running, cancel| {
        cancel.cancel();
        let error = refused(tokio::time::timeout(Duration::from_secs(3), running).await??)?;
        assert!(matches!(error, RestoreError::Cancelled), "{error:?}");
        Ok(())
    });
    assert!(container.await?.is_clean());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_future_that_is_dropped_leaves_nothing() -> Result<()> {
    let container = in_the_middle(async |running, _cancel| {
        running.abort();
        Ok(())
    });
    let container = container.await?;
    eventually(LIMIT, "nothing left", || async { container.is_clean().then_some(()) }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_restore_left_is_removed_by_the_next() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let container = Container::new()?;
    std::fs::create_dir_all(container.settings.staging.join("0/d/left"))?;
    let plan = push(&registry, &[good()]).await?;
    container.restore(&registry, &plan).await?;
    assert_eq!(
        (names(&container.upper("d")), names(container.dir.path()).len()),
        (vec!["good".to_owned()], 2)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_way_of_the_upper_directory_is_an_error() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let mut container = Container::new()?;
    container.settings.upper = container.dir.path().join("nowhere/diff");
    let plan = push(&registry, &[good()]).await?;
    let error = refused(container.restore(&registry, &plan).await)?;
    assert!(matches!(&error, RestoreError::Io { what, .. } if what.contains("nowhere")), "{error:?}");
    container.settings.upper = container.dir.path().join("diff");
    assert!(container.is_clean());
    Ok(())
}
