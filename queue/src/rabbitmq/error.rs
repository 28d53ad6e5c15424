//! lapin's errors in the port's words.

use crate::QueueError;
use lapin::ErrorKind;
use std::fmt::Display;
use std::time::Duration;

/// Says that the broker cannot be reached.
pub(super) fn unavailable(reason: impl Display) -> QueueError {
    QueueError::Unavailable { reason: reason.to_string() }
}

/// What an error of lapin means for the caller. lapin knows the password, but none of its errors
/// carries it: the broker's reply texts name user and virtual host at most.
impl From<lapin::Error> for QueueError {
    fn from(error: lapin::Error) -> Self {
        let ErrorKind::ProtocolError(protocol) = error.kind() else { return unavailable(&error) };
        let reason = protocol.get_message().to_string();
        match protocol.get_id() {
            403 | 530 => Self::Denied { reason }, // ACCESS_REFUSED, NOT_ALLOWED (virtual host)
            406 => Self::Inequivalent { reason }, // PRECONDITION_FAILED on declaring
            _ => Self::Unavailable { reason },
        }
    }
}

/// Logs a failure to connect; called once per wait, so never more often than the backoff allows.
pub(super) fn log(purpose: &str, error: &QueueError, wait: Duration) {
    let retry_ms = wait.as_millis() as u64;
    if error.is_transient() {
        tracing::warn!(purpose, %error, retry_ms, "Broker is not available");
    } else {
        tracing::error!(purpose, %error, hint = error.hint(), retry_ms, "Broker cannot be used");
    }
}
