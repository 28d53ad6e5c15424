//! Whatever is sent: a refusal that says what is wrong, as problem+json; never a 5xx, never a panic, and the server goes on.
//!
//! What there is to call is read from the server's own description, so that no call and no field is forgotten.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use mothball_harness::http::{Answer, Api, send};
use mothball_harness::system::{BASE, JOB_LIMIT, Pair, System};
use mothball_tests::flow;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

mothball_tests::on_both_pairs!(nothing_that_is_sent_breaks_the_server);

/// A call that the server describes.
#[derive(Clone, Debug)]
struct Call {
    method: Method,
    /// With the names of its parts in braces.
    path: String,
    /// The fields of its body; none where it takes none.
    fields: Option<Map<String, Value>>,
}

async fn nothing_that_is_sent_breaks_the_server(pair: Pair) -> Result<()> {
    // As many calls as a client can make: what is refused should be refused for what it is.
    let options = System::options(pair)
        .env("MOTHBALL_API__RATE_PER_SECOND", "100000")
        .env("MOTHBALL_API__RATE_BURST", "1000000");
    let system = options.start().await?;
    let api = system.operator()?;
    let container = flow::launch(&api, "box", BASE).await?;
    flow::save_and_keep(&api, &container.id, "v1").await?;
    // What happens to be right then only waits.
    api.post("/v1/nodes/node-a/drain", &json!({})).await?.expect(200)?;

    let calls = described(&api).await?;
    let count = calls.iter().filter(|call| call.fields.is_some()).count();
    ensure!(calls.len() > 30 && count > 10, "only {} calls are described, {count} with a body", calls.len());
    fields(&api, &calls).await?;
    bodies(&api, &calls).await?;
    paths(&api, &calls).await?;
    queries(&api, &calls).await?;
    headers(&api).await?;
    names_and_things(&api, &container.id).await?;
    no_http_at_all(&api, &system.api.url()).await?;

    // It was there all the time, and did not stumble.
    assert_eq!(api.without_key().get("/livez").await?.status, 200);
    assert_eq!(api.without_key().get("/readyz").await?.status, 200);
    assert_eq!(flow::container(&api, &container.id).await?["state"], "ready");
    let metrics = api.get("/metrics").await?;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let failed = metrics
        .lines()
        .find(|line| line.starts_with("mothball_http_requests_total") && line.contains("status=\"5"));
    ensure!(failed.is_none(), "{failed:?}");
    for process in
        [Some(&system.api), system.scheduler.as_ref(), system.nodes[0].worker.as_ref()].into_iter().flatten()
    {
        let log = process.log();
        let line = log.lines().find(|line| line.contains("panicked") || line.contains(" ERROR "));
        ensure!(line.is_none(), "{line:?}");
    }
    api.post("/v1/nodes/node-a/resume", &json!({})).await?.expect(200)?;
    api.patch("/v1/containers/box", &json!({"protected": false})).await?.expect(200)?;
    api.patch("/v1/projects/default", &json!({"excludes": []})).await?.expect(200)?;
    flow::save_and_delete(&api, &container.id, "v2").await.map(drop)
}

/// What the server says can be called.
async fn described(api: &Api) -> Result<Vec<Call>> {
    let document = api.get("/v1/openapi.json").await?.expect(200)?;
    let mut calls = Vec::new();
    for (path, methods) in document["paths"].as_object().context("no paths")? {
        for (method, call) in methods.as_object().context("no methods")? {
            let schema = &call["requestBody"]["content"]["application/json"]["schema"];
            let name = schema["$ref"].as_str().or_else(|| {
                let mut any = schema["oneOf"].as_array().into_iter().flatten();
                any.find_map(|one| one["$ref"].as_str())
            });
            let name = name.and_then(|name| name.rsplit('/').next());
            let fields =
                name.and_then(|name| document["components"]["schemas"][name]["properties"].as_object());
            ensure!(
                schema.is_null() || fields.is_some(),
                "the body of {method} {path} is not described: {schema}"
            );
            let method = method.to_uppercase().parse()?;
            calls.push(Call { method, path: path.clone(), fields: fields.cloned() });
        }
    }
    Ok(calls)
}

impl Call {
    /// The path with names of things that there are, so that the body is what is refused.
    fn filled(&self) -> String {
        let parts = [
            ("{container}", "box"),
            ("{image}", "base:v1"),
            ("{node}", "node-a"),
            ("{project}", "default"),
            ("{user}", "admin"),
            ("{job}", "00000000-0000-7000-8000-000000000000"),
            ("{key}", "none"),
            ("{schedule}", "00000000-0000-7000-8000-000000000000"),
        ];
        parts.into_iter().fold(self.path.clone(), |path, (name, value)| path.replace(name, value))
    }

    /// A body that is right, or nearly, and that does nothing.
    fn body(&self) -> Map<String, Value> {
        let body = match self.path.as_str() {
            "/v1/containers" => json!({"name": "new", "image": BASE, "flavor": "cpu-small"}),
            path if path.ends_with("/snapshots") => json!({"tag": "v9", "dry_run": true}),
            path if path.ends_with("/adopt") => {
                json!({"docker_id": "0".repeat(64), "name": "none", "user": "admin"})
            }
            path if path.ends_with("/wake") => json!({"flavor": "cpu-small"}),
            path if path.contains("/members/") => json!({"role": "admin"}),
            "/v1/projects" => json!({"name": "default"}),
            "/v1/users" => json!({"name": "admin"}),
            "/v1/schedules" => {
                json!({"container": "box", "action": "park", "cron": "0 0 29 2 *", "enabled": false})
            }
            "/v1/keys" => json!({"label": "none"}),
            _ => json!({}),
        };
        body.as_object().cloned().unwrap_or_default()
    }

    async fn send(&self, api: &Api, body: &Value) -> Result<Answer> {
        send(api.request(self.method.clone(), &self.filled()).json(body)).await
    }
}

/// That an answer is a refusal, and says so as every refusal does.
fn refused(answer: &Answer) -> Result<()> {
    let said = String::from_utf8_lossy(&answer.body);
    ensure!((400..500).contains(&answer.status), "{} answered {}: {said}", answer.request, answer.status);
    let kind = answer.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    ensure!(kind == Some("application/problem+json"), "{} answered as {kind:?}: {said}", answer.request);
    let problem = &answer.json;
    for field in ["type", "title", "code", "detail", "instance"] {
        ensure!(
            problem[field].as_str().is_some_and(|text| !text.is_empty()),
            "{}: no {field}: {said}",
            answer.request
        );
    }
    ensure!(problem["status"] == answer.status, "{}: another status: {said}", answer.request);
    ensure!(said.len() < 8192, "{}: a refusal of {} bytes", answer.request, said.len());
    for word in ["panicked", "src/", "/home/", ".rs:"] {
        ensure!(!said.contains(word), "{}: the refusal shows {word}: {said}", answer.request);
    }
    Ok(())
}

/// That an answer is no defect: a refusal, or, for what may be right, a success.
fn no_defect(answer: &Answer) -> Result<()> {
    if (200..300).contains(&answer.status) { Ok(()) } else { refused(answer) }
}

/// The types that a field's description allows.
fn types(schema: &Value) -> Vec<String> {
    let one = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(alternatives) = schema["oneOf"].as_array() {
        // A thing that is described elsewhere, or null.
        let of =
            |schema: &Value| if schema["$ref"].is_string() { vec!["object".into()] } else { types(schema) };
        return alternatives.iter().flat_map(of).collect();
    }
    match &schema["type"] {
        Value::Array(many) => many.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

/// Every field of every body: values of every wrong type are refused; texts and numbers of every kind do no harm.
async fn fields(api: &Api, calls: &[Call]) -> Result<()> {
    let values: BTreeMap<&str, Vec<Value>> = BTreeMap::from([
        ("string", vec![json!("x"), json!("")]),
        (
            "integer",
            vec![json!(1), json!(-1), json!(0), json!(1.5), json!(1e300), json!(u64::MAX), json!(i64::MIN)],
        ),
        ("boolean", vec![json!(true)]),
        ("array", vec![json!([]), json!([[]]), json!([null]), json!([{"a": [1]}]), json!(vec![1; 5000])]),
        ("object", vec![json!({}), json!({"a": {"b": {}}}), json!({"$ref": "x"})]),
        ("null", vec![Value::Null]),
    ]);
    for call in calls {
        for (field, schema) in call.fields.iter().flatten() {
            let allowed = types(schema);
            ensure!(!allowed.is_empty(), "{} {}: {field} has no type: {schema}", call.method, call.path);
            for (kind, values) in &values {
                let wrong = !allowed.iter().any(|allowed| allowed == kind);
                for value in values {
                    let mut body = call.body();
                    body.insert(field.clone(), value.clone());
                    let answer = call.send(api, &Value::Object(body)).await?;
                    let checked = if wrong { refused(&answer) } else { no_defect(&answer) };
                    checked.with_context(|| format!("{field}: {}", shortened(value)))?;
                }
            }
            for text in texts() {
                let mut body = call.body();
                let value = if allowed.iter().any(|t| t == "array") { json!([text]) } else { json!(text) };
                body.insert(field.clone(), value);
                no_defect(&call.send(api, &Value::Object(body)).await?)
                    .with_context(|| format!("{field}: a text"))?;
            }
        }
        if call.fields.is_some() {
            let mut body = call.body();
            body.insert("tga".to_owned(), json!("v1"));
            let answer = call.send(api, &Value::Object(body)).await?;
            refused(&answer).context("a field that is misspelt")?;
            ensure!(answer.json["detail"].as_str().is_some_and(|why| why.contains("tga")), "{}", answer.json);
        }
    }
    Ok(())
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        " ",
        "../../etc/passwd",
        "..",
        "/",
        "\\",
        "a/../b",
        "%2e%2e%2f",
        "a\0b",
        "\u{7}\u{1b}[2J",
        "\r\nx-evil: 1",
        "標籤",
        "e\u{301}\u{202e}abc",
        "\u{feff}x",
        "'; DROP TABLE jobs; --",
        "${jndi:ldap://x}",
        "{{7*7}}",
        "<script>",
        "$(reboot)",
        "-rf",
        "NULL",
        "undefined",
        "NaN",
        "1e999",
        "0x10",
        "true",
        "9999-12-31T23:59:59Z",
        "-262143-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "_mothball-x",
        "base:v1",
        "::::",
        "sha256:00",
        "@",
        "admin",
    ]
    .map(str::to_owned)
    .into();
    texts.extend([64, 129, 256, 1001, 70_000].map(|length| "a".repeat(length)));
    texts.push("\u{10ffff}".repeat(500));
    texts
}

/// Bodies that are no JSON, not the JSON that is wanted, too much of it, or called something else.
async fn bodies(api: &Api, calls: &[Call]) -> Result<()> {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(20_000), close.repeat(20_000));
    let broken: Vec<Vec<u8>> = [
        "{",
        "}",
        "nul",
        "[]",
        "\"text\"",
        "7",
        "{\"a\": }",
        "{} {}",
        "{'a': 1}",
        "{\"a\": NaN}",
        "<xml/>",
        "a=b&c=d",
        "{\"tag\": \"\\ud800\"}",
        "\u{feff}{}",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .chain([
        deep("[", "]").into_bytes(),
        deep("{\"a\":", "}").into_bytes(),
        vec![0xff, 0xfe, b'{', b'}'],
        vec![0; 64],
    ])
    .collect();
    for call in calls.iter().filter(|call| call.fields.is_some()) {
        let request = || api.request(call.method.clone(), &call.filled());
        for body in &broken {
            let answer = send(request().header(CONTENT_TYPE, "application/json").body(body.clone())).await?;
            refused(&answer)
                .with_context(|| String::from_utf8_lossy(body).chars().take(60).collect::<String>())?;
        }
        let body = serde_json::to_vec(&call.body())?;
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "application/",
            "\u{fc}",
        ] {
            let answer = send(request().header(CONTENT_TYPE, kind).body(body.clone())).await?;
            refused(&answer).with_context(|| kind.to_owned())?;
            ensure!(matches!(answer.status, 400 | 415), "{kind} was answered {}", answer.status);
        }
        // Half a MiB over the limit: said before, and found out while it comes.
        let large = format!("{{\"tag\": \"{}\"}}", "a".repeat(3 << 19));
        let answer = send(request().header(CONTENT_TYPE, "application/json").body(large.clone())).await?;
        assert_eq!(answer.status, 413, "{}", call.path);
        refused(&answer)?;
        let pieces = large.into_bytes().chunks(64 * 1024).map(<[u8]>::to_vec).collect::<Vec<_>>();
        let answer = chunked(api, call, pieces).await?;
        ensure!(answer.starts_with("HTTP/1.1 413"), "{}: {answer}", call.path);
        // Just below it, a text that is merely too long.
        let long = json!({"tag": "a".repeat((1 << 20) - 64)});
        refused(&call.send(api, &long).await?)?;
    }
    Ok(())
}

/// Sends a body in chunks, without saying how long it is; the head of the answer.
async fn chunked(api: &Api, call: &Call, pieces: Vec<Vec<u8>>) -> Result<String> {
    let request = api.request(call.method.clone(), &call.filled()).build()?;
    let address =
        format!("{}:{}", request.url().host_str().unwrap_or_default(), request.url().port().unwrap_or(80));
    let key = request.headers()["authorization"].to_str()?;
    let mut stream = TcpStream::connect(&address).await?;
    let head = format!(
        "{} {} HTTP/1.1\r\nhost: {address}\r\nauthorization: {key}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        call.method,
        call.filled()
    );
    stream.write_all(head.as_bytes()).await?;
    for piece in pieces {
        let length = format!("{:x}\r\n", piece.len());
        // It may close as soon as it has had enough.
        if stream.write_all(&[length.as_bytes(), &piece, b"\r\n"].concat()).await.is_err() {
            break;
        }
    }
    let _closed = stream.write_all(b"0\r\n\r\n").await;
    answer_of(stream).await
}

/// The beginning of whatever a server answers until it closes.
async fn answer_of(mut stream: TcpStream) -> Result<String> {
    let mut answer = Vec::new();
    let mut buffer = vec![0; 4096];
    let read = async {
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..length]);
            if answer.len() > 16 * 1024 {
                break;
            }
        }
    };
    tokio::time::timeout(JOB_LIMIT, read).await.context("the server neither answers nor closes")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Every part of every path: things that are not there, and texts that could lead elsewhere.
async fn paths(api: &Api, calls: &[Call]) -> Result<()> {
    let long = "a".repeat(5000);
    let parts = [
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "%00",
        "%ff%fe",
        "%",
        "%zz",
        "-1",
        "0",
        "99999999999999999999999",
        "1.5",
        "a%20b",
        "%E6%A8%99%E7%B1%A4",
        "%3Cscript%3E",
        "null",
        "00000000-0000-0000-0000-000000000000",
        "a:b:c",
        ":",
        "base:",
        ":v1",
        "nothing",
        "NOTHING",
        "box%2fsnapshots",
        "*",
        long.as_str(),
    ];
    for call in calls.iter().filter(|call| call.path.contains('{')) {
        let (first, rest) = call.path.split_once('{').context("no part")?;
        let (_, rest) = rest.split_once('}').context("no part")?;
        for part in parts {
            let path = Call { path: format!("{first}{part}{rest}"), ..call.clone() }.filled();
            let answer = send(api.request(call.method.clone(), &path).json(&call.body())).await?;
            refused(&answer).with_context(|| part.chars().take(40).collect::<String>())?;
        }
    }
    for path in ["/v1", "/v1/", "/v1/nothing", "/v2/containers", "//v1//containers", "/v1/containers/", "/x"]
    {
        refused(&api.get(path).await?).with_context(|| path.to_owned())?;
    }
    for method in ["TRACE", "OPTIONS", "PUT", "FOO"] {
        let answer = send(api.request(method.parse()?, "/v1/containers")).await?;
        refused(&answer).with_context(|| method.to_owned())?;
    }
    Ok(())
}

/// What lists are asked for.
async fn queries(api: &Api, calls: &[Call]) -> Result<()> {
    let values = [
        "",
        "0",
        "-1",
        "201",
        "1e3",
        "99999999999999999999",
        "x",
        "%00",
        "%ff",
        "%E6%A8%99",
        "..%2f..",
        "null",
    ];
    let names = ["limit", "cursor", "state", "kind", "user", "node", "container", "project", "all", "forget"];
    let long = format!("cursor={}", "a".repeat(8000));
    for call in calls.iter().filter(|call| call.method == Method::GET && !call.path.contains('{')) {
        for (name, value) in names.iter().flat_map(|name| values.iter().map(move |value| (name, value))) {
            let answer = api.get(&format!("{}?{name}={value}", call.path)).await?;
            no_defect(&answer).with_context(|| format!("{name}={value}"))?;
        }
        for query in ["limit=0", "limit=201", "limit=x", "limit=1&limit=2", long.as_str(), "&&&=", "a[b]=c"] {
            no_defect(&api.get(&format!("{}?{query}", call.path)).await?)?;
        }
    }
    for query in
        ["limit=0", "limit=201", "limit=x", "state=sideways", "cursor=x", "all=perhaps", "project=nothing"]
    {
        refused(&api.get(&format!("/v1/containers?{query}")).await?).with_context(|| query.to_owned())?;
    }
    Ok(())
}

async fn headers(api: &Api) -> Result<()> {
    let nobody = api.without_key();
    let long = "a".repeat(10_000);
    for (name, value) in [
        ("authorization", "Bearer"),
        ("authorization", "Bearer  "),
        ("authorization", "Basic YTpi"),
        ("authorization", "Bearer \u{fc}\u{fc}"),
        ("authorization", &format!("Bearer {long}")),
        ("authorization", "Bearer 00000000-0000-4000-8000-000000000000"),
        ("x-api-key", "' OR 1=1 --"),
        ("x-api-key", &long),
    ] {
        let answer = send(nobody.request(Method::GET, "/v1/containers").header(name, value)).await?;
        refused(&answer).with_context(|| name.to_owned())?;
        assert_eq!(answer.status, 401);
        ensure!(answer.headers.contains_key("www-authenticate"), "{:?}", answer.headers);
    }
    for (name, value) in [
        ("x-mothball-project", "../x"),
        ("x-mothball-project", &long),
        ("x-request-id", "\u{fc}"),
        ("x-request-id", &long),
        ("accept", "application/xml"),
        ("range", "bytes=0-1"),
        ("content-length", "7"),
        ("expect", "something"),
    ] {
        let answer = send(api.request(Method::GET, "/v1/containers").header(name, value)).await;
        // Where the client itself gives up there is nothing to see.
        if let Ok(answer) = answer {
            no_defect(&answer)
                .with_context(|| format!("{name}: {}", value.chars().take(20).collect::<String>()))?;
        }
    }
    for key in ["", &"k".repeat(256), "schl\u{fc}ssel", "a\tb"] {
        let request = api.request(Method::POST, "/v1/containers/box/stop").header("idempotency-key", key);
        refused(&send(request.json(&json!({}))).await?).with_context(|| format!("the key {key:?}"))?;
    }
    Ok(())
}

/// Names that do not keep their rule, and things that are not there: which field, which rule.
async fn names_and_things(api: &Api, container: &str) -> Result<()> {
    let save = format!("/v1/containers/{container}/snapshots");
    let long = "t".repeat(129);
    for tag in ["", ".a", "-a", "a/b", "a:b", "a b", "標籤", "../x", "_mothball-x", long.as_str()] {
        let answer = api.post(&save, &json!({"tag": tag})).await?;
        ensure!(answer.status == 422 && answer.json["field"] == "tag", "{tag:?}: {}", answer.json);
        refused(&answer)?;
    }
    let launch = |field: &str, value: Value| {
        let mut body = json!({"name": "new", "image": BASE, "flavor": "cpu-small"});
        body[field] = value;
        body
    };
    let long = "a".repeat(64);
    for (field, value) in [
        ("name", json!("")),
        ("name", json!("A")),
        ("name", json!("1a")),
        ("name", json!("a.b")),
        ("name", json!(long)),
        ("env", json!({"NVIDIA_VISIBLE_DEVICES": "all"})),
        ("env", json!({"A B": "x"})),
        ("env", json!({"": "x"})),
        ("env", json!({"A": "x\u{0}y"})),
        ("env", json!({"A": "x".repeat(40_000)})),
        ("env", (0..300).map(|n| (format!("V{n}"), json!("x"))).collect::<Map<_, _>>().into()),
        ("ports", json!([0])),
        ("ports", json!([80, 80])),
        ("ports", json!([70_000])),
        ("ports", json!((1..60).collect::<Vec<u16>>())),
        ("mounts", json!(["/etc"])),
        ("mounts", json!(["../../etc"])),
        ("description", json!("x".repeat(1001))),
        ("image", json!("none:v1")),
        ("image", json!("")),
        ("image", json!("evil.example/x:v1")),
        ("flavor", json!("huge")),
    ] {
        let answer = api.post("/v1/containers", &launch(field, value.clone())).await?;
        let named = answer.json["field"].as_str().is_some_and(|named| named.starts_with(field));
        ensure!(answer.status == 422 && named, "{field} {}: {}", shortened(&value), answer.json);
        refused(&answer)?;
    }
    for path in ["/v1/containers/nothing", "/v1/containers/4711", "/v1/images/base:none", "/v1/nodes/nowhere"]
    {
        assert_eq!(api.get(path).await?.problem(404)?, "not_found");
    }
    let taken = api.post("/v1/containers", &launch("name", json!("box"))).await?;
    assert_eq!(taken.problem(409)?, "name_taken");
    // A tag of the catalogue's is nobody's.
    let taken = api.post(&save, &json!({"tag": "latest"})).await?;
    assert_eq!(taken.problem(409)?, "catalog_name");
    Ok(())
}

/// Bytes that are no request of anybody.
async fn no_http_at_all(api: &Api, url: &str) -> Result<()> {
    let address = url.strip_prefix("http://").context("no address")?;
    let many = format!("GET /v1/me HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-a: b\r\n".repeat(500));
    let wide = format!("GET /v1/{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(100_000));
    for bytes in [
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /v1/me HTTP/1.1\r\nbad header\r\n\r\n",
        "POST /v1/containers HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        "POST /v1/containers HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}",
        many.as_str(),
        wide.as_str(),
    ] {
        let mut stream = TcpStream::connect(address).await?;
        let _closed = stream.write_all(bytes.as_bytes()).await;
        let _closed = stream.shutdown().await;
        let answer = answer_of(stream).await?;
        ensure!(
            !answer.starts_with("HTTP/1.1 5") && !answer.starts_with("HTTP/1.1 2"),
            "{bytes:.60}: {answer}"
        );
        assert_eq!(api.without_key().get("/livez").await?.status, 200);
    }
    Ok(())
}
