//! Names that the kernel gives: signals, capabilities, resource limits.

/// Linux signals by number from 1; RTMIN and RTMAX are reckoned from.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const SIGNAL_MAX: u32 = 64;

const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

const ULIMITS: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// A signal as Docker takes it: `SIGQUIT` of `SIGQUIT`, `QUIT` or `quit`; a number stays one.
pub(super) fn signal(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let within = |text: &str, most: u32| {
        text.bytes().all(|b| b.is_ascii_digit())
            && text.parse().is_ok_and(|number: u32| (1..=most).contains(&number))
    };
    if within(text, SIGNAL_MAX) {
        return Ok(text.to_owned());
    }
    let realtime = |first: &str, sign: char, most: u32| {
        name.strip_prefix(first).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(sign).is_some_and(|offset| within(offset, most))
        })
    };
    if SIGNALS.contains(&name) || realtime("RTMIN", '+', 15) || realtime("RTMAX", '-', 14) {
        return Ok(format!("SIG{name}"));
    }
    let hint = nearest(name, &SIGNALS).map(|known| format!("; did you mean SIG{known}?"));
    let hint = hint.unwrap_or_default();
    Err(format!("must be a signal such as SIGQUIT or 3, not \"{text}\"{hint}"))
}

/// A capability as Docker takes it: `NET_RAW` of `NET_RAW`, `CAP_NET_RAW` or `net_raw`; or `ALL`.
pub(super) fn capability(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || CAPABILITIES.contains(&name) {
        return Ok(name.to_owned());
    }
    let hint = nearest(name, &CAPABILITIES).map(|known| format!("; did you mean {known}?"));
    let hint = hint.unwrap_or_default();
    Err(format!("must be a capability such as NET_RAW, or ALL, not \"{text}\"{hint}"))
}

/// The name of a resource limit.
pub(super) fn ulimit(name: &str) -> Result<(), String> {
    if ULIMITS.contains(&name) {
        return Ok(());
    }
    let hint = nearest(name, &ULIMITS).map(|known| format!("; did you mean \"{known}\"?"));
    Err(format!("is no resource limit{}", hint.unwrap_or_default()))
}

/// The known name that a person most likely meant.
fn nearest<'k>(name: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(name.len()) / 2)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_number() {
        for (text, read) in [
            ("SIGQUIT", "SIGQUIT"),
            ("quit", "SIGQUIT"),
            ("3", "3"),
            ("SIGRTMIN+3", "SIGRTMIN+3"),
            ("rtmax-14", "SIGRTMAX-14"),
        ] {
            assert_eq!(signal(text).as_deref(), Ok(read), "{text}");
        }
        for bad in ["", "0", "65", "SIG", "SIGRTMIN+16", "SIGRTMIN-1", "-1", "+3", "stop it"] {
            assert!(signal(bad).is_err(), "{bad}");
        }
        assert!(signal("SIGTRM").unwrap_err().contains("did you mean SIGTERM?"));
    }

    #[test]
    fn capabilities_lose_their_prefix() {
        assert_eq!(capability("cap_net_raw").as_deref(), Ok("NET_RAW"));
        assert_eq!(capability("ALL").as_deref(), Ok("ALL"));
        assert!(capability("NET_ADMN").unwrap_err().contains("did you mean NET_ADMIN?"));
        assert!(ulimit("nofiles").unwrap_err().contains("did you mean \"nofile\"?"));
    }
}
