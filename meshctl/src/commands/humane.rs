//! Spans and sizes as people read them.

/// A span of milliseconds, in its largest whole unit.
pub(super) fn span(millis: u64) -> String {
    match millis / 1000 {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7_200 => format!("{} min", secs / 60),
        secs @ 7_200..172_800 => format!("{} h", secs / 3_600),
        secs => format!("{} d", secs / 86_400),
    }
}

/// A round trip, as `ping` writes it: three digits are enough.
pub(super) fn round_trip(micros: u64) -> String {
    match micros {
        0..10_000 => format!("{}.{:02} ms", micros / 1000, micros % 1000 / 10),
        10_000..100_000 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        _ => format!("{} ms", micros / 1000),
    }
}

/// Bytes: `512 MiB`, `1.5 GiB`.
pub(super) fn bytes(count: u64) -> String {
    let units = [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let Some((unit, factor)) = units.into_iter().find(|(_, factor)| count >= *factor) else {
        return format!("{count} B");
    };
    let tenths = u128::from(count) * 10 / u128::from(factor);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole @ 0..10, tenth) => format!("{whole}.{tenth} {unit}"),
        (whole, _) => format!("{whole} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_round_trips_and_sizes() {
        for (millis, text) in [
            (0, "0 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 d"),
        ] {
            assert_eq!(span(millis), text);
        }
        for (micros, text) in
            [(0, "0.00 ms"), (387, "0.38 ms"), (12_345, "12.3 ms"), (250_999, "250 ms")]
        {
            assert_eq!(round_trip(micros), text);
        }
        for (count, text) in
            [(0, "0 B"), (1_536, "1.5 KiB"), (512 << 20, "512 MiB"), (11 << 39, "5.5 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
