//! A control group of its own for each host: systemd-nspawn makes its groups in that of whoever
//! starts it, and two hosts in the same ones end each other's services.

use std::path::Path;
use std::process::Command;

/// Where the kernel shows them: all in one, or systemd's own beside the others.
const ROOTS: [&str; 3] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// A command that enters a new group `name`, then becomes `program`.
pub(super) fn command(name: &str, program: &str) -> Command {
    let enter = "name=$0; for root in $ROOTS; do [ -e $root/cgroup.procs ] || continue
         mkdir -p $root/$name && echo $$ >$root/$name/cgroup.procs || exit 1; done; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", enter, name, program]).env("ROOTS", ROOTS.join(" "));
    command
}

/// Removes it, with all that systemd made below.
pub(super) fn remove(name: &str) {
    for group in ROOTS.map(|root| Path::new(root).join(name)).iter().filter(|group| group.is_dir())
    {
        let _ = Command::new("find").arg(group).args(["-depth", "-type", "d", "-delete"]).status();
    }
}
