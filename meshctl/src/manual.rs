//! What the man page of `meshctl` says beyond its command line.

use knit_runtime::manual::Manual;

pub(crate) const MANUAL: Manual = Manual {
    section: "1",
    files: &[
        ("/etc/knit/mesh.toml", "The configuration that the mesh daemon's service starts with."),
        ("/etc/knit/mesh.secret", "The mesh secret: whoever has it can be in the mesh."),
        ("/var/lib/wgmesh", "Keys, the mesh address, and peers."),
        ("/run/wg-mesh/wgmesh.sock", "The socket of the mesh daemon, as its service makes it."),
    ],
    see_also: &[("knit", "1"), ("knit-agent", "8"), ("knit-server", "8"), ("wg", "8")],
};
