//! Where a rollout stands, in words.

use std::fmt::Write as _;

use knit_rpc::Timestamp;
use knit_rpc::api::{Cause, RolloutState, RolloutView};
use knit_runtime::terminal::{Colour, colour, printable};

use super::{ago, log_lines};

pub(in crate::commands) fn rollout_colour(state: RolloutState) -> Colour {
    match state {
        RolloutState::Succeeded => Colour::Green,
        RolloutState::Running | RolloutState::Paused => Colour::Yellow,
        RolloutState::RolledBack | RolloutState::Failed => Colour::Red,
        RolloutState::Superseded => Colour::Dim,
    }
}

/// `rollout of web to revision 5: running, 3 of 8 healthy, began 12 s ago`.
pub(in crate::commands) fn rollout_line(
    name: &str,
    rollout: &RolloutView,
    now: Timestamp,
) -> String {
    let RolloutView { revision, healthy, slots, .. } = rollout;
    let state = colour(rollout_colour(rollout.state), rollout.state.as_str());
    let when = match rollout.ended_at {
        Some(ended) => format!("ended {}", ago(now, ended)),
        None => format!("began {}", ago(now, rollout.started_at)),
    };
    let way = match &rollout.cause {
        Cause::Rollback { to, of, automatic: true } => {
            format!("revision {of} was given up, back to {to}")
        }
        Cause::Rollback { to, .. } => format!("back to {to}, as revision {revision}"),
        Cause::Deploy | Cause::Scale | Cause::Restart => format!("to revision {revision}"),
        Cause::Secret { name, version } => {
            format!("to revision {revision}, for secret {name} version {version}")
        }
    };
    let progress = if rollout.state.is_end() {
        String::new()
    } else {
        format!(", {healthy} of {slots} healthy")
    };
    format!("rollout of {name} {way}: {state}{progress}, {when}\n")
}

/// The line, why it is so, what one should know, and what the failed instance wrote last.
pub(in crate::commands) fn rollout(name: &str, rollout: &RolloutView, now: Timestamp) -> String {
    let mut text = rollout_line(name, rollout, now);
    if let Some(message) = &rollout.message {
        let _ = writeln!(text, "  {}", printable(message));
    }
    if !rollout.state.is_end() {
        let next = rollout.slots.saturating_sub(rollout.admitted);
        if next > 0 {
            let _ = writeln!(text, "  {next} of {} have not begun to change", rollout.slots);
        }
        for note in &rollout.notes {
            let _ = writeln!(text, "  note: {}", printable(note));
        }
    }
    if !rollout.log.is_empty() {
        let _ = writeln!(text, "  its last lines:\n{}", log_lines(&rollout.log).trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::{self, NOW};

    #[test]
    fn a_rollout_under_way_says_how_far_it_is() {
        let mut view = testing::rollout(RolloutState::Running);
        (view.slots, view.healthy, view.admitted) = (8, 3, 4);
        view.notes = vec!["a volume forces stop-first".to_owned()];
        assert_eq!(
            rollout("web", &view, NOW),
            "rollout of web to revision 2: running, 3 of 8 healthy, began 0 s ago\n  \
             4 of 8 have not begun to change\n  note: a volume forces stop-first\n"
        );
    }

    #[test]
    fn one_that_was_rolled_back_says_why_and_shows_the_log() {
        let mut view = testing::rollout(RolloutState::RolledBack);
        view.cause = Cause::Rollback { to: 1, of: 2, automatic: true };
        view.message = Some("web.0 on fra-1: exited with code 1".to_owned());
        view.log = vec!["panic".to_owned()];
        view.ended_at = Some(NOW);
        assert_eq!(
            rollout("web", &view, NOW),
            "rollout of web revision 2 was given up, back to 1: rolled-back, ended 0 s ago\n  \
             web.0 on fra-1: exited with code 1\n  its last lines:\n  | panic\n"
        );
    }
}
