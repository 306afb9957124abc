//! What nftables would do with the first packet of a new flow, as far as its rules tell.
//!
//! Best effort: what a rule asks beyond port, protocol, state and interface counts as "perhaps".

use std::fmt;

use serde_json::Value;

use super::super::facts::Transport;

/// Chains that chains jump to, at most.
const DEPTH_MAX: usize = 8;

/// A packet from elsewhere to a port of this host, or through it.
pub(super) struct Packet<'a> {
    pub(super) transport: Transport,
    /// 0 is any port.
    pub(super) port: u16,
    pub(super) mesh_interface: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    Input,
    /// Packets come in by the mesh interface.
    Forward,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Passage {
    Open,
    Closed(Place),
    Unclear(Place),
}

/// Which chain decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    table: String,
    chain: String,
    is_policy: bool,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.is_policy { "the policy of" } else { "a rule of" };
        write!(f, "{what} chain {} in table {}", self.chain, self.table)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Perhaps,
}

/// How a chain ended for the packet.
enum End {
    Accepted,
    Dropped(Place),
    Through,
}

struct Walk<'a> {
    rules: Vec<&'a Value>,
    packet: &'a Packet<'a>,
    hook: Hook,
    perhaps_accepted: bool,
    perhaps_dropped: Option<Place>,
}

/// Follows the packet through every chain of the hook.
pub(super) fn passage(ruleset: &Value, hook: Hook, packet: &Packet<'_>) -> Passage {
    let entries = ruleset.get("nftables").and_then(Value::as_array).map(Vec::as_slice);
    let entries = entries.unwrap_or_default();
    let chains = entries.iter().filter_map(|entry| entry.get("chain"));
    let rules: Vec<&Value> = entries.iter().filter_map(|entry| entry.get("rule")).collect();
    let hook_name = if hook == Hook::Input { "input" } else { "forward" };
    let mut unclear = None;
    for chain in
        chains.filter(|chain| text(chain, "hook") == hook_name && text(chain, "family") != "ip6")
    {
        let mut walk = Walk {
            rules: rules.clone(),
            packet,
            hook,
            perhaps_accepted: false,
            perhaps_dropped: None,
        };
        let place = place(chain, text(chain, "name"), false);
        match walk.chain(chain, text(chain, "name"), 0) {
            End::Dropped(place) if walk.perhaps_accepted => unclear = Some(place),
            End::Dropped(place) => return Passage::Closed(place),
            End::Through if text(chain, "policy") == "drop" => {
                let place = Place { is_policy: true, ..place };
                if !walk.perhaps_accepted {
                    return Passage::Closed(place);
                }
                unclear = Some(place);
            }
            End::Accepted | End::Through => unclear = walk.perhaps_dropped.or(unclear),
        }
    }
    unclear.map_or(Passage::Open, Passage::Unclear)
}

impl Walk<'_> {
    fn chain(&mut self, base: &Value, name: &str, depth: usize) -> End {
        if depth > DEPTH_MAX {
            return End::Through;
        }
        let is_in = |rule: &&&Value| {
            text(rule, "chain") == name
                && text(rule, "table") == text(base, "table")
                && text(rule, "family") == text(base, "family")
        };
        let rules: Vec<&Value> = self.rules.iter().filter(is_in).copied().collect();
        for rule in rules {
            let parts =
                rule.get("expr").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let answer = parts.iter().map(|part| self.matches(part)).fold(Answer::Yes, both);
            if answer == Answer::No {
                continue;
            }
            for part in parts {
                if let Some(end) = self.verdict(part, answer, base, name, depth) {
                    return end;
                }
            }
        }
        End::Through
    }

    /// Takes a verdict in; `Some` when it ends the chain for sure.
    fn verdict(
        &mut self,
        part: &Value,
        answer: Answer,
        base: &Value,
        name: &str,
        depth: usize,
    ) -> Option<End> {
        let is_sure = answer == Answer::Yes;
        if part.get("accept").is_some() {
            self.perhaps_accepted |= !is_sure;
            return is_sure.then_some(End::Accepted);
        }
        if part.get("drop").is_some() || part.get("reject").is_some() {
            let place = place(base, name, false);
            if is_sure {
                return Some(End::Dropped(place));
            }
            self.perhaps_dropped.get_or_insert(place);
        }
        if part.get("return").is_some() && is_sure {
            return Some(End::Through);
        }
        let target = part.get("jump").or_else(|| part.get("goto"))?;
        match (self.chain(base, text(target, "target"), depth + 1), is_sure) {
            (End::Through, _) => None,
            (end, true) => Some(end),
            (End::Accepted, false) => {
                self.perhaps_accepted = true;
                None
            }
            (End::Dropped(place), false) => {
                self.perhaps_dropped.get_or_insert(place);
                None
            }
        }
    }

    fn matches(&self, part: &Value) -> Answer {
        // An extension of iptables that nft cannot show.
        if part.get("xt").is_some() {
            return Answer::Perhaps;
        }
        let Some(condition) = part.get("match") else { return Answer::Yes };
        let (Some(left), Some(right)) = (condition.get("left"), condition.get("right")) else {
            return Answer::Perhaps;
        };
        let answer = self.holds(left, right);
        match (text(condition, "op"), answer) {
            ("!=", Answer::Yes) => Answer::No,
            ("!=", Answer::No) => Answer::Yes,
            ("==" | "!=" | "in", answer) => answer,
            _ => Answer::Perhaps,
        }
    }

    fn holds(&self, left: &Value, right: &Value) -> Answer {
        let transport = self.packet.transport.as_str();
        if let Some(payload) = left.get("payload") {
            let protocol = text(payload, "protocol");
            return match text(payload, "field") {
                "dport" if protocol != transport && protocol != "th" => Answer::No,
                "dport" if self.packet.port == 0 => Answer::Perhaps,
                "dport" => holds_port(right, self.packet.port),
                "protocol" | "nexthdr" => holds_word(right, transport),
                _ => Answer::Perhaps,
            };
        }
        if left.get("ct").is_some_and(|ct| text(ct, "key") == "state") {
            return holds_word(right, "new");
        }
        match left.get("meta").map(|meta| text(meta, "key")) {
            Some("l4proto") => holds_word(right, transport),
            Some("iifname" | "iif") => {
                match (holds_word(right, self.packet.mesh_interface), self.hook) {
                    (answer, Hook::Forward) => answer,
                    // From the underlay, by an interface whose name is not known here.
                    (Answer::Yes, Hook::Input) => Answer::No,
                    (_, Hook::Input) if holds_word(right, "lo") == Answer::Yes => Answer::No,
                    (_, Hook::Input) => Answer::Perhaps,
                }
            }
            _ => Answer::Perhaps,
        }
    }
}

fn both(one: Answer, other: Answer) -> Answer {
    match (one, other) {
        (Answer::No, _) | (_, Answer::No) => Answer::No,
        (Answer::Yes, Answer::Yes) => Answer::Yes,
        (Answer::Perhaps, _) | (_, Answer::Perhaps) => Answer::Perhaps,
    }
}

fn holds_port(right: &Value, port: u16) -> Answer {
    let number = |value: &Value| value.as_u64();
    if let Some(one) = number(right) {
        return yes_if(one == u64::from(port));
    }
    if let Some(range) = right.get("range").and_then(Value::as_array) {
        return match (range.first().and_then(number), range.get(1).and_then(number)) {
            (Some(from), Some(to)) => yes_if((from..=to).contains(&u64::from(port))),
            _ => Answer::Perhaps,
        };
    }
    any(right.get("set"), |value| holds_port(value, port))
}

fn holds_word(right: &Value, word: &str) -> Answer {
    match right {
        // `@name`, a set that stands elsewhere; `eth*`, a pattern.
        Value::String(text) if text.starts_with('@') || text.ends_with('*') => Answer::Perhaps,
        Value::String(text) => yes_if(text == word),
        Value::Array(_) => any(Some(right), |value| holds_word(value, word)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            any(right.get("set"), |value| holds_word(value, word))
        }
    }
}

fn any(set: Option<&Value>, holds: impl Fn(&Value) -> Answer) -> Answer {
    let Some(set) = set.and_then(Value::as_array) else { return Answer::Perhaps };
    set.iter().map(holds).fold(Answer::No, |one, other| match (one, other) {
        (Answer::Yes, _) | (_, Answer::Yes) => Answer::Yes,
        (Answer::No, other) => other,
        (Answer::Perhaps, _) => Answer::Perhaps,
    })
}

fn yes_if(holds: bool) -> Answer {
    if holds { Answer::Yes } else { Answer::No }
}

fn place(chain: &Value, name: &str, is_policy: bool) -> Place {
    let table = format!("{} {}", text(chain, "family"), text(chain, "table"));
    Place { table, chain: name.to_owned(), is_policy }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests;
