//! What kind of NAT this node is behind, by what STUN servers say.

use super::Mesh;
use super::event::Now;
use super::observed::Voter;
use crate::stun::StunAnswer;

/// How a NAT maps one socket towards several hosts, in the wire's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatType {
    /// To the same public port: who is told of it can send there.
    Cone,
    /// To a port for each: nobody else can be told of it.
    Symmetric,
    /// One server alone has answered.
    Unknown,
}

impl NatType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cone => "cone",
            Self::Symmetric => "symmetric",
            Self::Unknown => "unknown",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Cone, Self::Symmetric, Self::Unknown].into_iter().find(|nat| nat.as_str() == text)
    }

    /// By answers to one socket; `None` without any.
    fn of(answers: &[StunAnswer]) -> Option<Self> {
        let (first, others) = answers.split_first()?;
        Some(match others {
            [] => Self::Unknown,
            _ if others.iter().all(|other| other.mapped == first.mapped) => Self::Cone,
            _ => Self::Symmetric,
        })
    }
}

impl Mesh {
    /// Takes a round of answers in; one without any changes nothing.
    pub(super) fn stun_answered(&mut self, answers: &[StunAnswer], now: Now) {
        let before = (self.observed.address(), self.nat_type);
        for answer in answers {
            if let std::net::IpAddr::V4(seen) = answer.mapped.ip() {
                self.observed.vote(Voter::Stun(answer.server), seen, now);
            }
        }
        self.nat_type = NatType::of(answers).or(self.nat_type);
        if before != (self.observed.address(), self.nat_type) {
            self.announce_at = now.mono_ms;
        }
    }

    pub fn nat_type(&self) -> Option<NatType> {
        self.nat_type
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_for_all_is_a_cone() {
        let answer = |server: u8, mapped: &str| StunAnswer {
            server: [192, 0, 2, server].into(),
            mapped: mapped.parse().unwrap(),
        };
        let (one, same) = (answer(1, "203.0.113.5:4000"), answer(2, "203.0.113.5:4000"));
        let (port, host) = (answer(3, "203.0.113.5:4001"), answer(3, "203.0.113.6:4000"));
        for (answers, expected) in [
            (&[][..], None),
            (&[one], Some(NatType::Unknown)),
            (&[one, same], Some(NatType::Cone)),
            (&[one, same, port], Some(NatType::Symmetric)),
            (&[one, host], Some(NatType::Symmetric)),
        ] {
            assert_eq!(NatType::of(answers), expected, "{answers:?}");
        }
    }
}
