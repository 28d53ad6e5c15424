//! A root file system of four megabytes, made without a network.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::command;

/// The change that makes an image idle, and end at once when asked to stop: a shell as the first process ignores SIGTERM
/// unless it has a trap, and Docker would wait ten seconds.
pub const IDLE: &str = r#"CMD ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done"]"#;

const LIMIT: Duration = Duration::from_mins(1);
const DIRECTORIES: [(&str, u32); 12] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("home/user", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("var/tmp", 0o1777),
];

/// Writes an archive with the shell, every applet, and the users `root`, `user` (1000) and `nobody`.
pub async fn archive(root: &Path, archive: &Path) -> Result<()> {
    let busybox = command::program("busybox", "busybox-static")?;
    let applets = command::stdout(Command::new(&busybox).arg("--list"), LIMIT).await?;
    lay(root, &busybox, &applets).context("lay out the root file system")?;
    let mut tar = Command::new(command::program("tar", "tar")?);
    tar.args(["--numeric-owner", "--sort=name", "--create", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(root)
        .arg(".");
    command::stdout(&mut tar, LIMIT).await?;
    std::fs::remove_dir_all(root).context("remove the laid out files")
}

fn lay(root: &Path, busybox: &Path, applets: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(root)?;
    for (name, mode) in DIRECTORIES {
        std::fs::create_dir(root.join(name))?;
        std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(mode))?;
    }
    std::fs::copy(busybox, root.join("bin/busybox"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    std::fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n")?;
    std::os::unix::fs::chown(root.join("home/user"), Some(1000), Some(1000))
}
