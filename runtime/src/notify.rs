//! What the service manager is told; without one (no `NOTIFY_SOCKET`) each call does nothing.

use sd_notify::NotifyState;

/// The program is up: units ordered after it may start.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// What the program does or waits for, as `systemctl status` shows it.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// The program has begun to stop.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager could not be notified");
    }
}
