//! Processes that write until they die, and a witness outside of the container.
//!
//! A writer appends a numbered line to a file of the container and then the same line to a file of the witness, a mount that
//! no image holds. So the container's file is never behind the witness by its own doing: an image whose file is behind has
//! lost what the container wrote after the saved instant.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::wait::{eventually, try_eventually};
use tempfile::TempDir;

use crate::flow::{background, root};

const LIMIT: Duration = Duration::from_mins(1);
/// None of them is the container's first process: two shells that spin, and one that forks for every line.
const WRITERS: [&str; 3] = ["one", "two", "fork"];
/// Goes on where the file ends: in a container that was launched from an image of the last one.
const SPINS: &str = "f=/journal/$W; w=/witness/$N-$W; i=$(tail -n 1 $f 2>/dev/null || echo 0)
    while :; do i=$((i+1)); echo $i >> $f; echo $i >> $w; done";
const FORKS: &str = "f=/journal/$W; w=/witness/$N-$W; i=$(tail -n 1 $f 2>/dev/null || echo 0)
    while :; do i=$((i+1)); sh -c \"echo $i >> $f; echo $i >> $w\"; done";

/// Where writers are witnessed.
#[derive(Debug)]
pub struct Witness {
    directory: TempDir,
}

/// The writers of one journal, which may live in several containers, one after the other.
#[derive(Debug)]
pub struct Writers<'a> {
    witness: &'a Witness,
    name: String,
}

impl Witness {
    /// Makes the directory that every container mounts.
    pub fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::tempdir().context("make the witness's directory")? })
    }

    /// The lines of Mothball's configuration that mount it. Writers get one CPU: the servers need one, too.
    pub fn configuration(&self) -> String {
        format!(
            "[[mounts]]\ntarget = \"/witness\"\nsource = \"{}\"\n\
             [[flavors]]\nname = \"cpu-small\"\ngpus = 0\ncpus = 1\nmemory = \"512MiB\"\nprice_per_hour = \"2\"",
            self.directory.path().display()
        )
    }

    /// Describes the writers of a journal of this name.
    pub fn writers(&self, name: &str) -> Writers<'_> {
        Writers { witness: self, name: name.to_owned() }
    }
}

impl Writers<'_> {
    /// Starts the writers in a container and waits until all of them write.
    pub async fn start(&self, dockerd: &Dockerd, docker_id: &str) -> Result<()> {
        root(dockerd, docker_id, "mkdir -p /journal").await?;
        let before = self.seen()?;
        for writer in WRITERS {
            let script = if writer == "fork" { FORKS } else { SPINS };
            // Of their own session, so that none of them ends with the command that started it.
            let script = format!("W={writer} N={}; {script}", self.name);
            background(dockerd, docker_id, &script).await?;
        }
        self.write_on(&before).await
    }

    /// The last line of each writer that the witness has seen.
    pub fn seen(&self) -> Result<Vec<u64>> {
        WRITERS.iter().map(|writer| last_line(&self.file(writer))).collect()
    }

    /// Waits until every writer has written more than that.
    pub async fn write_on(&self, before: &[u64]) -> Result<()> {
        try_eventually(LIMIT, "all writers to write on", async || {
            let seen = self.seen()?;
            Ok(seen.iter().zip(before).all(|(now, before)| now > before).then_some(()))
        })
        .await
    }

    /// Checks that a container made of the image has every line that the witness has.
    pub async fn are_whole_in(&self, dockerd: &Dockerd, docker_id: &str) -> Result<()> {
        for (writer, seen) in WRITERS.iter().zip(self.seen()?) {
            // Awk counts on its own: a line that is missing in the middle shows as well.
            let script = format!("awk '$1 != NR {{ exit 1 }} END {{ print NR }}' /journal/{writer}");
            let own = root(dockerd, docker_id, &script).await;
            let own: u64 = own.with_context(|| format!("count the lines of {writer}"))?.parse()?;
            ensure!(
                own == seen || own == seen + 1,
                "writer {writer} wrote {seen} lines before it died, and the image has {own}"
            );
        }
        Ok(())
    }

    /// Checks that nothing is written now: asks several times and waits for what may be on its way in between.
    pub async fn are_frozen(&self, dockerd: &Dockerd) -> Result<()> {
        let before = self.seen()?;
        let mut looks = 0;
        eventually(LIMIT, "a while to pass", async || {
            looks += 1;
            dockerd.docker(&["ps", "--quiet"]).await.ok()?;
            (looks > 5).then_some(())
        })
        .await?;
        let after = self.seen()?;
        ensure!(before == after, "frozen writers wrote: {before:?} {after:?}");
        Ok(())
    }

    fn file(&self, writer: &str) -> std::path::PathBuf {
        self.witness.directory.path().join(format!("{}-{writer}", self.name))
    }
}

/// The last whole line of a file as a number; zero where there is none.
fn last_line(file: &Path) -> Result<u64> {
    let Ok(text) = std::fs::read_to_string(file) else { return Ok(0) };
    let Some(last) = text.split_inclusive('\n').rfind(|line| line.ends_with('\n')) else { return Ok(0) };
    last.trim_end().parse().with_context(|| format!("read {} as a number", last.trim_end()))
}
