//! What a file's name and place say of what it holds.

use super::{name_of, parent_of};
use mothball_domain::exclude::{Exclude, ExcludeError, Excluder};
use mothball_domain::survey::SecretKind;

/// What an operator adds to the list of files that look like secrets, and takes off it.
#[derive(Debug, Clone)]
pub struct SecretRules {
    pub(super) also: Excluder,
    pub(super) never: Excluder,
}

impl SecretRules {
    /// `also` are files that look like secrets as well, `never` are files that do not, whatever they are called and hold.
    pub fn new(also: &[Exclude], never: &[Exclude]) -> Result<Self, ExcludeError> {
        Ok(Self { also: Excluder::new(also)?, never: Excluder::new(never)? })
    }
}

/// What is to be done with a file, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It looks like a secret.
    Secret(SecretKind),
    /// It looks like one unless it turns out to hold public certificates or keys alone.
    UnlessPublic,
    /// It looks like one if it holds what such a file holds.
    IfItHolds(SecretKind),
    /// It may hold anything.
    Look,
    /// Nothing is to be done.
    Pass,
}

/// Files by their name, wherever they are.
const NAMES: [(&[u8], SecretKind); 31] = [
    (b"id_rsa", SecretKind::PrivateKey),
    (b"id_dsa", SecretKind::PrivateKey),
    (b"id_ecdsa", SecretKind::PrivateKey),
    (b"id_ed25519", SecretKind::PrivateKey),
    (b".netrc", SecretKind::Netrc),
    (b"_netrc", SecretKind::Netrc),
    (b".git-credentials", SecretKind::GitCredentials),
    (b".dockercfg", SecretKind::DockerLogin),
    (b".pypirc", SecretKind::PackageIndex),
    (b".pgpass", SecretKind::Database),
    (b".my.cnf", SecretKind::Database),
    (b".s3cfg", SecretKind::Aws),
    (b".boto", SecretKind::Gcp),
    (b".vault-token", SecretKind::Service),
    (b"kaggle.json", SecretKind::Service),
    (b"rclone.conf", SecretKind::Service),
    (b"credentials.tfrc.json", SecretKind::Service),
    (b"application_default_credentials.json", SecretKind::Gcp),
    (b"msal_token_cache.json", SecretKind::Azure),
    (b"accessTokens.json", SecretKind::Azure),
    (b".env", SecretKind::Environment),
    (b".bash_history", SecretKind::History),
    (b".zsh_history", SecretKind::History),
    (b".sh_history", SecretKind::History),
    (b".ash_history", SecretKind::History),
    (b".python_history", SecretKind::History),
    (b".mysql_history", SecretKind::History),
    (b".psql_history", SecretKind::History),
    (b".node_repl_history", SecretKind::History),
    (b".histfile", SecretKind::History),
    (b"fish_history", SecretKind::History),
];

/// Files by their name and the directory they are in.
const PLACES: [(&[u8], &[u8], SecretKind); 9] = [
    (b".aws", b"credentials", SecretKind::Aws),
    (b".kube", b"config", SecretKind::Kubeconfig),
    (b"gcloud", b"credentials.db", SecretKind::Gcp),
    (b"gcloud", b"access_tokens.db", SecretKind::Gcp),
    (b"huggingface", b"token", SecretKind::HuggingFace),
    (b"huggingface", b"stored_tokens", SecretKind::HuggingFace),
    (b".huggingface", b"token", SecretKind::HuggingFace),
    (b"gh", b"hosts.yml", SecretKind::GitToken),
    (b"glab-cli", b"config.yml", SecretKind::GitToken),
];

/// Files that are harmless unless a login stands in them.
const IF_THEY_HOLD: [(&[u8], &[u8], SecretKind); 5] = [
    (b".docker", b"config.json", SecretKind::DockerLogin),
    (b"", b".npmrc", SecretKind::PackageIndex),
    (b"", b"pip.conf", SecretKind::PackageIndex),
    (b"", b".condarc", SecretKind::PackageIndex),
    (b".git", b"config", SecretKind::GitCredentials),
];

/// Kinds of file that are looked into: what people write by hand.
const LOOKED_INTO: [&[u8]; 27] = [
    b"txt",
    b"md",
    b"json",
    b"jsonl",
    b"yaml",
    b"yml",
    b"toml",
    b"ini",
    b"cfg",
    b"conf",
    b"config",
    b"properties",
    b"env",
    b"py",
    b"ipynb",
    b"sh",
    b"bash",
    b"zsh",
    b"js",
    b"ts",
    b"rb",
    b"go",
    b"r",
    b"xml",
    b"tf",
    b"tfvars",
    b"key",
];

/// The largest file without an extension that is looked into.
const PLAIN_SIZE_MAX: u64 = 64 << 10;

/// What a regular file's name says. `quiet` where it is part of an installed package: those hold examples and tests.
pub(super) fn verdict(path: &[u8], size: u64, quiet: bool) -> Verdict {
    if size == 0 {
        return Verdict::Pass;
    }
    let (directory, name) = (name_of(parent_of(path)), name_of(path));
    let by_name = NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    let by_place =
        || PLACES.iter().find(|(at, known, _)| *known == name && *at == directory).map(|(.., kind)| *kind);
    if let Some(kind) = by_name.or_else(by_place).filter(|kind| !quiet || *kind != SecretKind::Environment) {
        return Verdict::Secret(kind);
    }
    let holds =
        |(at, known, _): &&(&[u8], &[u8], SecretKind)| *known == name && (at.is_empty() || *at == directory);
    if let Some((.., kind)) = IF_THEY_HOLD.iter().find(holds) {
        return Verdict::IfItHolds(*kind);
    }
    if quiet {
        return Verdict::Pass;
    }
    if is_environment(name) {
        return Verdict::Secret(SecretKind::Environment);
    }
    let dot = name.iter().rposition(|b| *b == b'.');
    let extension = dot.map(|dot| name[dot + 1..].to_ascii_lowercase());
    match extension.as_deref() {
        Some(b"pem") => Verdict::UnlessPublic,
        Some(b"p12" | b"pfx" | b"ppk" | b"jks" | b"keystore") => Verdict::Secret(SecretKind::PrivateKey),
        Some(extension) if LOOKED_INTO.contains(&extension) => Verdict::Look,
        _ if dot.is_none_or(|dot| dot == 0) && size <= PLAIN_SIZE_MAX => Verdict::Look,
        _ => Verdict::Pass,
    }
}

/// `.env.local` and the like, and not the template that is handed round.
fn is_environment(name: &[u8]) -> bool {
    const TEMPLATES: [&[u8]; 5] = [b"example", b"sample", b"template", b"dist", b"defaults"];
    name.strip_prefix(b".env.").is_some_and(|of| !TEMPLATES.contains(&of))
}

/// Whether a directory belongs to installed packages or to the system: what is in there came from elsewhere.
pub(super) fn is_quiet(path: &[u8]) -> bool {
    const SYSTEM: [&[u8]; 9] = [
        b"usr/lib",
        b"usr/share",
        b"usr/include",
        b"usr/src",
        b"var/lib/dpkg",
        b"var/lib/apt",
        b"var/cache",
        b"etc/ssl/certs",
        b"etc/ca-certificates",
    ];
    let name = name_of(path);
    let python = || name.strip_prefix(b"python").is_some_and(|v| v.first().is_some_and(u8::is_ascii_digit));
    SYSTEM.contains(&path)
        || matches!(
            name,
            b"site-packages" | b"dist-packages" | b"node_modules" | b"pkgs" | b"conda-meta" | b"__pycache__"
        )
        || (name_of(parent_of(path)) == b"lib" && python())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_say_what_they_say() {
        use SecretKind as K;
        for (path, expected) in [
            ("root/.ssh/id_rsa", Verdict::Secret(K::PrivateKey)),
            ("root/.ssh/id_rsa.pub", Verdict::Pass),
            ("home/ann/.netrc", Verdict::Secret(K::Netrc)),
            ("root/.git-credentials", Verdict::Secret(K::GitCredentials)),
            ("root/.docker/config.json", Verdict::IfItHolds(K::DockerLogin)),
            ("srv/config.json", Verdict::Look),
            ("root/.kube/config", Verdict::Secret(K::Kubeconfig)),
            ("srv/repo/.git/config", Verdict::IfItHolds(K::GitCredentials)),
            ("root/.pypirc", Verdict::Secret(K::PackageIndex)),
            ("root/.aws/credentials", Verdict::Secret(K::Aws)),
            ("root/.cache/huggingface/token", Verdict::Secret(K::HuggingFace)),
            ("root/.bash_history", Verdict::Secret(K::History)),
            ("root/.local/share/fish/fish_history", Verdict::Secret(K::History)),
            ("srv/tls/server.pem", Verdict::UnlessPublic),
            ("srv/tls/server.PEM", Verdict::UnlessPublic),
            ("srv/tls/server.p12", Verdict::Secret(K::PrivateKey)),
            ("srv/tls/server.key", Verdict::Look),
            ("srv/app/.env", Verdict::Secret(K::Environment)),
            ("srv/app/.env.production", Verdict::Secret(K::Environment)),
            ("srv/app/.env.example", Verdict::Pass),
            ("srv/train.py", Verdict::Look),
            ("srv/weights.bin", Verdict::Pass),
            ("srv/notes", Verdict::Look),
            ("srv/.hidden", Verdict::Look),
        ] {
            assert_eq!(verdict(path.as_bytes(), 100, false), expected, "{path}");
            assert_eq!(verdict(path.as_bytes(), 0, false), Verdict::Pass, "{path}, empty");
        }
        assert_eq!(verdict(b"srv/notes", 1 << 20, false), Verdict::Pass);
    }

    #[test]
    fn installed_packages_are_quiet_but_for_what_is_plainly_somebodys() {
        for quiet in ["usr/lib", "srv/app/node_modules", "opt/conda/lib/python3.11", "x/site-packages"] {
            assert!(is_quiet(quiet.as_bytes()), "{quiet}");
        }
        for loud in ["usr", "srv/python3", "root", "opt/conda/lib", "lib/pythonic"] {
            assert!(!is_quiet(loud.as_bytes()), "{loud}");
        }
        assert_eq!(verdict(b"a/site-packages/certifi/cacert.pem", 9, true), Verdict::Pass);
        assert_eq!(verdict(b"a/site-packages/x/.env", 9, true), Verdict::Pass);
        assert_eq!(verdict(b"usr/lib/x/.netrc", 9, true), Verdict::Secret(SecretKind::Netrc));
    }

    proptest! {
        #[test]
        fn no_path_panics(path in prop::collection::vec(any::<u8>(), 0..60), size in any::<u64>(), quiet in any::<bool>()) {
            let _ = (verdict(&path, size, quiet), is_quiet(&path), super::super::caches::cache_at(&path));
        }
    }
}
