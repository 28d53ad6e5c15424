//! What a direct save holds is the container's file system at one instant, to the nanosecond: every kind of entry, what was
//! changed and deleted, and what a writer does who never rests. And what follows from it: a save after a wake is a small one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::dockerd::Dockerd;
use mothball_harness::http::Api;
use mothball_harness::proxy::Rule;
use mothball_harness::system::{BASE, JOB_LIMIT, Pair, System};
use mothball_harness::tree::{Times, Tree};
use mothball_tests::flow::{self, Launched, background, root};
use mothball_tests::{on_both_pairs, soak};
use serde_json::{Value, json};

use crate::faults::{Way, assert_clean, options, proxy};

on_both_pairs!(
    every_kind_of_entry_comes_back,
    a_writer_that_never_rests_is_saved_at_one_instant,
    a_save_after_a_wake_sends_only_what_changed,
);

const LIMIT: Duration = Duration::from_mins(1);

/// All that a file system can hold and a layer can carry, and at the end two things that none can.
const TRAPS: &str = "set -e
    d=/srv/traps; mkdir -p $d; cd $d
    echo one > file; ln file hard-a; mkdir sub; ln file sub/hard-b; ln -s file soft; ln -s /nowhere broken
    mkfifo fifo; mknod char c 1 3; mknod block b 7 200
    echo x > suid; chmod 4755 suid; echo x > sgid; chmod 2750 sgid; mkdir sticky; chmod 1777 sticky
    echo x > far; chown 4000000000:4000000001 far; echo x > closed; chmod 0 closed
    : > empty; echo x > 'with spaces'; echo x > 'ünïcödé'; echo x > \"$(printf 'not-utf8-\\377\\376')\"
    echo x > $(printf '%0255d' 7); echo x > '.wh'; echo x > 'a.wh.b'; echo x > '-rf'
    echo old > old; touch -d '1969-12-31 23:59:58' old; echo far > future; touch -d '2106-01-02 03:04:05' future
    p=$d; for i in $(seq 40); do p=$p/$(printf '%060d' $i); mkdir $p; done; echo deep > $p/file
    truncate -s 16M sparse; printf end | dd of=sparse bs=1 seek=9000000 conv=notrunc 2>/dev/null
    dd if=/dev/urandom of=random bs=1k count=300 2>/dev/null
    i=0; mkdir many; while test $i -lt 500; do echo $i > many/$i; i=$((i+1)); done
    # Of the base: a file and a directory deleted, a directory made anew, one entry turned into another, only a mode changed.
    rm /bin/yes; rm -r /home/user; rm -r /var/tmp; mkdir /var/tmp; echo new > /var/tmp/only
    rm /bin/wc; mkdir /bin/wc; echo in > /bin/wc/in; rm -r /usr; echo file > /usr; chmod 700 /root
    echo hidden > .wh.file; mkdir .wh.dir";

/// What a second save meets: each kind of change to what the first one holds.
const CHANGES: &str = "set -e; cd /srv/traps
    rm soft; echo more >> hard-a; rm sub/hard-b; chmod 700 sub; chown 5:6 empty; touch fifo
    rm -r sticky; mkdir sticky; echo inside > sticky/new; rm far; mkdir far; echo x > far/x
    rm -r many; echo 'a file now' > many; mv random moved; rm broken; ln -s elsewhere broken
    rm /usr; mkdir /usr; echo back > /usr/back; rm -r /bin/wc; echo '#' > /bin/wc; rm /var/tmp/only
    d=$(ls -d 0*1); mv $d renamed; : > sparse";

async fn every_kind_of_entry_comes_back(pair: Pair) -> Result<()> {
    let mut system = options(pair).start().await?;
    let api = system.operator()?;
    let container = flow::launch(&api, "box", BASE).await?;
    root(system.dockerd(), &container.docker_id, TRAPS).await?;
    set_attributes(&system, &container).await?;

    let before = tree(&system, &container).await?;
    let job = flow::save_and_keep(&api, &container.id, "v1").await?;
    let notes = flow::notes(&job);
    for word in ["way: direct", ".wh.file", ".wh.dir", "/srv/traps/socket"] {
        ensure!(notes.contains(word), "no {word:?} in the notes: {notes}");
    }
    comes_back(&system, &api, "one", "base:v1", &before).await.context("the first save")?;
    pulled(&api, "base:v1", &before).await.context("a plain pull of the first save")?;

    root(system.dockerd(), &container.docker_id, CHANGES).await?;
    let changed = tree(&system, &container).await?;
    flow::save_and_keep(&api, &container.id, "v2").await?;
    comes_back(&system, &api, "two", "base:v2", &changed).await.context("the second save")?;
    pulled(&api, "base:v2", &changed).await.context("a plain pull of the second save")?;

    flow::save_and_delete(&api, &container.id, "v3").await?;
    if pair == Pair::Servers {
        // On a node that has neither the image nor its base.
        system.add_node("node-b").await?;
        system.nodes[1].dockerd.docker(&["rmi", "--force", BASE]).await?;
        api.post("/v1/nodes/node-a/drain", &json!({})).await?.expect(200)?;
        let other = flow::launch(&api, "other", "base:v3").await?;
        assert_eq!(other.node, "node-b");
        let after = Tree::of_container(&system.nodes[1].dockerd, &other.docker_id).await?;
        assert_eq!(changed.differences(&after, Times::Nanoseconds), Vec::<String>::new());
        return Ok(());
    }
    comes_back(&system, &api, "three", "base:v3", &changed).await.context("the third save")?;
    assert_clean(&system).await
}

/// What a shell cannot make: attributes of users, capabilities on a file and so on its other names, a socket.
async fn set_attributes(system: &System, container: &Launched) -> Result<()> {
    let pid = system.dockerd().container_pid(&container.docker_id).await?;
    let at = PathBuf::from(format!("/proc/{pid}/root/srv/traps"));
    // cap_net_raw, permitted and effective, as the kernel keeps it.
    let capability: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::lsetxattr(at.join(name), attribute, value, rustix::fs::XattrFlags::empty())
            .with_context(|| format!("set {attribute} of {name}"))
    };
    std::os::unix::net::UnixListener::bind(at.join("socket")).context("make a socket")?;
    set("file", "security.capability", &capability)?;
    set("empty", "user.note", b"a note\n=\0binary")?;
    set("sub", "user.note", b"of a directory")?;
    set("soft", "trusted.note", b"of a link")
}

/// What a layer can hold of the container's file system.
async fn tree(system: &System, container: &Launched) -> Result<Tree> {
    let mut tree = Tree::of_container(system.dockerd(), &container.docker_id).await?;
    let lost =
        |path: &Path| path.components().any(|part| part.as_os_str().as_encoded_bytes().starts_with(b".wh."));
    tree.entries.retain(|path, entry| entry.kind != "socket" && !lost(path));
    Ok(tree)
}

/// Launches an image and compares all of it.
async fn comes_back(system: &System, api: &Api, name: &str, image: &str, before: &Tree) -> Result<()> {
    let body = json!({"name": name, "image": image, "flavor": "cpu-small"});
    let job = api.post("/v1/containers", &body).await?.job_id(202)?;
    let job = api.wait_success(&job, JOB_LIMIT).await?;
    ensure!(flow::notes(&job).contains("way: direct"), "not restored: {}", flow::notes(&job));
    let copy = flow::launched(api, &flow::text(&job["container"])).await?;
    let after = Tree::of_container(system.dockerd(), &copy.docker_id).await?;
    assert_eq!(before.differences(&after, Times::Nanoseconds), Vec::<String>::new());
    let delete = api.delete(&format!("/v1/containers/{}", copy.id)).await?.job_id(202)?;
    api.wait_success(&delete, JOB_LIMIT).await.map(drop)
}

/// Pulls an image by an engine that has never heard of Mothball, and compares all of it.
async fn pulled(api: &Api, image: &str, before: &Tree) -> Result<()> {
    let reference = flow::text(&flow::image(api, image).await?["reference"]);
    let stranger = Dockerd::start().await?;
    stranger.docker(&["pull", &reference]).await?;
    stranger.docker(&["run", "--detach", "--name", "copy", &reference]).await?;
    let after = Tree::of_container(&stranger, "copy").await?;
    let mut before = before.clone();
    for entry in before.entries.values_mut().filter(|entry| entry.modified.0 < 0) {
        // Docker knows no time before 1970.
        entry.modified = (0, 0);
    }
    assert_eq!(before.differences(&after, Times::Nanoseconds), Vec::<String>::new());
    Ok(())
}

/// Writes through memory: what it stores changes neither a size nor, once a page is dirty, any time.
const MAPPER: &str = r#"
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
  int fd = open("/srv/live/mapped", O_RDWR | O_CREAT, 0644);
  if (fd < 0 || ftruncate(fd, 1 << 20)) return 1;
  volatile uint64_t *map = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) return 1;
  for (uint64_t i = 1;; i++) {
    map[i * 509 % (1 << 17)] = i;
    if (i % 64 == 0) usleep(500);
  }
}
"#;

/// Rewrites, truncates, renames, deletes, links and makes anew, each as fast as it can.
const WRITERS: [&str; 4] = [
    "i=0; while :; do i=$((i+1)); head -c $((i * 37 % 9000)) /dev/urandom > f$((i % 23)); done",
    "i=0; while :; do i=$((i+1)); mkdir -p d$((i % 7))/e; echo $i > d$((i % 7))/e/x; mv d$((i % 7))/e/x d$(((i + 1) % 7)) 2>/dev/null; rm -rf d$(((i + 3) % 7)); done",
    "i=0; while :; do i=$((i+1)); echo $i > a; ln -f a b$((i % 5)); ln -sfn a s$((i % 5)); rm -f b$(((i + 2) % 5)); chmod $((i % 8))44 a; done",
    "i=0; while :; do i=$((i+1)); echo $i >> log; if test $((i % 1000)) = 0; then : > log; fi; done",
];

async fn a_writer_that_never_rests_is_saved_at_one_instant(pair: Pair) -> Result<()> {
    let system = options(pair).start().await?;
    let api = system.operator()?;
    let engine = system.dockerd();
    let container = flow::launch(&api, "box", BASE).await?;
    root(engine, &container.docker_id, "mkdir -p /srv/live").await?;
    let mapper = compiled(MAPPER)?;
    engine
        .docker(&[
            "cp",
            &mapper.path().join("program").to_string_lossy(),
            &format!("{}:/bin/mapper", container.docker_id),
        ])
        .await?;
    background(engine, &container.docker_id, "exec /bin/mapper").await?;
    for writer in WRITERS {
        background(engine, &container.docker_id, &format!("cd /srv/live && {writer}")).await?;
    }
    let docker = proxy(&system, Way::Docker)?;
    for round in 1..=soak::size(3, 100) {
        // Held where it is about to be thawed: all that the image gets has been read.
        let gate = docker.hold(Rule::on("POST", "/unpause").times(1));
        let tag = format!("r{round}");
        let job = flow::save(&api, &container.id, &json!({"tag": tag})).await?;
        gate.reached(LIMIT).await?;
        let frozen = Tree::of_container(engine, &container.docker_id).await?;
        gate.open();
        docker.clear();
        api.wait_success(&job, JOB_LIMIT).await?;
        comes_back(&system, &api, &format!("copy{round}"), &format!("base:{tag}"), &frozen)
            .await
            .with_context(|| format!("round {round}"))?;
    }
    assert_clean(&system).await
}

/// A program without libraries: the containers have none.
fn compiled(source: &str) -> Result<tempfile::TempDir> {
    let directory = tempfile::tempdir()?;
    std::fs::write(directory.path().join("program.c"), source)?;
    let built = Command::new("gcc")
        .args(["-O1", "-static", "-o", "program", "program.c"])
        .current_dir(directory.path())
        .output()
        .context("run gcc")?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Ok(directory)
}

async fn a_save_after_a_wake_sends_only_what_changed(pair: Pair) -> Result<()> {
    const LARGE: u64 = 8 << 20;
    let system = options(pair).start().await?;
    let (api, engine) = (system.operator()?, system.dockerd());
    let mut container = flow::launch(&api, "box", BASE).await?;
    root(engine, &container.docker_id, "mkdir /srv; head -c 8388608 /dev/urandom > /srv/large").await?;
    let sum = root(engine, &container.docker_id, "sha256sum /srv/large").await?;
    let registry = proxy(&system, Way::Registry)?;
    let mut layers = None;
    for round in 1..=soak::size(4, 100) {
        root(engine, &container.docker_id, &format!("echo {round} >> /srv/small")).await?;
        registry.forget();
        let tag = format!("r{round}");
        let job = flow::save_and_delete(&api, &container.id, &tag).await?;
        let sent = sent(&job)?;
        ensure!((sent > LARGE) == (round == 1), "round {round} sent {sent} bytes: {job:#}");
        ensure!(round == 1 || sent < 64 * 1024, "round {round} sent {sent} bytes: {job:#}");
        let image = flow::image(&api, &format!("base:{tag}")).await?;
        layers = Some(image["layers"].as_u64().context("an image without layers")?);

        container = flow::launch(&api, "box", &format!("base:{tag}")).await?;
        assert_eq!(root(engine, &container.docker_id, "sha256sum /srv/large").await?, sum);
        let lines: Vec<String> = (1..=round).map(|line| line.to_string()).collect();
        assert_eq!(root(engine, &container.docker_id, "cat /srv/small").await?, lines.join("\n"));
        // However often it was saved and woken: the base and one writable layer.
        let image = engine.docker(&["inspect", "--format", "{{.Image}}", &container.docker_id]).await?;
        let base = engine.docker(&["inspect", "--format", "{{.Id}}", BASE]).await?;
        assert_eq!(image, base);
    }
    ensure!(layers.is_some_and(|layers| layers <= 64), "{layers:?} layers");
    assert_clean(&system).await
}

/// How many bytes a save has sent, as its job says.
pub(crate) fn sent(job: &Value) -> Result<u64> {
    let notes = flow::notes(job);
    let (_, rest) =
        notes.split_once("sent ").with_context(|| format!("nothing of what was sent: {notes}"))?;
    let digits: String =
        rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
    digits.parse().with_context(|| format!("read what was sent: {notes}"))
}
