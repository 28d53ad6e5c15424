use super::*;
use FailureClass::{Auth, Engine, Gone, Network, NodeDisk, Quota, Registry, Timeout, TooLarge};
use mothball_domain::failure::Disposition::{self, Permanent, Transient};

fn transferred(message: &str) -> (FailureClass, Disposition) {
    let failure = DockerError::Transfer { what: "push image", message: message.into() }.failure();
    (failure.class, failure.disposition)
}

fn answered(status: u16, message: &str) -> (FailureClass, Disposition) {
    let failure = DockerError::Refused { what: "start container", status, message: message.into() }.failure();
    (failure.class, failure.disposition)
}

/// Texts of Docker Engine 20.10 to 28, docker-registry and Harbor, as they come.
#[test]
fn what_a_push_or_pull_says_is_classified() {
    let cases = [
        ("unauthorized: authentication required", Auth, Permanent),
        ("no basic auth credentials", Auth, Permanent),
        ("denied: requested access to the resource is denied", Auth, Permanent),
        (
            "pull access denied for x, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
            Auth,
            Permanent,
        ),
        ("received unexpected HTTP status: 403 Forbidden", Auth, Permanent),
        (
            "denied: Quota exceeded when processing the request of adding 1.2 GiB of storage resource, which when updated to 10.1 GiB will exceed the configured upper limit of 10.0 GiB.",
            Quota,
            Permanent,
        ),
        ("error parsing HTTP 413 response body: invalid character '<'", TooLarge, Permanent),
        ("toomanyrequests: You have reached your pull rate limit.", Registry, Transient),
        ("received unexpected HTTP status: 500 Internal Server Error", Registry, Transient),
        ("received unexpected HTTP status: 503 Service Unavailable", Registry, Transient),
        ("unknown: unknown error: write /var/lib/registry/x: no space left on device", Registry, Transient),
        ("write /var/lib/docker/tmp/GetImageBlob123: no space left on device", NodeDisk, Transient),
        (
            "Get \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
            Network,
            Transient,
        ),
        ("Put \"https://r/v2/x/blobs/uploads/1\": EOF", Network, Transient),
        ("net/http: TLS handshake timeout", Network, Transient),
        ("net/http: timeout awaiting response headers", Network, Transient),
        ("Get \"https://r/v2/\": dial tcp: lookup r: no such host", Network, Transient),
        ("manifest for 127.0.0.1:5000/x:1 not found: manifest unknown: manifest unknown", Gone, Permanent),
        ("An image does not exist locally with the tag: x/y", Gone, Permanent),
        ("tag does not exist: x:nope", Gone, Permanent),
        ("http: server gave HTTP response to HTTPS client", Registry, Permanent),
        ("x509: certificate signed by unknown authority", Registry, Permanent),
        ("something nobody has seen", Registry, Transient),
    ];
    for (message, class, disposition) in cases {
        assert_eq!(transferred(message), (class, disposition), "{message}");
    }
}

#[test]
fn what_the_engine_refuses_is_classified() {
    let gpu = "could not select device driver \"\" with capabilities: [[gpu]]";
    assert_eq!(answered(500, gpu), (Engine, Permanent));
    assert_eq!(answered(404, "No such container: abc"), (Gone, Permanent));
    assert_eq!(answered(500, "write /x: no space left on device"), (NodeDisk, Transient));
    assert_eq!(answered(500, "max depth exceeded"), (TooLarge, Permanent));
    assert_eq!(answered(400, "invalid mount config"), (Engine, Permanent));
    assert_eq!(answered(409, "removal already in progress"), (Engine, Transient));
    assert_eq!(
        answered(500, "driver failed to remove root filesystem: device or resource busy"),
        (Engine, Transient)
    );
    let failure =
        DockerError::Refused { what: "start container", status: 500, message: gpu.into() }.failure();
    assert!(failure.hint.contains("NVIDIA Container Toolkit"), "{}", failure.hint);
}

#[test]
fn an_absent_docker_is_said_in_plain_words() {
    let error = DockerError::Unreachable {
        what: "inspect container",
        host: "unix:///run/d.sock".into(),
        reason: "/run/d.sock does not exist".into(),
    };
    let failure = error.failure();
    assert_eq!((failure.class, failure.disposition), (Engine, Transient));
    assert!(failure.message.starts_with("Docker Engine on this node does not answer"), "{}", failure.message);
    assert!(error.is_unreachable() && !error.is_not_found());
    let slow = DockerError::Timeout { what: "commit container", limit: Duration::from_hours(2) };
    assert_eq!(slow.failure().class, Timeout);
    assert_eq!(slow.to_string(), "commit container: no answer within 7200 s");
}
