//! What the man page of `knit-agent` says beyond its command line.

use knit_runtime::manual::Manual;

pub const MANUAL: Manual = Manual {
    section: "8",
    files: &[
        ("/etc/knit/agent.toml", "The configuration, read when no other is named."),
        ("/var/lib/knit-agent", "The node's identity, its last assignment, files of containers."),
        ("/run/knit-agent/secrets", "Secrets of containers, in memory."),
    ],
    see_also: &[("knit", "1"), ("knit-server", "8"), ("meshctl", "1"), ("systemctl", "1")],
};
