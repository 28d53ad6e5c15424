//! However a layer is compressed, and however large it is.

use crate::support::{Container, Layer, client, names, noise, push};
use anyhow::{Context as _, Result};
use mothball_harness::layer::{Flag, Item, tar};
use mothball_harness::registry::Registry as Server;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

fn sample() -> Vec<Item> {
    let numbers = 0..40;
    let file = |n: u64| Item::file(format!("d/{n}"), noise(n, 30_000));
    [Item::directory("d")].into_iter().chain(numbers.map(file)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn gzip_zstd_and_plain_tars_are_restored() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let bytes = tar(&sample());
    let zstd = |part: &[u8]| zstd::encode_all(part, 3).unwrap();
    let single = isal::compress(&bytes[..], isal::CompressionLevel::Three, isal::Codec::Gzip)?;
    let cut = bytes.len() / 3;
    for (how, blob) in [
        ("members", Layer::gzip(bytes.clone()).blob.to_vec()),
        ("one member", single),
        ("zstd", zstd(&bytes)),
        ("zstd frames", [zstd(&bytes[..cut]), zstd(&bytes[cut..])].concat()),
        ("plain", bytes.clone()),
    ] {
        let container = Container::new()?;
        let plan = push(&registry, &[Layer { tar: bytes.clone(), blob: blob.into() }]).await?;
        let restored = container.restore(&registry, &plan).await.with_context(|| how.to_owned())?;
        assert_eq!(std::fs::read(container.upper("d/7"))?, noise(7, 30_000), "{how}");
        let report = &restored.report;
        assert_eq!(
            (report.entries, report.tar_bytes, report.file_bytes),
            (41, bytes.len() as u64, 1_200_000)
        );
        assert_eq!(names(container.dir.path()), ["diff", "lower"], "{how}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_own_content_leaves_the_upper_directory_empty() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    for layers in [vec![], vec![Layer::of(&[])], vec![Layer { tar: Vec::new(), blob: Vec::new().into() }]] {
        let container = Container::new()?;
        let plan = push(&registry, &layers).await?;
        container.restore(&registry, &plan).await?;
        assert!(container.is_clean());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_thousand_small_files_over_several_layers_are_restored() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    #[expect(clippy::disallowed_methods, reason = "how long a soak runs is no setting of the product")]
    let files = if std::env::var("MOTHBALL_SOAK").is_ok() { 1_000_000 } else { 100_000 };
    let slices = 5;
    let mut layers = Vec::new();
    for slice in 0..slices {
        let mut items = vec![Item::directory("./")];
        for directory in 0..files / 1000 {
            items.push(Item::directory(format!("d{directory}")));
            let numbers = (directory * 1000..(directory + 1) * 1000).filter(|n| n % slices == slice);
            items.extend(numbers.map(|n| Item::file(format!("d{directory}/{n}"), n.to_string())));
        }
        layers.push(Layer::of(&items));
    }
    let container = Container::new()?;
    let plan = push(&registry, &layers).await?;
    drop(layers);
    let start = Instant::now();
    let restored = container.restore(&registry, &plan).await?;
    let took = start.elapsed();
    println!("{files} files in {took:?}: {:?}", restored.report);
    assert_eq!(restored.index.tree().len(), files + files / 1000 + 1);
    for number in [0, 1, files / 2, files - 1] {
        let path = format!("d{}/{number}", number / 1000);
        assert_eq!(std::fs::read(container.upper(&path))?, number.to_string().as_bytes());
        let id = restored.index.tree().find(path.as_bytes()).unwrap();
        assert_eq!(restored.index.held(id).layer(), Some((number % slices) as u16));
        assert!(!restored.index.held(id).is_suspect());
        assert_eq!(restored.index.tree().node(id).ino, std::fs::metadata(container.upper(&path))?.ino());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_has_made_in_the_container_counts_as_the_oldest_layer() -> Result<()> {
    let server = Server::start().await?;
    let registry = client(&server.url())?;
    let container = Container::new()?;
    for path in ["work", "work/dir", "mount", "gone"] {
        std::fs::create_dir(container.upper(path))?;
    }
    let inode = std::fs::metadata(&container.settings.upper)?.ino();
    let mut root = Item::directory("./");
    (root.mode, root.owner, root.modified) = (0o711, (3, 4), (99, 7));
    let link = Item::link("mount", Flag::Symlink, "work");
    let items = [root, Item::directory("work"), Item::file("work/a", "x"), link, Item::file(".wh.gone", "")];
    container.restore(&registry, &push(&registry, &[Layer::of(&items)]).await?).await?;
    assert!(container.upper("work/dir").is_dir() && container.upper("work/a").is_file());
    assert!(container.upper("mount").is_symlink() && container.upper("gone").is_dir());
    let found = std::fs::metadata(&container.settings.upper)?;
    assert_eq!((found.ino(), found.mode() & 0o7777, found.uid(), found.gid()), (inode, 0o711, 3, 4));
    assert_eq!((found.mtime(), found.mtime_nsec()), (99, 7));
    Ok(())
}
