//! Configuration as a whole.

use super::*;
use std::collections::BTreeSet;

fn with(file: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mothball.toml");
    std::fs::write(&path, file).unwrap();
    let variables: Vec<(String, String)> =
        variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(Some(&path), &variables)
}

fn refused(file: &str, variables: &[(&str, &str)]) -> String {
    with(file, variables).unwrap_err().to_string()
}

fn schema() -> Schema {
    Schema::of(&with("", &[]).unwrap())
}

#[test]
fn the_defaults_are_what_the_document_says() {
    let settings = with("", &[("MOTHBALL_WORKER__NODE", "node-1")]).unwrap();
    insta::assert_snapshot!(toml::to_string_pretty(&settings).unwrap());
}

#[test]
fn every_key_is_documented_with_the_defaults() {
    let documented: BTreeSet<String> = DEFAULTS
        .lines()
        .map(|line| line.trim_start_matches("# "))
        .filter_map(|line| line.split_once(" = ").map(|(key, _)| key.to_owned()))
        .collect();
    for key in schema().keys() {
        let last = key.rsplit('.').next().unwrap();
        let section = DEFAULTS.contains(&format!("[{key}]"));
        assert!(section || documented.contains(last), "{key} does not stand in defaults.toml");
    }
}

#[test]
fn later_layers_win_and_lists_are_replaced() {
    let file = "data_dir = \"/a\"\n[worker]\nconcurrency = 3\n[[flavors]]\nname = \"x\"\ngpus = 0\ncpus = 1\nmemory = \"1GiB\"\nprice_per_hour = \"0.5\"\n";
    let settings = with(file, &[("MOTHBALL_WORKER__CONCURRENCY", "7"), ("MOTHBALL_CURRENCY", "")]).unwrap();
    assert_eq!(settings.data_dir, Path::new("/a"));
    assert_eq!((settings.worker.concurrency, settings.currency.as_str()), (7, "TWD"));
    assert_eq!(settings.flavors.len(), 1);
    assert_eq!(settings.flavors[0].price_per_hour.to_string(), "0.5");
}

#[test]
fn variables_take_the_kind_of_their_setting() {
    let catalog = "[{name = \"a:latest\", image = \"a\", type = \"A\"}]";
    let settings = with(
        "",
        &[
            ("MOTHBALL_WORKER__NODE", "7"),
            ("MOTHBALL_WORKER__GPUS", "4"),
            ("MOTHBALL_JOBS__LEASE", "3s"),
            ("MOTHBALL_CATALOG", catalog),
            ("MOTHBALL_URL", "http://elsewhere"),
            ("MOTHBALL_API_KEY", "not a setting"),
            ("MOTHBALL_SERVICE_HOST", "10.0.0.1"),
            ("MOTHBALL_OF_SOMEBODY_ELSE", "1"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!((settings.worker.node.as_deref(), settings.worker.gpus), (Some("7"), Gpus::Fixed(4)));
    assert_eq!(settings.jobs.lease.0.as_secs(), 3);
    assert_eq!(settings.catalog[0].kind.as_deref(), Some("A"));
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest() {
    for (file, said) in [
        ("[worker]\nconcurency = 3", "unknown key `worker.concurency`; did you mean `worker.concurrency`?"),
        ("[registry]\nuser = \"a\"", "did you mean `registry.username`?"),
        ("concurrency = 3", "did you mean `worker.concurrency`?"),
        ("[wroker]\nnode = \"a\"", "unknown key `wroker`; did you mean `worker`?"),
        ("[[flavors]]\nname = \"a\"\nprice = \"1\"", "did you mean `flavors.price_per_hour`?"),
        ("[[catalog]]\nnmae = \"a\"", "did you mean `catalog.name`?"),
        ("[zzz]\nqqq = 1", "mothball config --defaults"),
    ] {
        let error = refused(file, &[]);
        assert!(error.contains(said), "{file:?}: {error}");
    }
    let error = refused("", &[("MOTHBALL_WORKER_NODE", "a")]);
    assert!(error.contains("MOTHBALL_WORKER_NODE; did you mean `MOTHBALL_WORKER__NODE`?"), "{error}");
    let error = refused("", &[("MOTHBALL_DATADIR", "a")]);
    assert!(error.contains("did you mean `MOTHBALL_DATA_DIR`?"), "{error}");
    let error = refused("", &[("MOTHBALL_ZZZ__QQQ", "a")]);
    assert!(error.contains("unknown environment variable MOTHBALL_ZZZ__QQQ"), "{error}");
    let error = refused("", &[("MOTHBALL_QUEUE__URI", "a")]);
    assert!(error.contains("did you mean `MOTHBALL_QUEUE__URL`?"), "{error}");
}

#[test]
fn a_value_of_the_wrong_kind_names_its_key_and_place() {
    let error = refused("[worker]\nconcurrency = \"many\"", &[]);
    assert!(
        error.contains("worker.concurrency cannot be used") && error.contains("mothball.toml"),
        "{error}"
    );
    let error = refused("", &[("MOTHBALL_JOBS__LEASE", "30")]);
    assert!(
        error.contains("jobs.lease") && error.contains("with units") && error.contains("environment"),
        "{error}"
    );
    let error = refused("[jobs\n", &[]);
    assert!(error.contains("line 1"), "{error}");
    let error = refused("[worker]\nsnapshot = \"fast\"", &[]);
    assert!(error.contains("worker.snapshot") && error.contains("auto"), "{error}");
}

#[test]
fn what_does_not_belong_together_is_refused_with_a_hint() {
    for (file, key) in [
        ("[store]\nurl = \"postgres://a\"", "store.url"),
        ("[queue]\nurl = \"rabbit\"", "queue.url"),
        ("[registry]\nusername = \"a\"", "registry.username"),
        ("[registry]\npassword_file = \"/a\"", "registry.password_file"),
        ("[jobs]\nretry_first = \"1m\"", "jobs.retry_first"),
        ("[jobs]\nlease = \"10ms\"", "jobs.lease"),
        ("[jobs]\nmax_attempts = 0", "jobs.max_attempts"),
        ("[worker]\nheartbeat = \"1m\"", "worker.alive_within"),
        ("[worker]\nnode = \"a b\"", "worker.node"),
        ("[telemetry]\nlisten = \"127.0.0.1:8780\"", "telemetry.listen"),
        ("[api]\nlisten = \"8780\"", "api.listen"),
        ("[api]\nadmin_key = \"geheim\"", "api.admin_key"),
        ("[[mounts]]\ntarget = \"/home/{name}\"\nsource = \"/x\"", "mounts"),
        ("[[mounts]]\ntarget = \"/a\"\nsource = \"/x/../..\"", "mounts"),
        ("[[catalog]]\nname = \"a\"\nimage = \"x\"\n[[catalog]]\nname = \"a\"\nimage = \"y\"", "catalog"),
        ("flavors = []", "flavors"),
    ] {
        let error = refused(file, &[]);
        assert!(
            error.contains(key) && error.contains("hint: ") && !error.contains("geheim"),
            "{file:?}: {error}"
        );
    }
}

#[test]
fn no_secret_is_printed() {
    let settings = with(
        "[api]\nadmin_key = \"01234567-89ab-4cde-8f01-23456789abcd\"",
        &[
            ("MOTHBALL_QUEUE__URL", "amqp://me:geheim@broker/v"),
            ("MOTHBALL_STORE__URL", "rediss://:geheim@cache/0"),
        ],
    )
    .unwrap();
    let shown = format!("{settings:?}{}{}", toml::to_string(&settings).unwrap(), serde_json::json!(settings));
    assert!(!shown.contains("geheim") && !shown.contains("89ab"), "{shown}");
    assert!(shown.contains("amqp://me:***@broker/v"));
    let error = refused("[store]\nurl = 5\n[queue]\nurl = \"geheim\"", &[]);
    assert!(!error.contains("geheim"), "{error}");
}
