use super::*;
use mothball_domain::exclude::Exclude;
use mothball_domain::survey::Weight;
use proptest::prelude::*;
use rustix::fs::{CWD, Mode, mknodat};
use std::fs;
use std::path::PathBuf;

fn patterns(all: &[&str]) -> Vec<Exclude> {
    all.iter().map(|p| Exclude::new(*p).unwrap()).collect()
}

fn look(upper: &Path, excludes: &[&str], also: &[&str], never: &[&str]) -> LayerReport {
    let excludes = Excluder::new(&patterns(excludes)).unwrap();
    let secrets = SecretRules::new(&patterns(also), &patterns(never)).unwrap();
    let until = &Until::after(Duration::from_mins(1));
    look_at_layer(upper, Looking { excludes: &excludes, secrets: &secrets, until, threads: 4 }).unwrap()
}

/// Files of these sizes, or of this text.
fn upper(files: &[(&str, usize)], texts: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let place = |path: &str| -> PathBuf {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for (path, size) in files {
        fs::write(place(path), vec![b'.'; *size]).unwrap();
    }
    for (path, text) in texts {
        fs::write(place(path), text).unwrap();
    }
    dir
}

fn weights(all: &[Weight]) -> Vec<(&str, u64)> {
    all.iter().map(|w| (w.path.as_str(), w.bytes)).collect()
}

#[test]
fn sizes_entries_and_deletions_are_counted_once() {
    let dir = upper(&[("opt/big/model.bin", 5000), ("opt/other", 1000), ("root/a", 100)], &[]);
    fs::hard_link(dir.path().join("root/a"), dir.path().join("root/b")).unwrap();
    std::os::unix::fs::symlink("/etc", dir.path().join("root/link")).unwrap();
    let gone = dir.path().join("root/gone");
    mknodat(CWD, &gone, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    let report = look(dir.path(), &[], &[], &[]);
    assert_eq!((report.bytes, report.entries, report.deleted), (6100, 9, 1));
    assert!(report.complete && report.secrets_complete && report.secrets.is_empty());
    assert_eq!(weights(&report.largest_directories), [("/opt", 6000), ("/opt/big", 5000), ("/root", 100)]);
    assert_eq!(report.largest_directories[0].entries, 3);
    assert_eq!(weights(&report.largest_files)[..2], [("/opt/big/model.bin", 5000), ("/opt/other", 1000)]);
}

#[test]
fn what_is_left_out_is_counted_apart() {
    let files =
        [("data/run/a.ckpt", 700), ("data/run/b", 50), ("root/.cache/pip/http/x", 300), ("root/c", 5)];
    let dir = upper(&files, &[("root/.cache/pip/.netrc", "machine")]);
    let report = look(dir.path(), &["*.ckpt", "/root/.cache"], &[], &[]);
    assert_eq!((report.bytes, report.excluded_bytes), (55, 1007));
    assert!(report.secrets.is_empty() && report.caches.is_empty(), "{report:?}");
}

#[test]
fn caches_are_summed_up() {
    let files = [
        ("root/.cache/pip/http/a/b", 300),
        ("root/.cache/pip/wheels/c", 200),
        ("opt/conda/pkgs/x-1/lib/y", 900),
        ("var/cache/apt/archives/z.deb", 100),
        ("var/lib/apt/lists/list", 50),
    ];
    let dir = upper(&files, &[]);
    let caches = look(dir.path(), &[], &[], &[]).caches;
    let found: Vec<(&str, CacheKind, u64)> =
        caches.iter().map(|c| (c.path.as_str(), c.kind, c.bytes)).collect();
    let expected = [
        ("/opt/conda/pkgs", CacheKind::Conda, 900),
        ("/root/.cache/pip", CacheKind::Pip, 500),
        ("/var/cache/apt/archives", CacheKind::Apt, 100),
        ("/var/lib/apt/lists", CacheKind::AptLists, 50),
    ];
    assert_eq!(found, expected);
}

#[test]
fn secrets_are_named_with_their_kind_and_nothing_else() {
    let token = format!("hf_{}", "q".repeat(34));
    let key = format!("-----BEGIN {}-----\nMIIsecretbytes", "RSA PRIVATE KEY");
    let texts = [
        ("root/.ssh/id_ed25519", key.as_str()),
        ("root/train.py", &format!("import os\nTOKEN = '{token}'\n")),
        ("root/.bash_history", "export X=1"),
        ("srv/tls/site.pem", &key),
        ("srv/tls/ca.pem", "-----BEGIN CERTIFICATE-----\nMIIpublic"),
        ("usr/lib/python3/test/keycert.pem", &key),
        ("opt/venv/lib/python3.11/site-packages/boto/x.py", &token),
        ("etc/company.token", "abcdefgh"),
        ("root/known.pem", &key),
    ];
    let dir = upper(&[], &texts);
    let report = look(dir.path(), &[], &["*.token"], &["/root/known.pem"]);
    let found: Vec<(&str, SecretKind)> = report.secrets.iter().map(|s| (s.path.as_str(), s.kind)).collect();
    let expected = [
        ("/etc/company.token", SecretKind::Listed),
        ("/root/.bash_history", SecretKind::History),
        ("/root/.ssh/id_ed25519", SecretKind::PrivateKey),
        ("/root/train.py", SecretKind::HuggingFace),
        ("/srv/tls/site.pem", SecretKind::PrivateKey),
    ];
    assert_eq!(found, expected);
    let told = serde_json::to_string(&report).unwrap();
    assert!(!told.contains(&token) && !told.contains("MII"), "{told}");
}

#[test]
fn the_list_of_secrets_is_bounded_and_says_how_many_more() {
    let texts: Vec<String> = (0..SECRETS_MAX + 7).map(|i| format!("home/{i}/.netrc")).collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|path| (path.as_str(), "machine")).collect();
    let dir = upper(&[], &texts);
    let report = look(dir.path(), &[], &[], &[]);
    assert_eq!((report.secrets.len(), report.secrets_more), (SECRETS_MAX, 7));
}

#[test]
fn no_time_is_a_report_that_says_so() {
    let dir = upper(&[("a/b", 1)], &[]);
    let excludes = Excluder::new(&[]).unwrap();
    let secrets = SecretRules::new(&[], &[]).unwrap();
    let looking =
        Looking { excludes: &excludes, secrets: &secrets, until: &Until::after(Duration::ZERO), threads: 1 };
    let report = look_at_layer(dir.path(), looking).unwrap();
    assert!(!report.complete && !report.secrets_complete);
    assert!(look_at_layer(&dir.path().join("none"), looking).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_byte_is_counted_on_one_side(
        files in prop::collection::btree_map("[ab]/[a-c]/[a-z]{1,3}(\\.ckpt)?", 0usize..2000, 0..25),
        threads in 1usize..5,
    ) {
        let list: Vec<(&str, usize)> = files.iter().map(|(path, size)| (path.as_str(), *size)).collect();
        let dir = upper(&list, &[]);
        let excludes = Excluder::new(&patterns(&["*.ckpt", "/a/b"])).unwrap();
        let secrets = SecretRules::new(&[], &[]).unwrap();
        let until = &Until::after(Duration::from_mins(1));
        let report = look_at_layer(dir.path(), Looking { excludes: &excludes, secrets: &secrets, until, threads }).unwrap();
        let (out, kept): (Vec<_>, Vec<_>) =
            files.iter().partition(|(path, _)| Path::new(path).extension().is_some_and(|e| e == "ckpt") || path.starts_with("a/b/"));
        let sum = |of: Vec<(&String, &usize)>| of.into_iter().map(|(_, size)| *size as u64).sum::<u64>();
        prop_assert_eq!((report.bytes, report.excluded_bytes), (sum(kept), sum(out)));
    }
}
