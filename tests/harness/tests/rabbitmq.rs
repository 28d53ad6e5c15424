//! A private RabbitMQ is stopped, killed and started again; the shared one is one for the whole run.

use std::time::Instant;

use mothball_harness::rabbitmq::RabbitMq;

#[tokio::test]
async fn is_killed_and_comes_back() {
    let begin = Instant::now();
    let mut rabbit = RabbitMq::start().await.unwrap();
    println!("rabbitmq started in {:?}", begin.elapsed());
    let begin = Instant::now();
    let vhost = rabbit.vhost().await.unwrap();
    println!("vhost made in {:?}", begin.elapsed());
    assert_eq!(vhost.queues().await.unwrap(), []);
    rabbit.close_all_connections().await.unwrap();
    rabbit.stop_app().await.unwrap();
    rabbit.start_app().await.unwrap();
    let begin = Instant::now();
    rabbit.kill9();
    rabbit.start_again().await.unwrap();
    println!("rabbitmq killed and back in {:?}", begin.elapsed());
    let vhosts = rabbit.ctl(&["list_vhosts", "name"]).await.unwrap();
    assert!(vhosts.contains(vhost.name()));
}

#[tokio::test]
async fn is_shared_by_a_run() {
    let (one, other) = tokio::join!(RabbitMq::shared_vhost(), RabbitMq::shared_vhost());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(one.broker().address(), other.broker().address());
    assert_ne!(one.url(), other.url());
    one.close_connections().await.unwrap();
    let name = other.name().to_owned();
    drop(other);
    let vhosts = one.broker().ctl(&["list_vhosts", "name"]).await.unwrap();
    assert!(!vhosts.contains(&name));
}
