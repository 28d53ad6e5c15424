//! A private RabbitMQ is stopped, killed and started again; the shared one is one for the whole run.

use std::time::Instant;

use anyhow::Result;
use mothball_harness::rabbitmq::RabbitMq;

#[tokio::test]
async fn is_killed_and_comes_back() -> Result<()> {
    let begin = Instant::now();
    let mut rabbit = RabbitMq::start().await?;
    println!("rabbitmq started in {:?}", begin.elapsed());
    let begin = Instant::now();
    let vhost = rabbit.vhost().await?;
    println!("vhost made in {:?}", begin.elapsed());
    assert_eq!(vhost.queues().await?, []);
    rabbit.close_all_connections().await?;
    rabbit.stop_app().await?;
    rabbit.start_app().await?;
    let begin = Instant::now();
    rabbit.kill9();
    rabbit.start_again().await?;
    println!("rabbitmq killed and back in {:?}", begin.elapsed());
    let vhosts = rabbit.ctl(&["list_vhosts", "name"]).await?;
    assert!(vhosts.contains(vhost.name()));
    Ok(())
}

#[tokio::test]
async fn is_shared_by_a_run() -> Result<()> {
    let (one, other) = tokio::join!(RabbitMq::shared_vhost(), RabbitMq::shared_vhost());
    let (one, other) = (one?, other?);
    assert_eq!(one.broker().address(), other.broker().address());
    assert_ne!(one.url(), other.url());
    one.close_connections().await?;
    let name = other.name().to_owned();
    drop(other);
    let vhosts = one.broker().ctl(&["list_vhosts", "name"]).await?;
    assert!(!vhosts.contains(&name));
    Ok(())
}
