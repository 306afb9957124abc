//! Whether a peer is still there, told within five seconds of its last sign of life.
//!
//! ```text
//!   message, received bytes, answered probe ──> alive ── 3 s of nothing ──> probed each second
//!        ^                                                                        │ no answer, 4.5 s
//!        └───────────────────── any sign of life ─── probed each 5 s <── unheard <┘
//! ```
//!
//! An idle peer costs one probe in three seconds at most, a busy or announcing one hardly any.

use super::event::{Now, Probe};

/// Silent for this long, a peer is asked.
const SUSPECT_MS: u64 = 3_000;
/// Silent for this long and without an answer to a probe, it is unheard.
const UNHEARD_MS: u64 = 4_500;
/// The same for one that spoke after a failed probe: its tunnel is broken and it is not, and three
/// announces in a row would have to be lost.
const UNHEARD_DEAF_MS: u64 = 16_500;
const PROBE_EVERY_MS: u64 = 1_000;
/// Its return shows by its announces or handshake sooner than by these.
const PROBE_UNHEARD_EVERY_MS: u64 = 5_000;
/// A peer that is heard anyway is probed for its latency alone.
const MEASURE_EVERY_MS: u64 = 15_000;
/// A probe that got no answer in this time gets none.
pub const PROBE_MAX_MS: u64 = 1_200;

#[derive(Debug, Clone)]
pub(super) struct Vitals {
    pub(super) alive_at: u64,
    rx_bytes: Option<u64>,
    /// When the counter was looked at last.
    looked_at: u64,
    probed_at: Option<u64>,
    probe_failed: bool,
    /// It was heard beside the tunnel after a probe had failed: a failed one tells nothing of it.
    is_deaf: bool,
}

impl Vitals {
    pub(super) fn new(now: Now) -> Self {
        Self {
            alive_at: now.mono_ms,
            rx_bytes: None,
            looked_at: now.mono_ms,
            probed_at: None,
            probe_failed: false,
            is_deaf: false,
        }
    }

    /// It was heard, beside the tunnel.
    pub(super) fn is_alive(&mut self, now: Now) {
        self.alive_at = now.mono_ms;
        self.is_deaf |= self.probe_failed;
        self.probe_failed = false;
    }

    /// It was heard through the tunnel, or goes another way from now on.
    pub(super) fn begin_anew(&mut self, now: Now) {
        self.alive_at = now.mono_ms;
        self.is_deaf = false;
        self.probe_failed = false;
    }

    /// Takes the device's counter in; returns whether something has come since the last time. It
    /// may have come right after that: a sign of life is not made younger than it can be.
    pub(super) fn received(&mut self, rx_bytes: u64, now: Now) -> bool {
        let grew = self.rx_bytes.is_some_and(|before| rx_bytes > before);
        self.rx_bytes = Some(rx_bytes);
        if grew {
            self.alive_at = self.alive_at.max(self.looked_at);
            self.is_deaf = false;
            self.probe_failed = false;
        }
        self.looked_at = now.mono_ms;
        grew
    }

    pub(super) fn is_probe_due(&self, is_live: bool, now: Now) -> bool {
        let due = |every: u64| self.probed_at.is_none_or(|at| now.mono_ms >= at + every);
        if self.is_unheard(now) {
            return due(PROBE_UNHEARD_EVERY_MS);
        }
        let is_suspect = now.mono_ms >= self.alive_at + SUSPECT_MS;
        (is_suspect && due(PROBE_EVERY_MS)) || (is_live && due(MEASURE_EVERY_MS))
    }

    /// Whether a probe began then or later.
    pub(super) fn was_probed_since(&self, at: u64) -> bool {
        self.probed_at.is_some_and(|probed_at| probed_at >= at)
    }

    /// Whether a probe had the time to be answered.
    pub(super) fn was_probed(&self, now: Now) -> bool {
        self.probed_at.is_some_and(|at| now.mono_ms >= at + PROBE_MAX_MS)
    }

    pub(super) fn probe_started(&mut self, now: Now) {
        self.probed_at = Some(now.mono_ms);
    }

    pub(super) fn probed(&mut self, outcome: Probe, now: Now) {
        match outcome {
            Probe::Pong { .. } | Probe::Refused => self.begin_anew(now),
            // A life sign while the probe was on its way outweighs it.
            Probe::Silence if now.mono_ms >= self.alive_at + PROBE_MAX_MS => {
                self.probe_failed = true;
            }
            Probe::Silence => {}
        }
    }

    pub(super) fn is_unheard(&self, now: Now) -> bool {
        let after_ms = if self.is_deaf { UNHEARD_DEAF_MS } else { UNHEARD_MS };
        self.probe_failed && now.mono_ms >= self.alive_at + after_ms
    }
}

/// How many probes may start: a bound for the whole node, however many are silent.
#[derive(Default)]
pub(super) struct ProbeBudget {
    full_at: u64,
}

const BUDGET_PAUSE_MS: u64 = 8;
const BUDGET_BURST_MS: u64 = 64 * BUDGET_PAUSE_MS;

impl ProbeBudget {
    pub(super) fn take(&mut self, now: Now) -> bool {
        let full_at = self.full_at.max(now.mono_ms);
        let may = full_at + BUDGET_PAUSE_MS <= now.mono_ms + BUDGET_BURST_MS;
        if may {
            self.full_at = full_at + BUDGET_PAUSE_MS;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix: 0 }
    }

    /// Runs ten seconds in which no probe is answered; returns when probes began, and when the
    /// peer was first unheard.
    fn silence(vitals: &mut Vitals, from: u64) -> (Vec<u64>, Option<u64>) {
        let (mut probes, mut unheard) = (Vec::new(), None);
        for ms in (from..from + 20_000).step_by(100) {
            if vitals.is_probe_due(false, at(ms)) {
                vitals.probe_started(at(ms));
                probes.push(ms);
            }
            if probes.iter().any(|began| began + PROBE_MAX_MS == ms) {
                vitals.probed(Probe::Silence, at(ms));
            }
            if vitals.is_unheard(at(ms)) {
                unheard.get_or_insert(ms);
            }
        }
        (probes, unheard)
    }

    #[test]
    fn silence_is_told_within_five_seconds_and_costs_few_probes() {
        let mut vitals = Vitals::new(at(0));
        let (probes, unheard) = silence(&mut vitals, 0);
        assert_eq!(unheard, Some(4_500));
        assert_eq!(probes, [3_000, 4_000, 9_000, 14_000, 19_000]);
        vitals.probed(Probe::Refused, at(21_000));
        assert!(!vitals.is_unheard(at(21_000)), "a refusal comes from somebody");
    }

    #[test]
    fn whoever_sends_is_not_asked_and_a_late_failure_does_not_count() {
        let mut vitals = Vitals::new(at(0));
        assert!(!vitals.received(500, at(100)), "what an earlier run received is no sign of life");
        for ms in (1_000..60_000).step_by(1_000) {
            assert!(vitals.received(500 + ms, at(ms)));
            assert!(!vitals.is_probe_due(false, at(ms)));
        }
        assert!(vitals.is_probe_due(true, at(59_900)), "but its latency is measured");
        vitals.probed(Probe::Silence, at(59_100));
        assert!(!vitals.is_unheard(at(70_000)), "it was heard while the probe was on its way");
        assert!(!vitals.received(59_500, at(70_000)));
    }

    /// The answer to a probe shows twice, at once and when the device is looked at.
    #[test]
    fn what_is_seen_late_does_not_count_as_late() {
        let mut vitals = Vitals::new(at(0));
        vitals.received(500, at(1_000));
        vitals.probed(Probe::Pong { micros: 100 }, at(1_100));
        assert!(vitals.received(900, at(2_000)));
        let (_, unheard) = silence(&mut vitals, 2_000);
        assert_eq!(unheard, Some(5_600), "4.5 s after the answer");
    }

    #[test]
    fn the_node_starts_a_bounded_number_of_probes() {
        let mut budget = ProbeBudget::default();
        let mut started = |from: u64, to: u64| -> usize {
            (from..to).step_by(100).map(|ms| (0..500).filter(|_| budget.take(at(ms))).count()).sum()
        };
        assert_eq!(started(10_000, 10_100), 64);
        assert!((120..=130).contains(&started(10_100, 11_100)));
    }
}
