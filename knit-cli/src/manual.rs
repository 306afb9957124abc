//! What the man page of `knit` says beyond its command line.

use knit_runtime::manual::Manual;

pub(crate) const MANUAL: Manual = Manual {
    section: "1",
    files: &[
        ("~/.config/knit/", "The server and the token that knit-login(1) keeps."),
        ("/run/knit/server.sock", "The server of this host, where root needs no token."),
    ],
    see_also: &[("meshctl", "1"), ("knit-server", "8"), ("knit-agent", "8")],
};
