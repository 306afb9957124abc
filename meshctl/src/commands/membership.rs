//! What `meshctl peers` and `meshctl status` say of authorities, and of a secret that changes.

use knit_link::mesh::{MeshClient, MeshError};
use knit_rpc::jsonrpc::{KeptOutPeer, MembershipStatus, RotationStatus, Signed};
use knit_runtime::terminal::table::Table;

/// Who is kept out; nobody by a daemon that knows no authorities.
pub(super) async fn kept_out(client: &MeshClient) -> Result<Vec<KeptOutPeer>, MeshError> {
    match client.kept_out().await {
        Err(MeshError::Unsupported { .. }) => Ok(Vec::new()),
        answer => answer,
    }
}

pub(super) fn kept_out_table(peers: &[KeptOutPeer], wide: bool) -> Table {
    let mut table = Table::new(wide)
        .column("kept out")
        .column("from")
        .column("last seen")
        .column("signed")
        .wide_column("why")
        .column("public key");
    for peer in peers {
        table.row([
            or_dash(&peer.hostname),
            or_dash(&peer.from),
            peer.last_seen.clone(),
            signed(Some(&peer.signed)),
            peer.why.clone(),
            peer.pubkey.clone(),
        ]);
    }
    table
}

/// The cell of a peer: by whom, under what name, until when; or why not.
pub(super) fn signed(signed: Option<&Signed>) -> String {
    let Some(signed) = signed else { return "-".to_owned() };
    let day = |moment: &str| moment.split('T').next().unwrap_or_default().to_owned();
    match (&signed.name, &signed.by, &signed.expires) {
        (Some(name), Some(by), Some(expires)) if signed.state == Signed::SIGNED => {
            format!("{name} by {by} until {}", day(expires))
        }
        (Some(name), _, _) => format!("{} ({name})", signed.state),
        (None, _, _) => signed.state.clone(),
    }
}

/// The lines of `meshctl status`.
pub(super) fn rows(status: &MembershipStatus) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if !status.authorities.is_empty() {
        let rule = if status.required { "required" } else { "shown, not required" };
        rows.push(("authority", format!("{} ({rule})", status.authorities.join(", "))));
    }
    if status.required {
        rows.push(("kept out", format!("{} that have the secret alone", status.kept_out)));
    }
    rows.push((
        "certificate",
        match &status.certificate {
            None => "none: nodes with --require-signed keep this one out".to_owned(),
            Some(own) => match &own.problem {
                Some(problem) => format!("{}: {problem}", own.name),
                None => format!("{} until {}", own.name, own.expires),
            },
        },
    ));
    rows
}

/// The line of `meshctl status` while the secret changes.
pub(super) fn rotation_row(rotation: &RotationStatus) -> (&'static str, String) {
    let behind = match rotation.behind.as_slice() {
        [] => "every peer has the new one".to_owned(),
        behind => format!("behind: {}", behind.join(", ")),
    };
    ("secret", format!("old and new until {}; {behind}", rotation.until))
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_tells_by_whom_or_why_not() {
        let full = Signed {
            state: Signed::SIGNED.into(),
            name: Some("web-1".into()),
            by: Some("AbCdEfGh".into()),
            expires: Some("2027-01-15T08:00:00Z".into()),
        };
        assert_eq!(signed(Some(&full)), "web-1 by AbCdEfGh until 2027-01-15");
        let expired = Signed { state: "expired".into(), ..full };
        assert_eq!(signed(Some(&expired)), "expired (web-1)");
        let no = Signed { state: "no".into(), ..Signed::default() };
        assert_eq!(signed(Some(&no)), "no");
        assert_eq!(signed(None), "-");
    }
}
