//! Which authorities this node believes, and its own certificate, read anew whenever the file
//! changes.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use meshctl_core::authority::{Certificate, Revocation};
use meshctl_core::key::{PrivateKey, PublicKey};
use meshctl_core::mesh::Trust;
use meshctl_core::signature::Signer;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::authority::TrustArgs;

const LOOK_EVERY: Duration = Duration::from_secs(2);
const FILE_MAX_BYTES: u64 = 4096;

/// What the command line says, with the certificate that the file holds now.
pub(super) fn load(
    args: &TrustArgs,
    private_key: &PrivateKey,
    revocations: Vec<Revocation>,
) -> Result<Trust> {
    let required = !args.require_signed.is_empty();
    let own = private_key.public();
    let certificate = args.certificate.as_deref().map(|path| read(path, own)).transpose()?;
    if required && certificate.is_none() {
        tracing::warn!(
            "this node requires certificates and has none: nodes that require them too keep it out; see --certificate"
        );
    }
    if let Some(certificate) = &certificate
        && required
        && certificate.signed_by(&args.require_signed).is_none()
    {
        tracing::warn!("this node's certificate is not of the authority that it requires itself");
    }
    Ok(Trust {
        authorities: if required { &args.require_signed } else { &args.authorities }.clone(),
        required,
        signer: Some(Arc::new(Signer::new(private_key))),
        certificate,
        revocations,
    })
}

/// Sends the certificate whenever the file holds another one; SIGHUP makes it look at once.
pub(super) fn follow(
    path: Option<PathBuf>,
    own: PublicKey,
    mut last: Option<Certificate>,
) -> mpsc::Receiver<Certificate> {
    let (to, from) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut hangups = signal(SignalKind::hangup()).ok();
        let mut complained = String::new();
        loop {
            let hangup = async {
                match &mut hangups {
                    Some(hangups) => hangups.recv().await,
                    None => std::future::pending().await,
                }
            };
            let asked = tokio::select! {
                _ = hangup => true,
                () = tokio::time::sleep(LOOK_EVERY) => false,
                () = to.closed() => return,
            };
            let Some(path) = &path else { continue };
            match read(path, own) {
                Ok(found) if last.as_ref() != Some(&found) || asked => {
                    complained.clear();
                    let (name, expires) = (&found.terms().name, found.terms().expires);
                    tracing::info!(name, expires, path = %path.display(), "took the certificate");
                    last = Some(found.clone());
                    if to.send(found).await.is_err() {
                        return;
                    }
                }
                Ok(_) => complained.clear(),
                Err(error) => {
                    let text = format!("{error:#}");
                    if complained != text {
                        tracing::warn!("the certificate in use is kept: {text}");
                        complained = text;
                    }
                }
            }
        }
    });
    from
}

/// Whether the file holds a certificate, whoever's it is.
pub(super) fn check(path: &Path) -> Result<()> {
    parse(path).map(drop)
}

fn read(path: &Path, own: PublicKey) -> Result<Certificate> {
    let shown = path.display();
    let certificate = parse(path)?;
    anyhow::ensure!(
        certificate.terms().key == own,
        "the certificate {shown} is that of {}, and this node's key is {own}: sign this one",
        certificate.terms().key
    );
    Ok(certificate)
}

fn parse(path: &Path) -> Result<Certificate> {
    let shown = path.display();
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX_BYTES).read_to_string(&mut text))
        .with_context(|| format!("the certificate {shown} cannot be read"))?;
    Certificate::parse(text.trim()).with_context(|| shown.to_string())
}
