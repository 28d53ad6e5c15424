//! HTTP for tests.

/// A client that follows no proxy of the environment and has a TLS provider.
///
/// # Panics
/// When the client cannot be built, which no test can survive.
pub fn client() -> reqwest::Client {
    // The first caller of the process installs it; the others find it there.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        .timeout(std::time::Duration::from_mins(1))
        .build()
        .expect("the client has no variable part")
}
