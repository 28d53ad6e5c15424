//! Ten rounds of save, delete and launch: every file, owner, mode, link and time is as it was, and the image grows by one
//! layer a round at most.

use anyhow::{Context as _, Result};
use mothball_harness::system::{BASE, Pair, System};
use mothball_harness::tree::{Times, Tree};
use mothball_tests::flow::{self, root};
use mothball_tests::on_both_pairs;

use crate::faults::by_engine;

on_both_pairs!(nothing_changes_in_ten_rounds);

const ROUNDS: u64 = 10;

async fn nothing_changes_in_ten_rounds(pair: Pair) -> Result<()> {
    rounds(&System::start(pair).await?, ROUNDS, Times::Nanoseconds).await
}

/// Docker's commit keeps times to the second.
#[tokio::test]
async fn nothing_changes_where_docker_engine_saves() -> Result<()> {
    let system = by_engine(System::options(Pair::Embedded)).start().await?;
    rounds(&system, 3, Times::Seconds).await
}

async fn rounds(system: &System, rounds: u64, times: Times) -> Result<()> {
    let (api, engine) = (system.operator()?, system.dockerd());
    let mut container = flow::launch(&api, "box", BASE).await?;
    let mut layers = None;
    for round in 1..=rounds {
        root(engine, &container.docker_id, &changes(round)).await?;
        let before = Tree::of_container(engine, &container.docker_id).await?;
        let tag = format!("r{round}");
        flow::save_and_delete(&api, &container.id, &tag).await?;

        let image = flow::image(&api, &format!("base:{tag}")).await?;
        let now = image["layers"].as_u64().context("an image without layers")?;
        // Docker stops at 127 layers: a container may be saved and woken every working day for half a year.
        assert!(
            layers.is_none_or(|before| now <= before + 1),
            "{layers:?} layers became {now} in round {round}"
        );
        layers = Some(now);

        container = flow::launch(&api, "box", &format!("base:{tag}")).await?;
        let after = Tree::of_container(engine, &container.docker_id).await?;
        assert_eq!(before.differences(&after, times), Vec::<String>::new(), "round {round}");
    }
    let kept = root(engine, &container.docker_id, "ls -d /srv/* | wc -l; cat /srv/log").await?;
    let log: Vec<String> = (1..=rounds).map(|round| format!("round {round}")).collect();
    assert_eq!(kept, format!("{}\n{}", rounds + 3, log.join("\n")));
    Ok(())
}

/// What a round adds, changes and takes away, with all that a file system has; each round touches what earlier ones made.
fn changes(round: u64) -> String {
    let before = round - 1;
    format!(
        "set -e
         d=/srv/round-{round}; mkdir -p $d/dir/deep; cd $d
         dd if=/dev/urandom of=random bs=1k count=64 2>/dev/null
         echo {round} > file; ln file hard; ln -s file soft; ln -s /nowhere broken; mkfifo fifo; mknod null c 1 3
         echo x > setuid; chown 1000:1000 setuid; chmod 6755 setuid
         echo x > hidden; chmod 0 hidden; chown 4000000000:4000000001 hidden
         chmod 1777 dir; : > empty; echo x > 'a name with spaces'; echo x > 'ünïcödé'
         : > $(printf '%0250d' {round}); echo x > old; touch -d '2001-02-03 04:05:06' old
         truncate -s 1M sparse
         echo round {round} >> /srv/log
         # A directory that is made anew hides what it held; a file becomes a directory, and back.
         rm -rf /srv/anew; mkdir /srv/anew; echo {round} > /srv/anew/only-{round}
         rm -rf /srv/turns; test $(({round} % 2)) = 0 && echo x > /srv/turns || mkdir /srv/turns
         if test {before} -gt 0; then
           cd /srv/round-{before}; rm soft; mv dir/deep moved; rmdir dir; echo more >> file; chmod 600 old
         fi
         if test {round} = 1; then rm -r /var/tmp /bin/yes; echo changed >> /etc/group; fi"
    )
}
