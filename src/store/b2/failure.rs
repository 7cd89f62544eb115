//! How calls fail, sorted by what the caller does next.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use super::date;
use super::wire::{Api, ErrorAnswer};
use crate::{Error, ErrorKind};

/// How a call failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service said no.
    Refused(Box<Refusal>),
    /// There was no answer, or none that can be read.
    Failed(Error),
}

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) api: &'static Api,
    pub(super) status: u16,
    /// Empty where the answer did not come from the API.
    pub(super) code: String,
    message: String,
    retry_after: Option<Duration>,
    /// The service's clock.
    date: Option<SystemTime>,
    /// What the application key is not good for, where that is known to be the reason.
    pub(super) lacking: Option<String>,
}

impl Refusal {
    pub(super) fn new(api: &'static Api, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let answer: ErrorAnswer = serde_json::from_slice(body).unwrap_or_default();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            api,
            status: status.as_u16(),
            code: answer.code,
            message: printable(&answer.message),
            retry_after: text(RETRY_AFTER).and_then(|wait| wait.trim().parse().ok()).map(Duration::from_secs),
            date: text(DATE).and_then(date::parse),
            lacking: None,
        }
    }

    /// Whether the token that was sent is not valid any more: another one may be. The answer to `HEAD` brings no code.
    pub(super) fn is_stale_token(&self) -> bool {
        self.status == 401 && matches!(&*self.code, "expired_auth_token" | "bad_auth_token" | "")
    }

    /// Whether there is no such file, or none any more.
    pub(super) fn is_not_found(&self) -> bool {
        self.status == 404
            || (self.status == 400 && matches!(&*self.code, "file_not_present" | "no_such_file"))
    }

    /// Whether the large file is none that is still being uploaded.
    pub(super) fn is_not_active(&self) -> bool {
        self.is_not_found()
            || (self.status == 400 && self.message.to_lowercase().contains("no active upload"))
    }

    /// Whether the customer's key is missing, or one is given where none belongs.
    pub(super) fn is_about_encryption(&self) -> bool {
        let message = self.message.to_lowercase();
        ["encrypt", "sse", "customer"].iter().any(|word| message.contains(word))
    }

    /// Whether an upload URL is as good as before.
    pub(super) fn spares_the_url(&self) -> bool {
        matches!(self.status, 400 | 403)
    }

    fn of_kind(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        let error = Error::new(kind, message).because(self.said());
        match self.retry_after {
            Some(wait) => error.after(wait),
            None => error,
        }
    }

    /// What the service said, as it said it.
    fn said(&self) -> String {
        match (&*self.code, &*self.message) {
            ("", _) => format!("{} answered with HTTP status {}", self.api.name, self.status),
            (code, "") => format!("{} answered {} {code}", self.api.name, self.status),
            (code, message) => format!("{} answered {} {code} ({message})", self.api.name, self.status),
        }
    }

    fn into_error(self) -> Error {
        if let Some(lacking) = &self.lacking {
            return self.of_kind(ErrorKind::Permission, lacking.clone()).hint(NEW_KEY);
        }
        match (self.status, &*self.code) {
            (400, "bad_bucket_id") => self
                .of_kind(ErrorKind::Refused, "the bucket is gone")
                .hint("look with which buckets the account has"),
            (400 | 404, _) if self.is_not_found() => {
                self.of_kind(ErrorKind::NotFound, "there is nothing under that name")
            }
            // What arrived is not what was sent, and was thrown away.
            (400, _) if self.is_sha1_mismatch() => {
                self.of_kind(ErrorKind::Transient, "the bytes were damaged on their way to the service")
            }
            (400, "auth_token_limit") => self.of_kind(ErrorKind::Transient, "the upload URL is in use"),
            (401, "expired_auth_token") => {
                self.of_kind(ErrorKind::Transient, "the token of the service expires at once")
            }
            (401 | 403, "no_payment_history" | "email_not_verified" | "account_trouble") => {
                self.of_kind(ErrorKind::Refused, "the account may not do this yet").hint(
                    "look at the account's page at backblaze.com: it wants a payment or a confirmed address",
                )
            }
            (403, code) if code.ends_with("cap_exceeded") => {
                let cap = cap(code);
                self.of_kind(ErrorKind::Refused, format!("the account's cap on {cap} is reached"))
                    .hint("raise the cap on the account's page at backblaze.com (Caps & Alerts), or wait for the next day")
            }
            (401 | 403, _) => self.forbidden(),
            (407, _) => self.of_kind(ErrorKind::Permission, "the proxy wants a name and a password"),
            (408, _) => self.of_kind(ErrorKind::Transient, "the service waited too long for the request"),
            (409, _) => self.of_kind(ErrorKind::Transient, "the service is busy with the same file"),
            (429, _) => self.of_kind(ErrorKind::Transient, "the service wants fewer requests"),
            (502 | 504, _) if self.api.changes => {
                self.of_kind(ErrorKind::Unsure, "a gateway answered in the place of the service")
            }
            (500..=599, _) => self.of_kind(ErrorKind::Transient, "the service is busy or out of order"),
            (400, _) => self.of_kind(ErrorKind::Input, "the service does not take this"),
            _ => self
                .of_kind(ErrorKind::Refused, "the service gave an answer that is not of its API")
                .hint("is the endpoint right, and is there a proxy in between?"),
        }
    }

    fn is_sha1_mismatch(&self) -> bool {
        let message = self.message.to_lowercase();
        let uploads = matches!(self.api.name, "b2_upload_file" | "b2_upload_part");
        uploads
            && (self.code.ends_with("sha1_mismatch")
                || message.contains("sha1")
                || message.contains("checksum"))
    }

    fn forbidden(&self) -> Error {
        let (message, hint) = match (self.api.name, &*self.code) {
            ("b2_authorize_account", _) => (
                "the service does not accept the application key".to_owned(),
                "are the key id and the key from the same application key, and is it neither deleted nor expired?"
                    .to_owned(),
            ),
            ("b2_delete_file_version", "access_denied") => (
                "the version is locked, or the application key may not delete it".to_owned(),
                "look at the file's retention and legal hold".to_owned(),
            ),
            (_, "bad_auth_token") => {
                ("the service does not accept its own token".to_owned(), "try again later".to_owned())
            }
            (name, _) => (
                format!("the application key does not allow {name}"),
                format!("it needs {} for this bucket and these names", self.api.capability),
            ),
        };
        let hint = match self.date.and_then(skew) {
            Some(skew) => format!("{hint}; and the clock of this machine is {skew}"),
            None => hint,
        };
        self.of_kind(ErrorKind::Permission, message).hint(hint)
    }
}

pub(super) const NEW_KEY: &str =
    "make another application key: what it must be good for stands in the documentation, by command";

fn cap(code: &str) -> &'static str {
    match code {
        "storage_cap_exceeded" => "storage",
        "transaction_cap_exceeded" => "transactions",
        "download_cap_exceeded" => "downloads",
        _ => "storage, transactions or downloads",
    }
}

/// How far the clock of this machine is off, when that is more than a few minutes.
#[expect(clippy::disallowed_methods, reason = "to name a wrong clock, nothing is decided by it")]
fn skew(theirs: SystemTime) -> Option<String> {
    let (apart, where_to) = match SystemTime::now().duration_since(theirs) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    };
    let minutes = apart.as_secs() / 60;
    (minutes >= 10).then(|| format!("{minutes} minutes {where_to} the service's"))
}

/// At most a few lines, without control characters.
fn printable(text: &str) -> String {
    text.chars().filter(|character| !character.is_control()).take(300).collect()
}

impl Failure {
    /// Whether the service said no, and what.
    pub(super) fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Failed(_) => None,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal.into_error(),
            Failure::Failed(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{DELETE_FILE_VERSION, FINISH_LARGE_FILE, LIST_FILE_NAMES, UPLOAD_FILE};
    use super::*;

    fn refused(api: &'static Api, status: u16, code: &str, message: &str) -> Error {
        let body = format!(r#"{{"status": {status}, "code": "{code}", "message": "{message}"}}"#);
        let status = StatusCode::from_u16(status).unwrap();
        Failure::from(Refusal::new(api, status, &HeaderMap::new(), body.as_bytes())).into()
    }

    #[test]
    fn an_answer_is_sorted_by_what_to_do_next() {
        for (api, status, code, kind) in [
            (&UPLOAD_FILE, 400, "bad_request", ErrorKind::Input),
            (&UPLOAD_FILE, 401, "unauthorized", ErrorKind::Permission),
            (&UPLOAD_FILE, 403, "storage_cap_exceeded", ErrorKind::Refused),
            (&UPLOAD_FILE, 403, "cap_exceeded", ErrorKind::Refused),
            (&UPLOAD_FILE, 408, "request_timeout", ErrorKind::Transient),
            (&UPLOAD_FILE, 429, "too_many_requests", ErrorKind::Transient),
            (&UPLOAD_FILE, 500, "internal_error", ErrorKind::Transient),
            (&UPLOAD_FILE, 503, "service_unavailable", ErrorKind::Transient),
            (&UPLOAD_FILE, 504, "", ErrorKind::Unsure),
            (&LIST_FILE_NAMES, 504, "", ErrorKind::Transient),
            (&LIST_FILE_NAMES, 403, "transaction_cap_exceeded", ErrorKind::Refused),
            (&LIST_FILE_NAMES, 401, "no_payment_history", ErrorKind::Refused),
            (&LIST_FILE_NAMES, 400, "bad_bucket_id", ErrorKind::Refused),
            (&LIST_FILE_NAMES, 302, "", ErrorKind::Refused),
            (&DELETE_FILE_VERSION, 400, "file_not_present", ErrorKind::NotFound),
            (&DELETE_FILE_VERSION, 401, "access_denied", ErrorKind::Permission),
            (&DELETE_FILE_VERSION, 409, "conflict", ErrorKind::Transient),
            (&FINISH_LARGE_FILE, 404, "not_found", ErrorKind::NotFound),
        ] {
            let error = refused(api, status, code, "why");
            assert_eq!(error.kind(), kind, "{status} {code}: {error:?}");
            let passing = matches!(kind, ErrorKind::Transient | ErrorKind::Unsure);
            let plain = matches!(kind, ErrorKind::NotFound | ErrorKind::Input);
            assert!(passing || plain || error.remedy().is_some(), "{status} {code} has no remedy");
        }
    }

    #[test]
    fn damaged_uploads_are_sent_again() {
        let error = refused(&UPLOAD_FILE, 400, "bad_request", "Sha1 did not match data received");
        assert_eq!(error.kind(), ErrorKind::Transient);
        let error = refused(&FINISH_LARGE_FILE, 400, "bad_request", "Part sha1 is wrong");
        assert_eq!(error.kind(), ErrorKind::Input);
    }

    #[test]
    fn the_service_is_quoted_without_control_characters() {
        let error = refused(&UPLOAD_FILE, 400, "bad_request", "a\\u001b[31mb\\nc");
        let expected = "the service does not take this: b2_upload_file answered 400 bad_request (a[31mbc)";
        assert_eq!(error.line(), expected);
    }

    #[test]
    fn the_service_says_how_long_to_wait() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "7".parse().unwrap())]);
        let refusal = Refusal::new(&UPLOAD_FILE, StatusCode::SERVICE_UNAVAILABLE, &headers, b"<html>");
        let error = Error::from(Failure::from(refusal));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn a_wrong_clock_is_named() {
        let headers = HeaderMap::from_iter([(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap())]);
        let refusal = Refusal::new(&LIST_FILE_NAMES, StatusCode::UNAUTHORIZED, &headers, b"{}");
        let error = Error::from(Failure::from(refusal));
        assert!(error.remedy().unwrap().contains("minutes ahead of the service's"), "{error:?}");
    }
}
