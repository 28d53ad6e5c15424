//! Who is told of what, from outside: a program by signed webhooks that are tried until they arrive, a person by mail with a
//! link that keeps a container; and nobody where the operator does not allow it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use mothball_harness::http::{Answer, Api, send};
use mothball_harness::mailbox::{Mail, Mailbox};
use mothball_harness::proxy::{Proxy, Rule};
use mothball_harness::receiver::{Message, Receiver};
use mothball_harness::system::{BASE, JOB_LIMIT, Options, Pair, System};
use mothball_harness::wait::eventually;
use mothball_tests::flow::{self, root};
use mothball_tests::on_both_pairs;
use reqwest::Method;
use serde_json::{Value, json};

on_both_pairs!(
    webhooks_are_signed_tried_again_logged_and_replayed,
    nothing_is_called_that_the_operator_does_not_allow,
    a_warning_comes_by_mail_and_its_link_keeps_the_container,
    a_link_stops_a_park_that_has_begun,
);

const SOON: Duration = Duration::from_secs(90);
/// Where people reach it, as far as messages know.
const PUBLIC: &str = "https://mothball.example";

fn options(pair: Pair) -> Options {
    System::options(pair)
        .env("MOTHBALL_API__PUBLIC_URL", PUBLIC)
        .env("MOTHBALL_NOTIFICATIONS__RETRY_FIRST", "100ms")
        .env("MOTHBALL_SCHEDULER__TICK", "100ms")
        .env("MOTHBALL_POLICIES__TICK", "300ms")
        .env("MOTHBALL_POLICIES__GRACE_MIN", "1s")
}

/// A receiver is on this machine, which the operator must allow.
fn reaching_home(options: Options) -> Options {
    options.env("MOTHBALL_NOTIFICATIONS__ALLOW_NETWORKS", r#"["127.0.0.0/8"]"#)
}

async fn webhook(api: &Api, url: &str, events: &[&str]) -> Result<Value> {
    api.post("/v1/webhooks", &json!({"url": url, "events": events})).await?.expect(201)
}

async fn of_kind(receiver: &Receiver, event: &str, count: usize) -> Result<Vec<Message>> {
    let what = format!("{count} of {event}");
    let came = eventually(SOON, &what, async || {
        let came = receiver.came_of(event);
        (came.len() >= count).then_some(came)
    });
    came.await.with_context(|| format!("came so far: {:#?}", receiver.came()))
}

async fn deliveries(api: &Api, webhook: &Value) -> Result<Vec<Value>> {
    let path = format!("/v1/webhooks/{}/deliveries", flow::text(&webhook["id"]));
    let found = api.get(&path).await?.expect(200)?;
    Ok(found["items"].as_array().cloned().unwrap_or_default())
}

/// The newest delivery, once it stands so.
async fn newest(api: &Api, webhook: &Value, state: &str) -> Result<Value> {
    let found = eventually(SOON, state, async || {
        let newest = deliveries(api, webhook).await.ok()?.into_iter().next()?;
        (newest["state"] == state).then_some(newest)
    });
    found.await
}

async fn test(api: &Api, webhook: &Value) -> Result<()> {
    let path = format!("/v1/webhooks/{}/test", flow::text(&webhook["id"]));
    api.post(&path, &json!({})).await?.expect(202).map(drop)
}

/// What the header must be, worked out as the Standard Webhooks specification says and not as we do.
fn signature(secret: &str, message: &Message) -> Result<String> {
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = base64.decode(secret.strip_prefix("whsec_").context("a secret")?)?;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).context("a key")?;
    for part in [message.header("webhook-id"), ".", message.header("webhook-timestamp"), "."] {
        mac.update(part.as_bytes());
    }
    mac.update(&message.body);
    Ok(format!("v1,{}", base64.encode(mac.finalize().into_bytes())))
}

async fn webhooks_are_signed_tried_again_logged_and_replayed(pair: Pair) -> Result<()> {
    let system = reaching_home(options(pair)).start().await?;
    let (api, receiver) = (system.operator()?, Receiver::start().await?);
    let said = system.api.cli(&["webhooks", "add", &receiver.url("/all?token=t0p"), "-o", "json"]).await?;
    let made: Value = serde_json::from_str(&said.success()?)?;
    let secret = flow::text(&made["secret"]);
    let failures = webhook(&api, &receiver.url("/failures"), &["job.failed"]).await?;

    // The first answer is no; it comes again under the same id.
    receiver.answer_next(500);
    let container = flow::launch(&api, "box", BASE).await?;
    let came = of_kind(&receiver, "job.succeeded", 2).await?;
    for message in &came {
        ensure!(message.path == "/all?token=t0p", "{message:#?}");
        ensure!(message.header("webhook-id") == came[0].header("webhook-id"), "another id");
        ensure!(message.header("webhook-signature") == signature(&secret, message)?, "{message:#?}");
        let age = jiff::Timestamp::now().as_second() - message.header("webhook-timestamp").parse::<i64>()?;
        ensure!((0..120).contains(&age), "signed {age} s ago");
        ensure!(message.header("content-type") == "application/json");
    }
    let body = came[0].json();
    let named = json!({"id": container.id.parse::<u64>()?, "name": "box"});
    ensure!(body["data"]["container"] == named && body["data"]["kind"] == "launch", "{body:#}");
    ensure!(body["data"]["project"] == "default" && body["data"]["user"] == "admin", "{body:#}");
    let logged = newest(&api, &made, "delivered").await?;
    let results: Vec<&str> =
        logged["tries"].as_array().into_iter().flatten().filter_map(|t| t["result"].as_str()).collect();
    ensure!(results == ["500 Internal Server Error", "204 No Content"], "{logged:#}");
    ensure!(logged["notice"] == came[0].header("webhook-id"));

    // Once more, because somebody asks for it.
    let (id, delivery) = (flow::text(&made["id"]), flow::text(&logged["id"]));
    system.api.cli(&["webhooks", "replay", &id, &delivery]).await?.success()?;
    let came = of_kind(&receiver, "job.succeeded", 3).await?;
    ensure!(came[2].header("webhook-id") == came[0].header("webhook-id") && came[2].body == came[0].body);
    let shown = system.api.cli(&["webhooks", "deliveries", &id]).await?.success()?;
    ensure!(shown.contains("job.succeeded") && shown.contains("204 No Content"), "{shown}");

    // A save that fails is told to the one who asked for failures alone, with what to do.
    let job = flow::save(&api, &container.id, &json!({"tag": "v1"})).await?;
    api.wait_success(&job, JOB_LIMIT).await?;
    system.dockerd().docker(&["rm", "--force", &container.docker_id]).await?;
    let job = flow::save(&api, &container.id, &json!({"tag": "v2"})).await?;
    api.wait_job(&job, JOB_LIMIT).await?;
    let failed = of_kind(&receiver, "job.failed", 2).await?;
    let paths: Vec<&str> = failed.iter().map(|message| message.path.as_str()).collect();
    ensure!(paths.contains(&"/failures") && paths.contains(&"/all?token=t0p"), "{paths:?}");
    ensure!(failed[0].json()["data"]["error"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
    let at_failures: Vec<Message> =
        receiver.came().into_iter().filter(|message| message.path == "/failures").collect();
    ensure!(at_failures.len() == 1, "{at_failures:#?}");

    // Redirects are not followed, and 410 ends it.
    receiver.redirect_next(&receiver.url("/elsewhere"));
    test(&api, &failures).await?;
    newest(&api, &failures, "delivered").await?;
    ensure!(receiver.came().iter().all(|message| message.path != "/elsewhere"), "it was led elsewhere");
    receiver.answer_next(410);
    test(&api, &failures).await?;
    newest(&api, &failures, "failed").await?;
    let off = api.get(&format!("/v1/webhooks/{}", flow::text(&failures["id"]))).await?.expect(200)?;
    ensure!(off["enabled"] == false && flow::text(&off["off_because"]).contains("410"), "{off:#}");

    // A new secret counts at once; neither it nor the address is in the log.
    let renewed = api.post(&format!("/v1/webhooks/{id}/secret"), &json!({})).await?.expect(200)?;
    let fresh = flow::text(&renewed["secret"]);
    test(&api, &made).await?;
    let ping = eventually(SOON, "the test", async || {
        receiver.came_of("webhook.ping").into_iter().find(|message| message.path.starts_with("/all"))
    });
    let ping = ping.await?;
    ensure!(ping.header("webhook-signature") == signature(&fresh, &ping)?, "{ping:#?}");
    let log = system.api.log();
    for hidden in [secret.as_str(), fresh.as_str(), "t0p"] {
        ensure!(!log.contains(hidden), "{hidden} is in the log");
    }
    Ok(())
}

async fn nothing_is_called_that_the_operator_does_not_allow(pair: Pair) -> Result<()> {
    let system = options(pair).start().await?;
    let (api, receiver) = (system.operator()?, Receiver::start().await?);
    for url in [receiver.url("/"), "http://169.254.169.254/latest/meta-data".into(), "http://[::1]/".into()] {
        let refused = api.post("/v1/webhooks", &json!({"url": url})).await?;
        ensure!(refused.status == 422 && refused.json["field"] == "url", "{url}: {:#}", refused.json);
        ensure!(flow::text(&refused.json["detail"]).contains("allow_networks"), "{:#}", refused.json);
    }
    // A name is told only when it is called.
    let by_name = receiver.url("/").replace("127.0.0.1", "localhost");
    let made = webhook(&api, &by_name, &[]).await?;
    test(&api, &made).await?;
    let tried = eventually(SOON, "a try", async || {
        let newest = deliveries(&api, &made).await.ok()?.into_iter().next()?;
        let result = flow::text(newest["tries"].as_array()?.first()?.get("result")?);
        Some(result)
    });
    let result = tried.await?;
    ensure!(result.contains("allow_networks"), "{result}");
    ensure!(receiver.came().is_empty(), "{:#?}", receiver.came());
    Ok(())
}

/// A request to a page, as a browser makes it: without a key.
async fn open(api: &Api, path: &str, hours: Option<u32>) -> Result<Answer> {
    let page = api.without_key();
    match hours {
        None => page.get(path).await,
        Some(hours) => {
            let request = page.request(Method::POST, path);
            let request = request.header("content-type", "application/x-www-form-urlencoded");
            send(request.body(format!("hours={hours}"))).await
        }
    }
}

async fn set_policy(api: &Api, policy: &Value) -> Result<()> {
    let request = api.request(Method::PUT, "/v1/policies/default/parking").json(policy);
    send(request).await?.expect(200).map(drop)
}

/// Everything costs too much; warnings last so long.
fn used_up(grace_seconds: u64) -> Value {
    json!({"budget_per_month": "0.000000001", "grace_seconds": grace_seconds})
}

/// A mail that holds this, in subject or text.
async fn mail(mailbox: &Mailbox, part: &str) -> Result<Mail> {
    let found = eventually(SOON, part, async || {
        let came = mailbox.came().ok()?;
        came.into_iter().find(|mail| mail.subject.contains(part) || mail.body.contains(part))
    });
    found.await.with_context(|| format!("came so far: {:#?}", mailbox.came()))
}

async fn until(api: &Api, id: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut seen = Value::Null;
    let found = eventually(SOON, what, async || {
        seen = flow::container(api, id).await.ok()?;
        wanted(&seen).then(|| seen.clone())
    });
    let found = found.await;
    found.with_context(|| format!("seen last: {seen:#}"))
}

async fn a_warning_comes_by_mail_and_its_link_keeps_the_container(pair: Pair) -> Result<()> {
    let mailbox = Mailbox::start().await?;
    let system = options(pair)
        .env("MOTHBALL_NOTIFICATIONS__SMTP__HOST", "127.0.0.1")
        .env("MOTHBALL_NOTIFICATIONS__SMTP__PORT", mailbox.port().to_string())
        .env("MOTHBALL_NOTIFICATIONS__SMTP__TLS", "none")
        .start()
        .await?;
    let api = system.operator()?;
    let set = ["notify", "set", "--email", "ann@example.org", "--language", "zh-TW"];
    let shown = system.api.cli(&set).await?.success()?;
    ensure!(shown.contains("ann@example.org") && shown.contains("container.warned"), "{shown}");
    let container = flow::launch(&api, "box", BASE).await?;
    root(system.dockerd(), &container.docker_id, "echo precious > /root-file").await?;
    set_policy(&api, &used_up(3600)).await?;

    let warned = mail(&mailbox, "將於").await?;
    ensure!(warned.to == "ann@example.org" && warned.subject.contains("box"), "{warned:#?}");
    ensure!(warned.headers.contains(&("Auto-Submitted".into(), "auto-generated".into())), "{warned:#?}");
    let (_, rest) = warned.body.split_once(PUBLIC).context("no link in the mail")?;
    let path: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '/').collect();

    // Whoever looks at the link changes nothing: mail programs do.
    let page = open(&api, &path, None).await?;
    let text = String::from_utf8_lossy(&page.body).into_owned();
    ensure!(
        page.status == 200 && text.contains("Keep box?") && text.contains("It will be parked at"),
        "{text}"
    );
    ensure!(page.headers["referrer-policy"] == "no-referrer" && page.headers["cache-control"] == "no-store");
    ensure!(flow::container(&api, &container.id).await?["keep_until"].is_null());
    ensure!(open(&api, &path, Some(5)).await?.status == 422, "nobody offers five hours");
    let kept = open(&api, &path, Some(24)).await?;
    let text = String::from_utf8_lossy(&kept.body).into_owned();
    ensure!(kept.status == 200 && text.contains("box is kept until"), "{text}");
    until(&api, &container.id, "the warning's withdrawal", |c| c["warning"].is_null()).await?;
    let keep = flow::container(&api, &container.id).await?;
    let hours =
        flow::text(&keep["keep_until"]).parse::<jiff::Timestamp>()?.duration_since(jiff::Timestamp::now());
    ensure!((23..=24).contains(&hours.as_hours()), "{keep:#}");
    let other = format!("/keep/{}", "0".repeat(64));
    let over = String::from_utf8_lossy(&open(&api, &other, Some(4)).await?.body).into_owned();
    ensure!(over.contains("This link is over"), "{over}");

    // It is kept no longer: parked, with what that saves; and woken.
    set_policy(&api, &used_up(1)).await?;
    api.patch(&format!("/v1/containers/{}", container.id), &json!({"keep_until": null}))
        .await?
        .expect(200)?;
    until(&api, &container.id, "the park", |c| c["state"] == "parked").await?;
    let parked = mail(&mailbox, "已封存").await?;
    ensure!(parked.body.contains("mothball wake box") && parked.body.contains("TWD"), "{parked:#?}");
    mail(&mailbox, "正在封存").await?;
    let budget = mail(&mailbox, "100%").await?;
    ensure!(budget.subject.contains("預算"), "{budget:#?}");
    let over = String::from_utf8_lossy(&open(&api, &path, None).await?.body).into_owned();
    ensure!(over.contains("This link is over"), "{over}");
    set_policy(&api, &json!({})).await?;
    let job = api.post(&format!("/v1/containers/{}/wake", container.id), &json!({})).await?.job_id(202)?;
    api.wait_success(&job, JOB_LIMIT).await?;
    let woken = mail(&mailbox, "已重新執行").await?;
    ensure!(woken.body.contains("cpu-small"), "{woken:#?}");

    let told = system.api.cli(&["notify", "sent"]).await?.success()?;
    ensure!(told.contains("container.parked") && told.contains("delivered"), "{told}");
    // The link is a secret of whoever got the mail.
    let token = path.rsplit('/').next().unwrap_or_default();
    ensure!(token.len() == 64 && !system.api.log().contains(token), "the link is in the log");
    Ok(())
}

async fn a_link_stops_a_park_that_has_begun(pair: Pair) -> Result<()> {
    let receiver = Receiver::start().await?;
    let system = reaching_home(options(pair)).proxied().start().await?;
    let api = system.operator()?;
    let container = flow::launch(&api, "box", BASE).await?;
    root(system.dockerd(), &container.docker_id, "echo precious > /root-file").await?;
    webhook(&api, &receiver.url("/"), &["container.warned", "container.parking"]).await?;
    let proxies = system.proxies.as_ref().context("proxies")?;
    let registry: &Proxy = &proxies.registry;
    let gate = registry.hold(Rule::on("POST", "/blobs/uploads/"));
    set_policy(&api, &used_up(1)).await?;
    let warned = of_kind(&receiver, "container.warned", 1).await?.remove(0).json();
    let link = flow::text(&warned["data"]["keep_url"]);
    let path = link.strip_prefix(PUBLIC).context("a link")?;
    gate.reached(SOON).await?;
    let parking = of_kind(&receiver, "container.parking", 1).await?.remove(0).json();
    let kept = open(&api, path, Some(4)).await?;
    let text = String::from_utf8_lossy(&kept.body).into_owned();
    ensure!(kept.status == 200 && text.contains("that is being stopped"), "{text}");
    gate.open();
    let job = api.wait_job(&flow::text(&parking["data"]["job"]), JOB_LIMIT).await?;
    ensure!(job["state"] == "cancelled", "{job:#}");
    let left = until(&api, &container.id, "rest", |c| c["job"].is_null() && c["warning"].is_null()).await?;
    ensure!(left["state"] == "ready", "{left:#}");
    ensure!(flow::status(system.dockerd(), &container.docker_id).await? == "running");
    ensure!(root(system.dockerd(), &container.docker_id, "cat /root-file").await? == "precious");
    Ok(())
}
