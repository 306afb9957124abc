//! What is sent to a host: the programs, or their packages.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use knit_runtime::ssh::Target;

const PROGRAMS: [&str; 2] = ["meshctl", "knit-agent"];

/// Where they are taken from, which is known before the host is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Programs that somebody named.
    Named(PathBuf),
    /// Those beside `knit`.
    Beside(PathBuf),
    /// Packages, for whichever processor, and all names there are.
    Packages(PathBuf, Vec<String>),
}

/// Files of one directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Programs {
    pub(super) directory: PathBuf,
    pub(super) files: Vec<String>,
}

impl Source {
    pub(super) fn find(
        binaries: Option<&Path>,
        debs: Option<&Path>,
    ) -> anyhow::Result<Option<Self>> {
        if let Some(directory) = debs {
            return packages(directory).map(Some);
        }
        let missing = |directory: &Path| {
            PROGRAMS.into_iter().find(|program| !directory.join(program).is_file())
        };
        if let Some(directory) = binaries {
            let missing = missing(directory);
            ensure!(
                missing.is_none(),
                "{} has no {}",
                directory.display(),
                missing.unwrap_or_default()
            );
            return Ok(Some(Self::Named(directory.to_owned())));
        }
        let beside = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.to_owned()));
        Ok(beside.filter(|directory| missing(directory).is_none()).map(Self::Beside))
    }

    /// What a host with this processor takes, or nothing where it must have the programs.
    pub(super) fn choose(self, arch: &str, host: &Target) -> anyhow::Result<Option<Programs>> {
        let here = std::env::consts::ARCH;
        let programs = || PROGRAMS.map(ToOwned::to_owned).to_vec();
        match self {
            Self::Packages(directory, names) => {
                let arch = debian_arch(arch);
                let newest = |program: &&str| {
                    newest(program, arch, &names).with_context(|| {
                        format!("{} has no {program}_*_{arch}.deb", directory.display())
                    })
                };
                let files = PROGRAMS.iter().map(newest).collect::<anyhow::Result<_>>()?;
                Ok(Some(Programs { directory, files }))
            }
            Self::Named(directory) | Self::Beside(directory) if arch == here => {
                Ok(Some(Programs { directory, files: programs() }))
            }
            Self::Beside(_) => Ok(None),
            Self::Named(_) => bail!(
                "{host} is {arch}, and programs to be sent are taken for {here} as this machine: \
                 send packages for it (--debs), or install the programs there"
            ),
        }
    }
}

fn packages(directory: &Path) -> anyhow::Result<Source> {
    let found = std::fs::read_dir(directory)
        .with_context(|| format!("{} cannot be read", directory.display()))?;
    let names = found.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let names: Vec<String> = names.collect();
    for program in PROGRAMS {
        let prefix = format!("{program}_");
        let is_it = |name: &str| name.starts_with(&prefix);
        let mut packages = names.iter().filter_map(|name| name.strip_suffix(".deb"));
        ensure!(packages.any(is_it), "{} has no {program}_*.deb", directory.display());
    }
    Ok(Source::Packages(directory.to_owned(), names))
}

/// As Debian calls a processor.
fn debian_arch(arch: &str) -> &str {
    match arch {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The package of a program with the highest version, for such a processor.
fn newest(program: &str, arch: &str, names: &[String]) -> Option<String> {
    let version = |name: &String| {
        let rest = name.strip_prefix(program)?.strip_prefix('_')?;
        Some(order(rest.strip_suffix(&format!("_{arch}.deb"))?))
    };
    let known = names.iter().filter_map(|name| Some((version(name)?, name)));
    known.max().map(|(_, name)| name.clone())
}

/// As Debian sorts versions: numbers as such, and what stands behind a tilde before what has none.
fn order(version: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let words = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(words);
        let digits = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (number, tail) = tail.split_at(digits);
        parts.push((text.replace('~', "\0"), number.parse().unwrap_or_default()));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = std::env::consts::ARCH;

    fn host() -> Target {
        Target::parse("root@fra-1").unwrap()
    }

    fn files(source: Source, arch: &str) -> Vec<String> {
        source.choose(arch, &host()).unwrap().unwrap().files
    }

    #[test]
    fn programs_are_for_processors_like_this_machine_s() {
        let dir = tempfile::tempdir().unwrap();
        let refused = Source::find(Some(dir.path()), None).unwrap_err().to_string();
        assert!(refused.ends_with("has no meshctl"), "{refused}");
        for name in PROGRAMS {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let find = || Source::find(Some(dir.path()), None).unwrap().unwrap();
        assert_eq!(files(find(), HERE), PROGRAMS);
        let refused = find().choose("riscv64", &host()).unwrap_err().to_string();
        assert!(refused.contains("root@fra-1 is riscv64"), "{refused}");
        let beside = Source::Beside(dir.path().to_owned());
        assert_eq!(beside.choose("riscv64", &host()).unwrap(), None, "it may have them");
    }

    #[test]
    fn packages_are_chosen_by_the_host_s_processor_and_their_version() {
        let dir = tempfile::tempdir().unwrap();
        let find = || Source::find(None, Some(dir.path()));
        for version in ["0.2.0-1", "0.10.0~rc.1-1", "0.10.0-1", "0.9.0-2"] {
            std::fs::write(dir.path().join(format!("knit-agent_{version}_amd64.deb")), "").unwrap();
        }
        let refused = find().unwrap_err().to_string();
        assert!(refused.ends_with("has no meshctl_*.deb"), "{refused}");
        for name in
            ["meshctl_0.1.0-1_amd64.deb", "meshctl_0.2.0-1_arm64.deb", "knit-agent_0.3.0_arm64.deb"]
        {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let find = || find().unwrap().unwrap();
        let amd64 = ["meshctl_0.1.0-1_amd64.deb", "knit-agent_0.10.0-1_amd64.deb"];
        assert_eq!(files(find(), "x86_64"), amd64, "the highest of each");
        let arm64 = ["meshctl_0.2.0-1_arm64.deb", "knit-agent_0.3.0_arm64.deb"];
        assert_eq!(files(find(), "aarch64"), arm64);
        let refused = find().choose("riscv64", &host()).unwrap_err().to_string();
        assert!(refused.contains("has no meshctl_*_riscv64.deb"), "{refused}");
    }
}
