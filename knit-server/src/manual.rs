//! What the man page of `knit-server` says beyond its command line.

use knit_runtime::manual::Manual;

pub const MANUAL: Manual = Manual {
    section: "8",
    files: &[
        ("/etc/knit/server.toml", "The configuration that the service starts with."),
        ("/var/lib/knit-server", "The database, the cluster's keys, and what NATS keeps."),
        ("/run/knit/server.sock", "Where root on this host is an admin without a token."),
    ],
    see_also: &[("knit", "1"), ("knit-agent", "8"), ("meshctl", "1"), ("systemctl", "1")],
};
