//! Whom to reach, as a user writes it.

use std::fmt;

/// A host, with a user and a port if they are named: `[USER@]HOST[:PORT]`. What is not named is
/// up to ssh's configuration, where HOST may be an alias.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

/// Why a text names no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{}\" names no host for ssh: write [USER@]HOST[:PORT]", .0.escape_debug())]
pub struct NoTarget(String);

impl Target {
    /// Reads `[USER@]HOST[:PORT]`; an IPv6 address stands in brackets when a port follows.
    pub fn parse(text: &str) -> Result<Self, NoTarget> {
        let wrong = || NoTarget(text.to_owned());
        let (user, rest) = match text.rsplit_once('@') {
            Some((user, rest)) => (Some(user), rest),
            None => (None, text),
        };
        let (host, port) = host_and_port(rest).ok_or_else(wrong)?;
        if !is_word(host) || !user.is_none_or(is_word) {
            return Err(wrong());
        }
        let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong));
        let (user, host) = (user.map(ToOwned::to_owned), host.to_owned());
        Ok(Self { user, host, port: port.transpose()? })
    }

    /// `[USER@]HOST`, as ssh takes it.
    pub fn destination(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }

    /// The port, if one was named.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "{user}[{}]:{port}", self.host),
            Some(port) => write!(f, "{user}{}:{port}", self.host),
            None => write!(f, "{user}{}", self.host),
        }
    }
}

fn host_and_port(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port))),
            None => rest.is_empty().then_some((host, None)),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

/// Whether it can be nothing but a name: no option, nothing that a shell or ssh reads otherwise.
fn is_word(text: &str) -> bool {
    let known = |c: char| c.is_alphanumeric() || "._-:%+".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_user_and_a_port() {
        for (text, destination, port) in [
            ("root@fra-1", "root@fra-1", None),
            ("fra-1:2222", "fra-1", Some(2222)),
            ("a.b@10.0.0.1:22", "a.b@10.0.0.1", Some(22)),
            ("root@fe80::1%eth0", "root@fe80::1%eth0", None),
            ("[2001:db8::1]:22", "2001:db8::1", Some(22)),
        ] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.destination().as_str(), target.port()), (destination, port));
            assert_eq!(Target::parse(&target.to_string()), Ok(target), "{text}");
        }
    }

    #[test]
    fn nothing_that_ssh_or_a_shell_reads_otherwise_is_a_host() {
        for text in [
            "",
            "-oProxyCommand=id",
            "root@-oProxyCommand=id",
            "-l@host",
            "a b",
            "a;id",
            "a$(id)",
            "a\nb",
            "@host",
            "root@",
            "host:",
            "host:0",
            "host:99999",
            "host:22x",
            "[::1",
            "[::1]22",
            "[-x]:22",
        ] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
