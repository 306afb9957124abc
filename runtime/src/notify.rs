//! What the service manager is told; without one (no `NOTIFY_SOCKET`) each call does nothing.

use std::time::{Duration, Instant};

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

/// Tells that a program does its work. Only the loop that does it says so: with a watchdog
/// (`WatchdogSec=`) a program that stays silent is ended and started again.
#[derive(Debug)]
pub struct Alive {
    /// Three times for each time that the watchdog looks; never without one.
    every: Option<Duration>,
    said: Option<Instant>,
}

impl Alive {
    /// As the service manager wants it.
    pub fn new() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|watchdog| watchdog / 3), said: None }
    }

    /// Says it, unless it was said just now.
    pub fn say(&mut self) {
        let Some(every) = self.every else { return };
        if self.said.is_none_or(|said| said.elapsed() >= every) {
            send(&[NotifyState::Watchdog]);
            self.said = Some(Instant::now());
        }
    }
}

impl Default for Alive {
    fn default() -> Self {
        Self::new()
    }
}

fn send(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager could not be notified");
    }
}
