//! What time alone brings: words and probes that are due, and what lapses.

use std::net::SocketAddr;

use super::effect::{Effect, Report};
use super::event::Now;
use super::{ANNOUNCE_EVERY_MS, ANNOUNCE_JITTER_MS, FIRST_ANNOUNCES_MS, GOSSIP_EVERY_MS, Mesh};
use crate::key::PublicKey;

impl Mesh {
    /// Forgets what is silent, and who said goodbye and did not answer since.
    pub(super) fn lapse(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for peer in self.peers.lapse(now) {
            let (key, hostname) = (peer.key, peer.hostname);
            effects.push(Effect::Report(match peer.leaving_since {
                Some(_) => Report::Left { key, hostname },
                None => Report::Lost { key, hostname },
            }));
            effects.push(Effect::PeersChanged);
        }
        self.expel(now, effects);
        self.end_rotation(now, effects);
        self.replay.lapse(now);
        self.limiter.lapse(now);
        self.lan_limiter.lapse(now);
        self.observed.lapse(now);
    }

    pub(super) fn speak_when_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.settings.lan && now.mono_ms >= self.announce_at {
            effects.push(self.announce(now));
            self.announce_at = now.mono_ms + self.announce_gap();
            self.announces += 1;
        }
        if self.settings.gossip && now.mono_ms >= self.gossip_at {
            self.gossip_at = now.mono_ms + GOSSIP_EVERY_MS;
            effects.extend(self.gossip(now));
        }
        let mut to: Vec<SocketAddr> = self.contacts.due(now);
        let silent: Vec<PublicKey> = self.peers.silent(now).collect();
        for key in silent {
            if let Some(control) = self.control_of_peer(&key) {
                self.peers.note_hello(&key, now);
                to.push(control);
            }
        }
        for address in to {
            let hello = self.hello(address, now);
            effects.push(hello);
        }
    }

    /// Asks those who are on the device and say nothing.
    pub(super) fn probe_when_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for key in self.peers.probes_due(now) {
            let Some(ip) = self.configured.get(&key).map(|peer| peer.mesh_ip) else { continue };
            if !self.probes.take(now) {
                return;
            }
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.vitals.probe_started(now);
            }
            effects.push(Effect::Probe { key, ip });
        }
    }

    fn announce_gap(&self) -> u64 {
        let index = usize::try_from(self.announces).unwrap_or(usize::MAX);
        if let Some(gap) = FIRST_ANNOUNCES_MS.get(index) {
            return *gap;
        }
        // No two nodes draw the same series: bursts overflow small receive buffers.
        let key = self.settings.public_key.to_bytes();
        let draw = u64::from(key[index % key.len()]) * 37 + self.announces * 101;
        ANNOUNCE_EVERY_MS - ANNOUNCE_JITTER_MS + draw % (2 * ANNOUNCE_JITTER_MS)
    }
}
