//! The mesh's state in the socket's words.

use knit_rpc::jsonrpc::{PeerCount, PeerInfo};
use meshctl_core::mesh::PeerView;

pub(crate) const VERSION: &str = concat!("knit-mesh/", env!("CARGO_PKG_VERSION"));
/// A connection has at most one watch, so its number never varies.
pub(crate) const SUBSCRIPTION: u64 = 1;

pub(crate) fn peer_info(peer: &PeerView) -> PeerInfo {
    PeerInfo {
        pubkey: peer.key.to_string(),
        hostname: peer.hostname.clone(),
        mesh_ip: peer.mesh_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()).unwrap_or_default(),
        last_seen: rfc3339(peer.last_seen_unix),
        discovered_via: peer.discovered_via.iter().map(|via| (*via).to_owned()).collect(),
        routable_networks: peer.routes.iter().map(ToString::to_string).collect(),
        latency_ms: peer.latency_ms,
    }
}

pub(crate) fn peer_count(active: usize, total: usize) -> PeerCount {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    PeerCount {
        active: number(active),
        total: number(total),
        dead: number(total.saturating_sub(active)),
    }
}

/// RFC 3339 in UTC with whole seconds, as a Go daemon in that zone writes it.
fn rfc3339(unix: i64) -> String {
    let (days, second_of_day) = (unix.div_euclid(86_400), unix.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let (hour, minute, second) =
        (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Days since 1970 to a Gregorian date: years begin in March, eras have 400 years.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        for (unix, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_800_000_000, "2027-01-15T08:00:00Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (-1, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(unix), expected);
        }
    }
}
