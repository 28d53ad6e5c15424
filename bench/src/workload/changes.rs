//! What happens in a container between two saves, and during one.

use anyhow::{Context as _, Result};
use mothball_harness::dockerd::Dockerd;

use super::Size;
use super::fill::AT;

/// Files of W1 that one round of changes appends to, and files that it deletes.
const TOUCHED: u32 = 300;
const DELETED: u32 = 200;
/// The file whose existence ends the writer.
const END: &str = "/tmp/writer-end";

/// Changes W1: new files, files that grow, files that are gone. Each round takes other files.
pub(crate) async fn change(dockerd: &Dockerd, container: &str, size: Size, round: u32) -> Result<()> {
    let (written, packages) = (size.changes_mb(), format!("{AT}/packages"));
    let grow = (round * TOUCHED + 1, (round + 1) * TOUCHED);
    let script = format!(
        "set -e
         mkdir -p {AT}/round-{round}
         for n in $(seq {written}); do
           dd if=/dev/urandom of={AT}/round-{round}/new-$n bs=1000000 count=1 2>/dev/null
         done
         find {packages} -name '*.py' -size -64k | sort | sed -n '{from},{to}p' >/tmp/grow
         while read -r file; do echo '# changed' >>\"$file\"; done </tmp/grow
         find {packages} -name '*.pyc' | sort | head -n {DELETED} | tr '\\n' '\\0' | xargs -0 rm",
        from = grow.0,
        to = grow.1,
    );
    dockerd.sh(container, &script).await.map(drop).with_context(|| format!("change W1, round {round}"))
}

/// Starts a process that writes 1 MB/s into the container: a save should not need a container that stands still.
pub(crate) async fn start_writer(dockerd: &Dockerd, container: &str) -> Result<()> {
    let script = format!(
        "mkdir -p /tmp/live; n=0
         while [ ! -e {END} ]; do
           dd if=/dev/urandom of=/tmp/live/$((n % 50)) bs=100000 count=1 2>/dev/null
           n=$((n + 1)); usleep 100000
         done"
    );
    dockerd.docker(&["exec", "--detach", container, "sh", "-c", &script]).await.map(drop)
}

/// Ends that process.
pub(crate) async fn stop_writer(dockerd: &Dockerd, container: &str) -> Result<()> {
    dockerd.docker(&["exec", container, "touch", END]).await.map(drop)
}
