//! What the store says of itself.

use std::time::{Duration, SystemTime};

use super::Finding;
use crate::ErrorKind;
use crate::store::facts::{Facts, Told, Versions};
use crate::store::{Capabilities, DefaultEncryption, Encryption, Store};

/// Services refuse requests from 10 (B2) or 15 minutes (S3) on.
const SKEW: Duration = Duration::from_secs(5 * 60);

pub(super) async fn all(
    store: &dyn Store,
    capabilities: &Capabilities,
    facts: &Facts,
    now: SystemTime,
) -> Vec<Finding> {
    let mut findings = vec![versions(facts)];
    findings.extend(lock(facts));
    findings.extend(encryption(store, facts).await);
    findings.push(parts(capabilities));
    if let Told::Hidden(right) = facts.lifecycle {
        findings.push(Finding::unknown("lifecycle", format!("the rules may not be read ({right})")));
    }
    findings.extend(facts.clock.map(|there| clock(now, there)));
    findings
}

fn versions(facts: &Facts) -> Finding {
    match facts.versions {
        Told::Is(Versions::On) => Finding::fine("versions", "on: what is replaced stays as an older version"),
        Told::Is(Versions::Off) => Finding::fine("versions", "off: what is replaced or removed is gone"),
        Told::Is(Versions::Suspended) => Finding::attention(
            "versions",
            "suspended: older versions stay, newer ones are not kept, and rm cannot hide anything",
            "switch them on again, or remove what is older with sidekey rm --versions and sidekey rewrap",
        ),
        Told::Hidden(right) => Finding::attention(
            "versions",
            format!("may not be asked ({right})"),
            "allow it: no command can work without",
        ),
        Told::NoSuch => Finding::fine("versions", "none: what is replaced or removed is gone"),
    }
}

fn lock(facts: &Facts) -> Option<Finding> {
    match &facts.lock {
        Told::NoSuch => None,
        Told::Is(None) => Some(Finding::fine("object lock", "off")),
        Told::Is(Some(lock)) => Some(match &lock.default {
            None => Finding::fine("object lock", "on; nothing is locked that does not ask for it"),
            Some((mode, time)) => Finding::attention(
                "object lock",
                format!("on; what is written is locked for {time} ({mode})"),
                "a rewrap is not complete before that is over: older versions of envelopes stay, and it lists them",
            ),
        }),
        Told::Hidden(right) => Some(Finding::unknown("object lock", format!("may not be read ({right})"))),
    }
}

async fn encryption(store: &dyn Store, facts: &Facts) -> Option<Finding> {
    let told = match store.bucket()?.default_encryption().await {
        Ok(DefaultEncryption::Off) => "by default none".to_owned(),
        Ok(DefaultEncryption::On(Encryption::Kms(Some(id)))) => format!("by default kms with the key {id}"),
        Ok(DefaultEncryption::On(Encryption::Kms(None))) => "by default kms".to_owned(),
        Ok(DefaultEncryption::On(_)) => "by default with a key of the service".to_owned(),
        Ok(DefaultEncryption::Hidden) => {
            return Some(Finding::unknown("encryption", "the bucket's default may not be read"));
        }
        Err(error) if error.kind() == ErrorKind::Refused => {
            "the service keeps no default of buckets".to_owned()
        }
        Err(error) => return Some(Finding::unknown("encryption", error.line())),
    };
    let blocked = if facts.blocks_customer_keys { "; --sse c is blocked" } else { "" };
    Some(Finding::fine("encryption", told + blocked))
}

fn parts(capabilities: &Capabilities) -> Finding {
    let Capabilities { min_part, max_part, max_parts, .. } = *capabilities;
    let most = match max_parts {
        u32::MAX => "any number of parts".to_owned(),
        parts => format!("up to {parts} parts"),
    };
    Finding::fine("parts", format!("{most} of {} to {}", size(min_part), size(max_part)))
}

pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) if bytes % unit == 0 => format!("{} {name}", bytes / unit),
        Some((name, unit)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

fn clock(now: SystemTime, there: SystemTime) -> Finding {
    let (off, which) = match now.duration_since(there) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let shown = humantime::format_duration(Duration::from_secs(off.as_secs()));
    match off {
        // Answers take their time, and tell whole seconds.
        off if off <= Duration::from_secs(2) => Finding::fine("clock", "the same here and there"),
        off if off <= SKEW => Finding::fine("clock", format!("this machine is {shown} {which} the service")),
        _ => Finding::attention(
            "clock",
            format!("this machine is {shown} {which} the service"),
            "set the clock (NTP): services refuse requests of other times",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::State;

    #[test]
    fn a_clock_that_is_minutes_off_is_told() {
        let there = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (off, state, says) in [
            (1, State::Fine, "the same"),
            (60, State::Fine, "1m ahead of"),
            (600, State::Attention, "10m ahead of"),
        ] {
            let found = clock(there + Duration::from_secs(off), there);
            assert_eq!(found.state, state, "{found:?}");
            assert!(found.value.contains(says), "{found:?}");
        }
        let found = clock(there, there + Duration::from_secs(3600));
        assert_eq!((found.state, &*found.value), (State::Attention, "this machine is 1h behind the service"));
    }

    #[test]
    fn sizes_have_a_unit() {
        for (bytes, shown) in [(1, "1 bytes"), (5 << 20, "5 MiB"), (5_000_000, "4.8 MiB"), (5 << 30, "5 GiB")]
        {
            assert_eq!(size(bytes), shown);
        }
    }
}
