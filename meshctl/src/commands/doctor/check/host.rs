//! Kernel, privileges, files.

use super::super::facts::Facts;
use super::Finding;

const OTHERS_MASK: u32 = 0o077;

pub(super) fn privileges(facts: &Facts) -> Finding {
    if facts.is_admin {
        return Finding::ok("privileges", "CAP_NET_ADMIN is there");
    }
    let seen = "without CAP_NET_ADMIN neither kernel nor firewall tell everything";
    Finding::warn("privileges", seen, "sudo meshctl doctor")
}

pub(super) fn engine(facts: &Facts) -> Finding {
    match (facts.kernel_wireguard, facts.has_tun) {
        (Some(true), _) => Finding::ok("engine", "the kernel has WireGuard"),
        (Some(false), true) => Finding::ok(
            "engine",
            "the kernel has no WireGuard; userspace on a TUN device does, more slowly",
        ),
        (None, true) => Finding::ok("engine", "there is /dev/net/tun for the userspace engine"),
        (Some(false), false) => Finding::fail(
            "engine",
            "neither the kernel's WireGuard nor /dev/net/tun is there",
            "modprobe wireguard || modprobe tun",
        ),
        (None, false) => {
            Finding::skip("engine", "whether the kernel has WireGuard is root's to ask")
        }
    }
}

pub(super) fn files(facts: &Facts) -> Vec<Finding> {
    let open = facts.files.iter().filter(|file| file.mode & OTHERS_MASK != 0);
    let open: Vec<Finding> = open
        .map(|file| {
            let path = file.path.display();
            let wanted = if file.is_dir { "700" } else { "600" };
            Finding::warn(
                "files",
                format!("{path} is open to others (mode {:03o})", file.mode & 0o777),
                format!("chmod {wanted} {path}"),
            )
        })
        .collect();
    match (open.is_empty(), facts.files.is_empty()) {
        (false, _) => open,
        (true, true) => vec![Finding::skip("files", "no key or secret was found to look at")],
        (true, false) => vec![Finding::ok("files", "keys and secret are closed to others")],
    }
}

pub(super) fn secret(facts: &Facts) -> Option<Finding> {
    if !facts.is_secret_weak? {
        return Some(Finding::ok("secret", "it holds 128 bits or more"));
    }
    Some(Finding::warn(
        "secret",
        "it may hold under 128 bits: whoever hears this mesh can try guesses against it",
        "meshctl init > NEW, and join every node with it",
    ))
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::FileMode;
    use super::super::Verdict;
    use super::*;

    #[test]
    fn one_engine_is_enough() {
        for (kernel, tun, expected) in [
            (Some(true), false, Verdict::Ok),
            (Some(false), true, Verdict::Ok),
            (Some(false), false, Verdict::Fail),
            (None, true, Verdict::Ok),
            (None, false, Verdict::Skip),
        ] {
            let facts = Facts { kernel_wireguard: kernel, has_tun: tun, ..Facts::default() };
            assert_eq!(engine(&facts).verdict, expected, "{kernel:?} {tun}");
        }
    }

    #[test]
    fn open_files_and_weak_secrets_are_told() {
        let file = |mode| FileMode { path: "/x".into(), mode, is_dir: false };
        for (modes, expected) in [
            (vec![], Verdict::Skip),
            (vec![0o100_600], Verdict::Ok),
            (vec![0o100_600, 0o100_644], Verdict::Warn),
        ] {
            let facts = Facts { files: modes.into_iter().map(file).collect(), ..Facts::default() };
            assert_eq!(files(&facts)[0].verdict, expected);
        }
        for (weak, expected) in
            [(None, None), (Some(false), Some(Verdict::Ok)), (Some(true), Some(Verdict::Warn))]
        {
            let facts = Facts { is_secret_weak: weak, ..Facts::default() };
            assert_eq!(secret(&facts).map(|finding| finding.verdict), expected);
        }
    }
}
