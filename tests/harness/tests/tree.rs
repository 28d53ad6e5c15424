//! Whole-tree comparison sees every kind of difference, in a directory and in a container.

use std::path::Path;

use anyhow::Result;
use mothball_harness::busybox::IDLE;
use mothball_harness::dockerd::Dockerd;
use mothball_harness::tree::{Times, Tree};

#[tokio::test]
async fn sees_what_changed_in_a_container() -> Result<()> {
    let dockerd = Dockerd::start().await?;
    dockerd.import_busybox("base", &[IDLE]).await?;
    for name in ["one", "two"] {
        dockerd.docker(&["run", "--detach", "--name", name, "base"]).await?;
    }
    let before = Tree::of_container(&dockerd, "one").await?;
    assert!(before.entries.contains_key(Path::new("bin/busybox")));
    assert!(!before.entries.contains_key(Path::new("proc")));
    let untouched = Tree::of_container(&dockerd, "two").await?;
    let same = before.differences(&untouched, Times::Seconds);
    assert_eq!(same, [""; 0]);

    let script = "cd /home/user && echo hello >file && ln file again && ln -s file link && mkfifo pipe && \
                  mknod device c 1 3 && chown user file && chmod 4750 file && touch -d @978307200 file && rm /bin/vi";
    dockerd.sh("one", script).await?;
    let after = Tree::of_container(&dockerd, "one").await?;
    let differences = untouched.differences(&after, Times::Seconds);
    for path in ["file", "again", "link", "pipe", "device"] {
        let line = format!("/home/user/{path}: is missing in the first");
        assert!(differences.contains(&line), "{differences:#?}");
    }
    assert!(differences.contains(&"/bin/vi: is missing in the second".to_owned()));
    let file = &after.entries[Path::new("home/user/file")];
    assert_eq!((file.mode, file.owner.0, file.links), (0o4750, 1000, 2));
    assert_eq!(file.same_as.as_deref(), Some(Path::new("home/user/again")));
    assert_eq!(file.modified.0, 978_307_200);

    // Docker's own commit and a new container bring the same tree back, to the second.
    dockerd.docker(&["commit", "one", "saved"]).await?;
    dockerd.docker(&["run", "--detach", "--name", "three", "saved"]).await?;
    let again = Tree::of_container(&dockerd, "three").await?;
    assert_eq!(after.differences(&again, Times::Seconds), [""; 0]);
    Ok(())
}
