//! Who is at the other end of a connection.
//!
//! The file's mode keeps strangers out, but it guards the opening alone: what a connection may do is
//! decided by the user that opened it, as the kernel tells.

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Root, or the daemon's own user: everything.
    Owner,
    /// Whom the socket's group lets in: asking and watching.
    Group,
}

/// Judges by the user id of the peer; `None` when it has no business here.
pub(super) fn of(peer_uid: u32, own_uid: u32, has_group: bool) -> Option<Caller> {
    match peer_uid {
        0 => Some(Caller::Owner),
        uid if uid == own_uid => Some(Caller::Owner),
        _ if has_group => Some(Caller::Group),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_let_in_by_a_group_alone() {
        for (peer, own, has_group, expected) in [
            (0, 0, false, Some(Caller::Owner)),
            (0, 1000, false, Some(Caller::Owner)),
            (1000, 1000, false, Some(Caller::Owner)),
            (1000, 0, false, None),
            (1000, 0, true, Some(Caller::Group)),
            (65_534, 0, false, None),
        ] {
            assert_eq!(of(peer, own, has_group), expected, "{peer} {own} {has_group}");
        }
    }
}
