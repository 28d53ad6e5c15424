//! What the beginning of a file says of what it holds. The secret itself goes nowhere: only its kind comes out.

use super::names::Verdict;
use super::until::Until;
use super::walk::Root;
use mothball_domain::survey::SecretKind;
use regex::bytes::RegexSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Bytes of each file that are read.
const HEAD_BYTES: u64 = 16 << 10;
/// Files larger than this hold data.
pub(super) const FILE_SIZE_MAX: u64 = 4 << 20;
/// Files that are looked into.
pub(super) const FILES_MAX: usize = 20_000;
/// Bytes that are read in all.
const BYTES_MAX: u64 = 128 << 20;

/// What stands in files, with what it is. The first that is found counts, so that the surest come first.
const SIGNS: [(&str, SecretKind); 20] = [
    (r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----", SecretKind::PrivateKey),
    (r"PuTTY-User-Key-File-\d:", SecretKind::PrivateKey),
    (r#""type"\s*:\s*"service_account""#, SecretKind::Gcp),
    (r"\bAIza[0-9A-Za-z_-]{35}\b", SecretKind::Gcp),
    (r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", SecretKind::Aws),
    (r#"(?i)\baws_secret_access_key["']?\s*[=:]\s*["']?[0-9a-z/+]{40}"#, SecretKind::Aws),
    (r"(?i)\b(?:AccountKey|SharedAccessKey)=[0-9a-z+/]{40,}", SecretKind::Azure),
    (r"\bgh[pousr]_[0-9A-Za-z]{36,}\b", SecretKind::GitToken),
    (r"\bgithub_pat_[0-9A-Za-z_]{22,}\b", SecretKind::GitToken),
    (r"\bglpat-[0-9A-Za-z_-]{20,}", SecretKind::GitToken),
    (r"\bhf_[0-9A-Za-z]{30,}\b", SecretKind::HuggingFace),
    (r"\bxox[abeprs]-[0-9A-Za-z-]{10,}", SecretKind::Slack),
    (r"\bhooks\.slack\.com/services/T[0-9A-Z]+/B[0-9A-Z]+/[0-9A-Za-z]{16,}", SecretKind::Slack),
    (r"\bsk-(?:proj-|svcacct-|ant-|or-)[0-9A-Za-z_-]{20,}", SecretKind::ModelApi),
    (r"\bsk-[0-9A-Za-z]{32,}\b", SecretKind::ModelApi),
    (r"\bpypi-[0-9A-Za-z_-]{50,}", SecretKind::PackageIndex),
    (r"_authToken\s*=\s*[^\s$]{8,}", SecretKind::PackageIndex),
    (r#""(?:auth|identitytoken)"\s*:\s*"[^"]{4,}""#, SecretKind::DockerLogin),
    (r"\bclient-key-data:\s*[0-9A-Za-z+/=]{40,}", SecretKind::Kubeconfig),
    (r"://[^/\s:@]{1,64}:[^/\s:@]{4,}@", SecretKind::GitCredentials),
];
/// The last signs count only in files of their own kind: elsewhere such a line is an example.
const SIGNS_OF_THEIR_OWN: usize = 4;
const PUBLIC: &str = r"-----BEGIN (?:TRUSTED |X509 )?(?:CERTIFICATE|PUBLIC KEY|RSA PUBLIC KEY|X509 CRL|CERTIFICATE REQUEST|DH PARAMETERS)";

/// A file to be looked into.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) path: Vec<u8>,
    pub(super) verdict: Verdict,
}

/// Looks into files on several threads. Returns what was found, and whether all were looked into.
pub(super) fn look_into(
    root: &Root,
    candidates: &[Candidate],
    until: &Until,
    threads: usize,
) -> (Vec<(Vec<u8>, SecretKind)>, bool) {
    let Ok(signs) = Signs::new() else { return (Vec::new(), false) };
    let (next, bytes, complete) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(true));
    let look = || {
        let (mut found, mut head) = (Vec::new(), Vec::new());
        while let Some(candidate) = candidates.get(next.fetch_add(1, Ordering::Relaxed)) {
            if until.is_over() || bytes.load(Ordering::Relaxed) >= BYTES_MAX {
                complete.store(false, Ordering::Relaxed);
                break;
            }
            let Ok(file) = root.file(&candidate.path) else { continue };
            head.clear();
            let read = file.take(HEAD_BYTES).read_to_end(&mut head).unwrap_or(0);
            bytes.fetch_add(read as u64, Ordering::Relaxed);
            if let Some(kind) = signs.kind(&head, candidate.verdict) {
                found.push((candidate.path.clone(), kind));
            }
        }
        found
    };
    let found = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(look)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    (found, complete.into_inner())
}

/// The signs, compiled.
struct Signs {
    secret: RegexSet,
    public: RegexSet,
}

impl Signs {
    fn new() -> Result<Self, regex::Error> {
        Ok(Self { secret: RegexSet::new(SIGNS.map(|(sign, _)| sign))?, public: RegexSet::new([PUBLIC])? })
    }

    /// What a file holds whose beginning is `head`.
    fn kind(&self, head: &[u8], verdict: Verdict) -> Option<SecretKind> {
        let found: Vec<usize> = self.secret.matches(head).into_iter().collect();
        match verdict {
            Verdict::Secret(kind) => Some(kind),
            Verdict::UnlessPublic if found.is_empty() && self.public.is_match(head) => None,
            Verdict::UnlessPublic => Some(SecretKind::PrivateKey),
            Verdict::IfItHolds(kind) => (!found.is_empty()).then_some(kind),
            Verdict::Look => {
                let first = found.into_iter().find(|at| *at < SIGNS.len() - SIGNS_OF_THEIR_OWN);
                first.map(|at| SIGNS[at].1)
            }
            Verdict::Pass => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Option<SecretKind> {
        Signs::new().unwrap().kind(text.as_bytes(), Verdict::Look)
    }

    /// Written in two parts: this file itself must not look like a secret.
    #[test]
    fn well_known_secrets_are_known() {
        use SecretKind as K;
        let (x36, x40, x35) = ("x".repeat(36), "Y".repeat(40), "z".repeat(35));
        for (text, expected) in [
            (format!("-----BEGIN {}-----", "OPENSSH PRIVATE KEY"), K::PrivateKey),
            (format!("-----BEGIN {}-----", "RSA PRIVATE KEY"), K::PrivateKey),
            (format!("-----BEGIN {}-----", "PRIVATE KEY"), K::PrivateKey),
            (format!("-----BEGIN {}-----", "PGP PRIVATE KEY BLOCK"), K::PrivateKey),
            (format!("key = AKIA{}", "ABCDEFGHIJKLMNOP"), K::Aws),
            (format!("aws_secret_access_key = {x40}"), K::Aws),
            (r#"{"type": "service_account"}"#.to_owned(), K::Gcp),
            (format!("AIza{x35}"), K::Gcp),
            (format!("AccountName=a;AccountKey={x40}=="), K::Azure),
            (format!("token: ghp_{x36}"), K::GitToken),
            (format!("github_pat_{x36}"), K::GitToken),
            (format!("glpat-{x36}"), K::GitToken),
            (format!("HF_TOKEN=hf_{x36}"), K::HuggingFace),
            (format!("xoxb-{x36}"), K::Slack),
            (format!("sk-proj-{x36}"), K::ModelApi),
            (format!("OPENAI_API_KEY='sk-{x36}'"), K::ModelApi),
        ] {
            assert_eq!(kind(&text), Some(expected), "{expected:?}");
        }
    }

    #[test]
    fn what_is_no_secret_is_none() {
        for text in [
            "",
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN PUBLIC KEY-----",
            "ghp_short",
            "task-risk-sk-learn",
            "https://user:password@host/",
            r#"{"auth": "example"}"#,
            "hf_dataset_name",
            "AKIA lower case",
        ] {
            assert_eq!(kind(text), None, "{text}");
        }
        assert_eq!(Signs::new().unwrap().kind(&[0xff, 0xfe, 0], Verdict::Look), None);
    }

    #[test]
    fn files_of_their_own_kind_are_judged_by_it() {
        let signs = Signs::new().unwrap();
        let docker = Verdict::IfItHolds(SecretKind::DockerLogin);
        assert_eq!(
            signs.kind(br#"{"auths": {"r": {"auth": "YW5uOng="}}}"#, docker),
            Some(SecretKind::DockerLogin)
        );
        assert_eq!(signs.kind(br#"{"credsStore": "desktop"}"#, docker), None);
        let git = Verdict::IfItHolds(SecretKind::GitCredentials);
        assert_eq!(signs.kind(b"url = https://ann:token1@host/x.git", git), Some(SecretKind::GitCredentials));
        assert_eq!(signs.kind(b"url = git@host:x.git", git), None);
        assert_eq!(signs.kind(b"-----BEGIN CERTIFICATE-----", Verdict::UnlessPublic), None);
        let both = format!("-----BEGIN CERTIFICATE-----\n-----BEGIN {}-----", "PRIVATE KEY");
        assert_eq!(signs.kind(both.as_bytes(), Verdict::UnlessPublic), Some(SecretKind::PrivateKey));
        assert_eq!(signs.kind(b"binary", Verdict::UnlessPublic), Some(SecretKind::PrivateKey));
    }
}
