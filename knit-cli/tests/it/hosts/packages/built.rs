//! The packages of the programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;

use crate::support::{stderr, stdout};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/build-deb");

/// Two versions of the same programs.
#[derive(Clone, Copy)]
pub(super) enum Built {
    Old,
    New,
}

impl Built {
    /// Where they are put; hosts may see the directory before it is filled.
    pub(super) fn dir(self) -> PathBuf {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(self.name());
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Old => "debs-old",
            Self::New => "debs-new",
        }
    }

    pub(super) fn version(self) -> String {
        format!("{}-{}", env!("CARGO_PKG_VERSION"), self as u8 + 1)
    }

    /// Builds them, once.
    pub(super) fn build(self) {
        static BUILT: [Once; 2] = [const { Once::new() }; 2];
        BUILT[self as usize].call_once(|| {
            for earlier in std::fs::read_dir(self.dir()).unwrap() {
                std::fs::remove_file(earlier.unwrap().path()).unwrap();
            }
            let built = Command::new(SCRIPT)
                .args(["--profile", "dev", "--no-build", "--deb-version", &self.version(), "--out"])
                .arg(self.dir())
                .output()
                .unwrap();
            assert!(built.status.success(), "{}{}", stdout(&built), stderr(&built));
            if let Self::New = self {
                change_configuration(&self.dir());
            }
        });
    }
}

/// What the newer agent's package says in its configuration file, and the older one's does not.
pub(super) const NEW_LINE: &str = "# What is new in this version.";

/// A file that somebody changed is kept, whatever a newer version says in it; others follow.
fn change_configuration(dir: &Path) {
    let line = format!(
        "cd '{}' && deb=$(ls knit-agent_*.deb) && unpacked=$(mktemp -d) &&
         dpkg-deb -R $deb $unpacked && echo '{NEW_LINE}' >>$unpacked/etc/knit/agent.toml &&
         dpkg-deb --root-owner-group -Znone -b $unpacked $deb && rm -r $unpacked",
        dir.display()
    );
    let changed = Command::new("sh").args(["-c", &line]).output().unwrap();
    assert!(changed.status.success(), "{}{}", stdout(&changed), stderr(&changed));
}

/// What each override excuses stands in its file, with the reason.
#[test]
fn lintian_finds_no_error_and_nothing_to_warn_of() {
    Built::Old.build();
    let packages = std::fs::read_dir(Built::Old.dir()).unwrap();
    let packages: Vec<PathBuf> = packages.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(packages.len(), 4);
    let checked = Command::new("lintian")
        .args(["--allow-root", "--fail-on", "error,warning"])
        .args(packages)
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}{}", stdout(&checked), stderr(&checked));
}
