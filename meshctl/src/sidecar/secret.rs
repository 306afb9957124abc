//! Where the mesh secret comes from: never the command line, which every local user can read.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use meshctl_core::secret::Secret;
use zeroize::Zeroizing;

const CREDENTIAL: &str = "mesh-secret";
const OTHERS_MASK: u32 = 0o077;

pub(crate) fn load(flag: Option<&Path>) -> Result<Secret> {
    let text = match flag {
        Some(path) => read(path)?,
        None => from_environment()?,
    };
    let secret = Secret::parse(&text)?;
    if secret.is_weak() {
        tracing::warn!(
            "the mesh secret may hold under 128 bits: whoever hears this mesh can try guesses against it; make one with `meshctl init`"
        );
    }
    Ok(secret)
}

fn from_environment() -> Result<Zeroizing<String>> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(secret) = variable("WGMESH_SECRET") {
        return Ok(Zeroizing::new(secret));
    }
    if let Some(path) = variable("WGMESH_SECRET_FILE") {
        return read(Path::new(&path));
    }
    let credential =
        variable("CREDENTIALS_DIRECTORY").map(|dir| PathBuf::from(dir).join(CREDENTIAL));
    match credential.filter(|path| path.exists()) {
        Some(path) => read(&path),
        None => anyhow::bail!(
            "no mesh secret: give --secret-file, WGMESH_SECRET_FILE, WGMESH_SECRET or the systemd credential `{CREDENTIAL}` (a new mesh begins with `meshctl init`)"
        ),
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>> {
    let unreadable = || format!("the mesh secret file {} cannot be read", path.display());
    let mode = std::fs::metadata(path).with_context(unreadable)?.permissions().mode();
    if mode & OTHERS_MASK != 0 {
        tracing::warn!(path = %path.display(), "others may read the mesh secret: chmod 600 it");
    }
    std::fs::read_to_string(path).map(Zeroizing::new).with_context(unreadable)
}
