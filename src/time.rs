//! Times for people and reports (RFC 3339).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second of the year 9999, since 1970.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// A time to the second, as `2026-11-20T23:06:00Z`. A file can have any time, and a service may say any: what is before
/// 1970 is shown as its first second, and what has more than four digits for its year as the last second that has four.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default().min(LAST);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_can_be_shown() {
        let at = |seconds: u64| UNIX_EPOCH + Duration::from_secs(seconds);
        for (time, shown) in [
            (UNIX_EPOCH, "1970-01-01T00:00:00Z"),
            (at(1_790_000_000), "2026-09-21T14:13:20Z"),
            (at(253_402_300_799) + Duration::from_nanos(999_999_999), "9999-12-31T23:59:59Z"),
            (at(253_402_300_800), "9999-12-31T23:59:59Z"),
            (at(i64::MAX.cast_unsigned()), "9999-12-31T23:59:59Z"),
            (UNIX_EPOCH - Duration::from_nanos(1), "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH - Duration::from_secs(86_400), "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH - Duration::from_secs(i64::MAX.cast_unsigned()), "1970-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(time), shown);
        }
    }
}
