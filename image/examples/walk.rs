//! How long a look at a writable layer takes, and what of it, on this machine:
//!
//! ```text
//! cargo run --release -p mothball-image --example walk [DIRECTORY]
//! ```
//!
//! Without a directory it makes a million small files, twenty to a directory, and takes them away again.

use mothball_domain::image::Digest;
use mothball_image::layer::walk::KeepAll;
use mothball_image::layer::{Base, Index, LayerBlob, Root, Tree, walk};
use mothball_image::save::{ChangeSet, LayerSet, Rules, Sent, SliceReport, record, slices};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FILES: usize = 1_000_000;
const FILES_IN_DIRECTORY: usize = 20;
const ROUNDS: usize = 7;

fn main() -> io::Result<()> {
    let made = tempfile::tempdir()?;
    let directory = if let Some(directory) = std::env::args_os().nth(1) {
        PathBuf::from(directory)
    } else {
        make(made.path())?;
        made.path().to_owned()
    };
    let root = Root::open(&directory)?;
    let rules = Rules::new(&[]).map_err(io::Error::other)?;
    let base = Base { image_id: String::new(), diff_ids: Vec::new() };
    let tree = Arc::new(walk(&root, &KeepAll)?);
    let last = saved(&base, &tree);
    let (mut walks, mut differences) = (Vec::new(), Vec::new());
    let mut processors = Duration::ZERO;
    for _ in 0..ROUNDS {
        let (begun, used) = (Instant::now(), processor_time());
        let tree = walk(&root, &rules)?;
        walks.push(begun.elapsed());
        processors += processor_time().saturating_sub(used);
        let begun = Instant::now();
        let changes = ChangeSet::between(&tree, Some(&last), &LayerSet::new());
        differences.push(begun.elapsed());
        drop((tree, changes));
    }
    let mut out = io::stdout();
    writeln!(out, "{} entries", tree.len())?;
    writeln!(out, "walk        {}", spread(walks))?;
    let processors = processors.as_secs_f64() / ROUNDS as f64;
    writeln!(out, "  of processors, each: {processors:.3} s, whatever else runs here")?;
    writeln!(out, "difference  {}", spread(differences))?;
    writeln!(out, "peak        {} MB", peak_kib()? / 1000)
}

/// What a worker remembers after a first save.
fn saved(base: &Base, tree: &Arc<Tree>) -> Index {
    let full = ChangeSet::full(tree);
    let digest = Digest::from_sha256([0; 32]);
    let blob = LayerBlob {
        digest: digest.clone(),
        size: 0,
        diff_id: digest,
        media_type: String::new(),
        raw_bytes: 0,
    };
    let sent = |slice| Sent { slice: Arc::new(slice), report: SliceReport::default(), blob: blob.clone() };
    let sent: Vec<Sent> = slices(tree, &full, 16).into_iter().map(sent).collect();
    record(None, base, "", tree, &full, &sent, false)
}

fn make(at: &Path) -> io::Result<()> {
    for directory in 0..FILES / FILES_IN_DIRECTORY {
        let path = at.join(format!("lib{}/package{}/part{}", directory / 2500, directory / 50, directory));
        std::fs::create_dir_all(&path)?;
        for file in 0..FILES_IN_DIRECTORY {
            std::fs::write(path.join(format!("module_{file}.py")), b"")?;
        }
    }
    Ok(())
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let seconds = |time: &Duration| time.as_secs_f64();
    let (least, middle, most) = (times.first(), times.get(times.len() / 2), times.last());
    let shown = |time: Option<&Duration>| format!("{:.3} s", time.map_or(0.0, seconds));
    format!("median {}, {} to {}", shown(middle), shown(least), shown(most))
}

/// What this process has had of the processors.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The most memory that this process has had.
fn peak_kib() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0))
}
