//! Mounts below our directories: containers' file systems and namespaces.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};

/// Detaches every mount below `dirs`, the innermost first.
pub(super) fn detach_below(dirs: &[&Path]) {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for path in below(&table, dirs).into_iter().rev() {
        if let Err(error) = umount2(&path, MntFlags::MNT_DETACH) {
            tracing::debug!(path = %path.display(), %error, "cannot unmount");
        }
    }
}

/// Mount points below `dirs`, in the order in which they were mounted.
fn below(table: &str, dirs: &[&Path]) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    points.filter(|point| dirs.iter().any(|dir| point.starts_with(dir))).collect()
}

/// The kernel writes blanks, tabs, newlines and backslashes in octal.
fn unescape(field: &str) -> PathBuf {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_owned(), |text, (from, to)| text.replace(from, to)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_our_directories_are_ours() {
        let table = "1 0 8:1 / / rw - ext4 x rw\n\
                     2 1 0:1 / /run/knit-dev/1/a rw - tmpfs x rw\n\
                     3 1 0:1 / /run/knit-dev-2/a rw - tmpfs x rw\n\
                     4 2 0:1 / /run/knit-dev/1/a/b\\040c rw - tmpfs x rw\n";
        assert_eq!(
            below(table, &[Path::new("/run/knit-dev")]),
            [PathBuf::from("/run/knit-dev/1/a"), PathBuf::from("/run/knit-dev/1/a/b c")]
        );
    }
}
