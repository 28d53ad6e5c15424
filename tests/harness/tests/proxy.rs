//! The proxy passes what it should and breaks what it is told to, in front of a real registry, engine and store.

use std::time::Duration;

use anyhow::Result;
use mothball_harness::dockerd::Dockerd;
use mothball_harness::http::client;
use mothball_harness::proxy::{Address, Fault, Proxy, Rule};
use mothball_harness::redis::Redis;
use mothball_harness::registry::Registry;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn http_faults_in_front_of_a_registry() -> Result<()> {
    let registry = Registry::start().await?;
    let proxy = Proxy::http(Address::Tcp(registry.address())).await?;
    let get = async |path: &str| client().get(format!("{}{path}", proxy.url())).send().await;

    assert_eq!(get("/v2/").await?.status(), 200);
    proxy.inject(Rule::on("GET", "/v2/").times(2), Fault::answer(503, "not now"));
    assert_eq!(get("/v2/").await?.status(), 503);
    assert_eq!(get("/v2/").await?.text().await?, "not now");
    assert_eq!(get("/v2/").await?.status(), 200);
    assert_eq!(proxy.count("GET", "/v2/"), 4);

    proxy.inject(Rule::on("", "/v2/").times(1), Fault::CutAnswer { after: 1 });
    assert!(get("/v2/").await?.bytes().await.is_err());
    proxy.inject(Rule::on("", "_catalog").skip(1).times(1), Fault::LoseAnswer);
    assert_eq!(get("/v2/_catalog").await?.status(), 200);
    assert!(get("/v2/_catalog").await.is_err());

    // The server does not see a held request before the gate opens.
    let gate = proxy.hold(Rule::on("GET", "/v2/held"));
    let (answer, ()) = tokio::try_join!(async { anyhow::Ok(get("/v2/held").await?) }, async {
        gate.reached(LIMIT).await?;
        assert!(!registry.log().contains("/v2/held"));
        gate.open();
        Ok(())
    })?;
    assert_eq!(answer.status(), 404);

    proxy.down().await?;
    assert!(get("/v2/").await.expect_err("it is broken").is_connect());
    proxy.up().await?;
    assert_eq!(get("/v2/").await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn uploads_are_cut_and_held_inside_their_body() -> Result<()> {
    let registry = Registry::start().await?;
    let proxy = Proxy::http(Address::Tcp(registry.address())).await?;
    let upload = async |size: usize| -> Result<reqwest::Response> {
        let start = client().post(format!("{}/v2/probe/blobs/uploads/", proxy.url()));
        let location = start.send().await?.headers()["location"].to_str()?.to_owned();
        // The registry names the address that it was called by: the proxy's.
        assert!(location.starts_with(&proxy.url()), "{location}");
        Ok(client().patch(location).body(vec![7; size]).send().await?)
    };
    assert_eq!(upload(1 << 20).await?.status(), 202);
    proxy.inject(Rule::on("PATCH", "").times(1), Fault::CutRequest { after: 1000 });
    assert!(upload(1 << 20).await.is_err());
    proxy.inject(Rule::on("PATCH", "").times(1), Fault::answer(500, "broken"));
    assert_eq!(upload(8 << 20).await?.status(), 500);
    let gate = proxy.hold_after(Rule::on("PATCH", "").times(1), 500_000);
    let (answer, ()) = tokio::try_join!(upload(1 << 20), async {
        gate.reached(LIMIT).await?;
        gate.open();
        Ok(())
    })?;
    assert_eq!(answer.status(), 202);
    Ok(())
}

#[tokio::test]
async fn docker_works_through_it() -> Result<()> {
    let (dockerd, registry) = tokio::try_join!(Dockerd::start(), Registry::start())?;
    let socket = Proxy::http_on_socket(Address::Unix(dockerd.socket())).await?;
    let front = Proxy::http(Address::Tcp(registry.address())).await?;
    let image = format!("{}/project/base:1", front.address());
    dockerd.import_busybox(&image, &[r#"CMD ["sleep", "1d"]"#]).await?;
    let docker = async |args: &[&str]| {
        let mut client = dockerd.client()?;
        client.env("DOCKER_HOST", socket.url()).args(args);
        mothball_harness::command::stdout(&mut client, LIMIT).await
    };
    docker(&["run", "--detach", "--name", "box", &image]).await?;
    // An exec upgrades its connection to a raw stream.
    assert_eq!(docker(&["exec", "box", "echo", "hello"]).await?, "hello");
    docker(&["push", &image]).await?;
    assert!(front.count("PUT", "/manifests/1") == 1);
    assert!(socket.count("POST", "/push") == 1);
    docker(&["rmi", "--force", &image]).await?;
    docker(&["pull", &image]).await?;
    socket.inject(Rule::on("GET", "/json"), Fault::answer(500, r#"{"message":"broken"}"#));
    let error = docker(&["ps"]).await.expect_err("it is broken").to_string();
    assert!(error.contains("broken"), "{error}");
    Ok(())
}

#[tokio::test]
async fn bytes_are_cut_and_frozen_in_front_of_a_store() -> Result<()> {
    let redis = Redis::start().await?;
    let proxy = Proxy::tcp(Address::Tcp(redis.address())).await?;
    let ping = async || {
        let mut cli = tokio::process::Command::new("redis-cli");
        cli.args(["-u", &format!("redis://{}", proxy.address()), "ping"]);
        let output = mothball_harness::command::output(&mut cli, Duration::from_secs(1)).await;
        output.is_ok_and(|output| output.stdout == b"PONG\n")
    };
    assert!(ping().await);
    proxy.down().await?;
    assert!(!ping().await);
    proxy.up().await?;
    assert!(ping().await);
    proxy.freeze();
    assert!(!ping().await);
    proxy.thaw();
    assert!(ping().await);
    proxy.cut();
    assert!(ping().await);
    Ok(())
}
