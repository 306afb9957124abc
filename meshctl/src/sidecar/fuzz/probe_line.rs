//! Target: a line on the probe port, and one that answers it.

use super::fuzz;
use crate::bench::wire::{Answer, Request, SECONDS_MAX};

#[test]
fn every_line_is_understood_in_one_way_or_not_at_all() {
    fuzz("probe-line", 50_000, |input| {
        let line = String::from_utf8_lossy(input);
        let request = line.parse::<Request>();
        if let Ok(request) = request {
            assert!((1..=SECONDS_MAX).contains(&request.seconds), "{request}");
            assert!(Request::is_one(line.as_bytes()), "{line}");
            assert_eq!(request.to_string().parse(), Ok(request));
        }
        let answer = line.parse::<Answer>();
        if let Ok(answer) = &answer {
            assert_eq!(answer.to_string().parse().as_ref(), Ok(answer));
        }
        let kind = answer.map(|answer| std::mem::discriminant(&answer));
        format!("{:?} {kind:?}", request.err())
    });
}
