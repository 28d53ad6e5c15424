//! Layers streamed up by the save's pipeline, against a real registry and lines that break.

use crate::keeping::Keeping;
use crate::support::{anonymous, noise, read};
use anyhow::{Context as _, Result};
use mothball_harness::proxy::{Address, Fault, Proxy, Rule};
use mothball_harness::registry::Registry as Server;
use mothball_harness::wait;
use mothball_image::oci::digest_of;
use mothball_image::save::{Codec, Pool, PoolSettings, Progress, SaveError, Upstream, upload_layer};
use mothball_image::{Credentials, Registry, RegistryError, RegistrySettings};
use std::io::{self, Read as _, Seek as _, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

const MIB: usize = 1024 * 1024;

fn upstream(registry: &Registry, codec: Codec) -> Result<Upstream> {
    let pool = Arc::new(Pool::new(PoolSettings { codec, ..PoolSettings::default() })?);
    let (progress, cancel) = (Progress::default(), CancellationToken::new());
    Ok(Upstream { registry: registry.clone(), repo: "p1/base".to_owned(), pool, progress, cancel })
}

/// Writes noise and zeros in turn, `mib` MiB of them, and returns how often it was called.
fn writes(
    mib: usize,
) -> (impl Fn(&mut dyn Write) -> io::Result<u64> + Send + Sync + 'static, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let count = calls.clone();
    let noise = noise(7, MIB);
    let write = move |to: &mut dyn Write| {
        let call = count.fetch_add(1, Ordering::Relaxed) + 1;
        for number in 0..mib {
            // Pieces that do not end with the blocks.
            to.write_all(&(number as u64).to_be_bytes())?;
            to.write_all(&noise[8..])?;
        }
        Ok(call)
    };
    (write, calls)
}

/// All that `write` writes.
fn whole(write: impl Fn(&mut dyn Write) -> io::Result<u64>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    write(&mut bytes)?;
    Ok(bytes)
}

/// What the system's own gunzip makes of it.
fn gunzip(packed: &[u8]) -> Result<std::fs::File> {
    let mut files = (tempfile::tempfile()?, tempfile::tempfile()?);
    files.0.write_all(packed)?;
    files.0.rewind()?;
    let status =
        std::process::Command::new("gzip").arg("-dc").stdin(files.0).stdout(files.1.try_clone()?).status()?;
    anyhow::ensure!(status.success(), "gzip: {status}");
    files.1.rewind()?;
    Ok(files.1)
}

/// The bytes of uploads on the registry's disk. (docker-registry 2.8 writes the state of the hash, of some 100 bytes,
/// once more after it has removed an upload.)
pub(crate) fn uploads(server: &Server) -> Vec<PathBuf> {
    let directory = server.directory().join("data/docker/registry/v2/repositories/p1/base/_uploads");
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().join("data")).filter(|data| data.exists()).collect()
}

async fn no_uploads(server: &Server) -> Result<()> {
    let gone = async || uploads(server).is_empty().then_some(());
    let left = wait::eventually(Duration::from_secs(10), "an upload that is gone", gone).await;
    left.with_context(|| format!("{:?} is left; {}", uploads(server), server.log()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_goes_up_and_comes_back() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    for (codec, mib) in [(Codec::Gzip, 30), (Codec::Zstd, 30), (Codec::Gzip, 0), (Codec::Gzip, 1)] {
        let to = upstream(&registry, codec)?;
        let (write, calls) = writes(mib);
        let raw = whole(&write)?;
        let (blob, call) = upload_layer(&to, write).await?;
        assert_eq!((call, calls.load(Ordering::Relaxed)), (2, 2));
        assert_eq!((blob.diff_id.clone(), blob.raw_bytes), (digest_of(&raw), raw.len() as u64));
        let packed = read(&registry, "p1/base", &blob.digest).await?;
        assert_eq!(packed.len() as u64, blob.size);
        assert_eq!((to.progress.read_bytes(), to.progress.sent_bytes()), (blob.raw_bytes, blob.size));
        let mut unpacked = Vec::new();
        match codec {
            Codec::Gzip => gunzip(&packed)?.read_to_end(&mut unpacked)?,
            Codec::Zstd => zstd::stream::read::Decoder::new(&packed[..])?.read_to_end(&mut unpacked)?,
        };
        assert!(unpacked == raw, "{codec:?}");
    }
    assert!(uploads(&server).is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_layer_that_is_there_is_not_sent_again() -> Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::http(Address::Tcp(server.address())).await?;
    let to = upstream(&anonymous(&proxy.url())?, Codec::Gzip)?;
    let (first, _) = upload_layer(&to, writes(2).0).await?;
    let (second, _) = upload_layer(&to, writes(2).0).await?;
    assert_eq!(first, second);
    assert_eq!((proxy.count("POST", ""), proxy.count("PATCH", ""), proxy.count("PUT", "")), (1, 1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_keeps_what_came_gets_only_the_rest() -> Result<()> {
    let server = Keeping::start(vec![5 * MIB + 3, 0, 100, 7 * MIB]).await?;
    let to = upstream(&anonymous(server.url())?, Codec::Gzip)?;
    let (write, calls) = writes(40);
    let (blob, _) = upload_layer(&to, write).await?;
    let held = server.held();
    assert_eq!((calls.load(Ordering::Relaxed), held.requests.len(), held.done), (1, 5, true));
    assert_eq!((digest_of(&held.bytes), held.bytes.len() as u64), (blob.digest, blob.size));
    let again = to.progress.sent_bytes() - blob.size;
    assert!(again < 40 * MIB as u64, "{again} bytes were sent again");
    assert_eq!(to.progress.read_bytes(), blob.raw_bytes);
    Ok(())
}

/// docker-registry 2.8 drops an upload whose line is cut: the layer is made again, by itself. (The bytes that came
/// stay on its disk until it cleans up: it no longer knows the upload that they belong to.)
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_drops_what_came_gets_the_layer_again() -> Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::http(Address::Tcp(server.address())).await?;
    let to = upstream(&anonymous(&proxy.url())?, Codec::Gzip)?;
    for fault in [Fault::CutRequest { after: 20 * MIB as u64 }, Fault::LoseAnswer] {
        proxy.inject(Rule::on("PATCH", "").times(1), fault);
        let (write, calls) = writes(40);
        let raw = whole(&write)?;
        let (blob, _) = upload_layer(&to, write).await?;
        assert_eq!(calls.load(Ordering::Relaxed), 3, "once for the test, twice for the layer");
        assert_eq!(blob.diff_id, digest_of(&raw));
        assert_eq!(read(&anonymous(&server.url())?, "p1/base", &blob.digest).await?.len() as u64, blob.size);
        proxy.clear();
        server.remove_blob(blob.digest.as_str())?;
    }
    assert_eq!(to.progress.read_bytes(), 80 * MIB as u64, "what was read for nothing does not count");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_in_the_middle_are_brought_anew() -> Result<()> {
    let server = Server::options().login("me", "pw").start().await?;
    let proxy = Proxy::http(Address::Tcp(server.address())).await?;
    let registry = crate::support::client(&proxy.url(), crate::support::basic("me", "pw"))?;
    let to = upstream(&registry, Codec::Gzip)?;
    for method in ["POST", "PATCH", "PUT"] {
        let asks = Fault::Answer {
            status: 401,
            body: String::new(),
            headers: vec!["WWW-Authenticate: Basic realm=\"test\"".to_owned()],
        };
        proxy.inject(Rule::on(method, "/blobs/").times(1), asks);
    }
    let (write, _) = writes(40);
    let raw = whole(&write)?;
    let (blob, _) = upload_layer(&to, write).await?;
    assert_eq!(blob.diff_id, digest_of(&raw));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_stands_still_is_given_up_after_the_limit() -> Result<()> {
    let server = Server::start().await?;
    drop(anonymous(&server.url())?);
    let mut settings = RegistrySettings::new(server.url(), Credentials::Anonymous);
    settings.stall_timeout = Duration::from_millis(500);
    settings.timeout = Duration::from_millis(500);
    let registry = Registry::new(settings)?;
    let to = upstream(&registry, Codec::Gzip)?;
    let freezer = Arc::new(server);
    let frozen = freezer.clone();
    let begin = Instant::now();
    let result = upload_layer(&to, move |tar: &mut dyn Write| {
        let block = noise(3, MIB);
        for number in 0..200 {
            if number == 20 {
                frozen.pause();
            }
            tar.write_all(&block)?;
        }
        Ok(())
    })
    .await;
    freezer.resume();
    let error = result.err().context("it went well and should not have")?;
    assert!(matches!(error, SaveError::Registry(RegistryError::Timeout { .. })), "{error:?}");
    assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", begin.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_layer_ends_at_once_and_leaves_no_upload() -> Result<()> {
    let server = Server::start().await?;
    let registry = anonymous(&server.url())?;
    // Before anything is sent, in the middle of the blob, and while the tar stands still.
    for mib in [0, 10, 60] {
        let to = upstream(&registry, Codec::Gzip)?;
        let (cancel, inner) = (to.cancel.clone(), to.cancel.clone());
        let result = upload_layer(&to, move |tar: &mut dyn Write| {
            let block = noise(3, MIB);
            for number in 0.. {
                if number == mib {
                    cancel.cancel();
                }
                tar.write_all(&block)?;
            }
            Ok(())
        });
        let begin = {
            let stopped = async {
                inner.cancelled().await;
                Instant::now()
            };
            let (result, begin) = tokio::join!(result, stopped);
            assert!(matches!(result, Err(SaveError::Cancelled)), "{result:?}");
            begin
        };
        assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
        assert_eq!(to.progress.read_bytes(), 0);
        no_uploads(&server).await?;
    }
    assert!(server.blobs()?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tar_that_cannot_be_written_is_an_error_and_leaves_nothing() -> Result<()> {
    let server = Server::start().await?;
    let to = upstream(&anonymous(&server.url())?, Codec::Gzip)?;
    for mib in [0, 30] {
        let result = upload_layer(&to, move |tar: &mut dyn Write| {
            for number in 0..mib {
                tar.write_all(&noise(number, MIB))?;
            }
            Err::<(), _>(io::Error::other("the disk is broken"))
        })
        .await;
        let error = result.err().context("it went well and should not have")?.to_string();
        assert_eq!(error, "cannot read the container's files: the disk is broken");
        no_uploads(&server).await?;
    }
    assert!(server.blobs()?.is_empty());
    Ok(())
}

/// Several layers at once, one of which stands still for a while: the others go on, all end.
#[tokio::test(flavor = "multi_thread")]
async fn layers_share_memory_and_do_not_starve_each_other() -> Result<()> {
    let server = Server::start().await?;
    let proxy = Proxy::http(Address::Tcp(server.address())).await?;
    let pool = Arc::new(Pool::new(PoolSettings { memory_bytes: 1, ..PoolSettings::default() })?);
    let to = |registry| Upstream {
        registry,
        repo: "p1/base".to_owned(),
        pool: pool.clone(),
        progress: Progress::default(),
        cancel: CancellationToken::new(),
    };
    let slow = to(anonymous(&proxy.url())?);
    let gate = proxy.hold_after(Rule::on("PATCH", ""), 1000);
    let (quick, direct) = (to(anonymous(&server.url())?), to(anonymous(&server.url())?));
    let held = async {
        let done = upload_layer(&slow, writes(50).0).await;
        Ok::<_, anyhow::Error>(done?)
    };
    let others = async {
        gate.reached(Duration::from_secs(20)).await?;
        let (one, two) =
            tokio::join!(upload_layer(&quick, writes(60).0), upload_layer(&direct, writes(61).0));
        gate.open();
        Ok::<_, anyhow::Error>((one?, two?))
    };
    let (held, others) = tokio::join!(held, others);
    let ((held, _), ((one, _), (two, _))) = (held?, others?);
    assert_eq!([held.raw_bytes, one.raw_bytes, two.raw_bytes], [50, 60, 61].map(|mib| mib * MIB as u64));
    Ok(())
}
