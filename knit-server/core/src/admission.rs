//! Whether a host that wants to register is let in.
//!
//! | the host | let in |
//! |---|---|
//! | is a node already | yes |
//! | shows a join token that holds, and is bound to no other host | yes, and the token is spent |
//! | shows one that does not | no |
//! | shows that this cluster let it in before, and was not removed | yes: this server forgot |
//! | was rejected | no, until it shows a token or is approved |
//! | was removed | when somebody approves it |
//! | anything else | when somebody approves it; at once where everybody is welcome |

use std::fmt;

/// Who is let in without a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Nobody, until an operator approves it.
    #[default]
    Asked,
    /// Every host of the mesh.
    All,
}

/// What is known of a host that wants to register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Candidate {
    pub standing: Standing,
    /// It shows a NATS token that this cluster gave to its key.
    pub was_let_in_before: bool,
    /// What became of the join token that it shows, if it does.
    pub token: Option<Token>,
}

/// What this server remembers of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// Nothing.
    #[default]
    Stranger,
    /// It is a node, with the same key.
    Node,
    /// It was a node, and somebody removed it.
    Removed,
    /// Somebody said that it shall not be one.
    Rejected,
}

/// What there is to say of a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Holds,
    /// Not made here, or spent.
    Unknown,
    Expired,
    /// The proof is not by the token, or for another node.
    Misused,
    /// It is for the host with another WireGuard key.
    Bound,
}

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    LetIn,
    /// And the token is worth nothing from now on.
    Spend,
    /// Somebody has to say so.
    Ask,
    Refuse(Refusal),
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Token(Token),
    Rejected,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let make_another = "make another with `knit node token`";
        match self {
            Self::Token(Token::Expired) => write!(f, "the join token has expired: {make_another}"),
            Self::Token(Token::Unknown | Token::Holds) => write!(
                f,
                "the join token is not known here: it was spent, or is another cluster's; {make_another}"
            ),
            Self::Token(Token::Misused) => {
                write!(f, "the join token's proof is not for this node: {make_another}")
            }
            Self::Token(Token::Bound) => {
                write!(f, "the join token is for a host with another WireGuard key: {make_another}")
            }
            Self::Rejected => f.write_str(
                "somebody rejected this host: `knit node approve`, or a join token, lets it in all the same",
            ),
        }
    }
}

/// Decides on one request.
pub fn decide(policy: Policy, candidate: Candidate) -> Admission {
    match candidate.token {
        _ if candidate.standing == Standing::Node => Admission::LetIn,
        Some(Token::Holds) => Admission::Spend,
        Some(token) => Admission::Refuse(Refusal::Token(token)),
        None if candidate.standing == Standing::Rejected => Admission::Refuse(Refusal::Rejected),
        None if candidate.was_let_in_before && candidate.standing == Standing::Stranger => {
            Admission::LetIn
        }
        None if policy == Policy::All && candidate.standing != Standing::Removed => {
            Admission::LetIn
        }
        None => Admission::Ask,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_host() {
        let host = Candidate::default();
        let node = Candidate { standing: Standing::Node, ..host };
        let with = |token| Candidate { token: Some(token), ..host };
        let refused = |token| Admission::Refuse(Refusal::Token(token));
        let rejected = Candidate { standing: Standing::Rejected, ..host };
        let former = Candidate { was_let_in_before: true, ..host };
        let removed = Candidate { standing: Standing::Removed, ..former };
        for (candidate, asked, all) in [
            (host, Admission::Ask, Admission::LetIn),
            (node, Admission::LetIn, Admission::LetIn),
            // A node that shows an old token is still one.
            (Candidate { token: Some(Token::Unknown), ..node }, Admission::LetIn, Admission::LetIn),
            (with(Token::Holds), Admission::Spend, Admission::Spend),
            (with(Token::Unknown), refused(Token::Unknown), refused(Token::Unknown)),
            (with(Token::Expired), refused(Token::Expired), refused(Token::Expired)),
            (with(Token::Misused), refused(Token::Misused), refused(Token::Misused)),
            (with(Token::Bound), refused(Token::Bound), refused(Token::Bound)),
            (rejected, Admission::Refuse(Refusal::Rejected), Admission::Refuse(Refusal::Rejected)),
            (
                Candidate { token: Some(Token::Holds), ..rejected },
                Admission::Spend,
                Admission::Spend,
            ),
            (former, Admission::LetIn, Admission::LetIn),
            (removed, Admission::Ask, Admission::Ask),
            (
                Candidate { token: Some(Token::Holds), ..removed },
                Admission::Spend,
                Admission::Spend,
            ),
        ] {
            assert_eq!(decide(Policy::Asked, candidate), asked, "{candidate:?}");
            assert_eq!(decide(Policy::All, candidate), all, "{candidate:?}");
        }
    }
}
