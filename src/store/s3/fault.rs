//! What a request that failed means: what the caller does next.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::whole::Cut;
use crate::{Error, ErrorKind};

/// What a request does, as far as it matters when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing that others see.
    Reading,
    /// The same, however often it is done.
    Writing,
    /// Something that is not done twice: under a condition, or with another result the second time.
    Once,
}

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// Zero without an answer.
    pub(super) status: u16,
    /// The service's name for it; empty where the answer has no body, and without one.
    pub(super) code: String,
    /// What the service says, or what went wrong on the way.
    pub(super) message: String,
    way: Way,
    after: Option<Duration>,
    /// The service's clock.
    date: Option<SystemTime>,
    /// Where the bucket is, when it was looked for elsewhere.
    region: Option<String>,
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It was answered.
    Answered,
    /// It never left.
    NotSent,
    /// There was no connection.
    NotConnected,
    /// No answer came, or none that can be read.
    Lost,
    /// Only the beginning of one came.
    Cut,
}

/// Sends a request and waits for the head of its answer, so long at the most.
pub(super) async fn answer<T, E>(
    limit: Duration,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    // On the heap: these futures are large, and many are under way.
    match tokio::time::timeout(limit, Box::pin(request)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Fault::new(&error)),
        Err(_) => Err(Fault::lost(format!("no answer came in {} seconds", limit.as_secs()))),
    }
}

impl Fault {
    fn new<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let chain = chain(error);
        let way = match error {
            SdkError::ConstructionFailure(_) => Way::NotSent,
            SdkError::DispatchFailure(_) if is_of_credentials(&chain) => Way::NotSent,
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) if is_of_connecting(&chain) => {
                Way::NotConnected
            }
            SdkError::ServiceError(_) => Way::Answered,
            SdkError::ResponseError(_) if is_cut(error) => Way::Cut,
            _ => Way::Lost,
        };
        let Some(response) = error.raw_response().filter(|_| way == Way::Answered) else {
            return Self { way, ..Self::lost(chain) };
        };
        let header = |name| response.headers().get(name);
        let service = error.as_service_error();
        Self {
            status: response.status().as_u16(),
            code: service.and_then(E::code).map(clean).unwrap_or_default(),
            message: service.and_then(E::message).map(clean).unwrap_or_default(),
            way,
            after: header("retry-after").and_then(|text| text.parse().ok()).map(Duration::from_secs),
            date: header("date").and_then(http_date),
            region: header("x-amz-bucket-region").map(clean),
        }
    }

    /// What went wrong before a request was made.
    pub(super) fn of(error: &Error) -> Self {
        Self { way: Way::NotSent, ..Self::lost(error.line()) }
    }

    fn lost(message: String) -> Self {
        Self {
            status: 0,
            code: String::new(),
            message,
            way: Way::Lost,
            after: None,
            date: None,
            region: None,
        }
    }

    /// The service's clock.
    pub(super) fn date(&self) -> Option<SystemTime> {
        self.date
    }

    /// Whether there is nothing under the name.
    pub(super) fn is_not_found(&self) -> bool {
        match &*self.code {
            "NoSuchKey" | "NoSuchVersion" | "NoSuchUpload" => true,
            // An id that the service cannot have given.
            "InvalidArgument" => self.message.to_lowercase().contains("version id"),
            // Without a body, and of services with names of their own; a bucket that is missing has one.
            code => self.status == 404 && matches!(code, "" | "NotFound" | "404"),
        }
    }

    /// Whether a delete marker was asked for by its version: it has no bytes.
    pub(super) fn is_of_marker(&self) -> bool {
        let copied = self.code == "InvalidRequest" && self.message.contains("delete marker");
        copied || self.status == 405 && matches!(&*self.code, "" | "MethodNotAllowed")
    }

    /// Whether the request was answered, if in no way that makes sense, and the answer will not be another one next time.
    pub(super) fn is_refused(&self) -> bool {
        (200..500).contains(&self.status) && !matches!(self.status, 408 | 429)
    }

    /// Whether a condition did not hold.
    pub(super) fn is_precondition(&self) -> bool {
        self.status == 412 || self.code == "PreconditionFailed"
    }

    /// Whether the service says that this may not be done.
    pub(super) fn is_denied(&self) -> bool {
        self.status == 403 && matches!(&*self.code, "" | "AccessDenied" | "Forbidden" | "403")
    }

    /// Whether the service does not have what was asked for.
    pub(super) fn is_unknown_there(&self) -> bool {
        self.status == 501 || matches!(&*self.code, "NotImplemented" | "UnsupportedOperation")
    }

    /// The error that the caller sees.
    pub(super) fn error(&self, doing: Doing) -> Error {
        let error = match self.way {
            Way::Answered => self.answered(doing),
            Way::NotSent => self.not_sent(),
            Way::NotConnected => self.not_connected(),
            Way::Lost => Error::new(unanswered(doing), "no answer came").because(self.message.clone()),
            Way::Cut => Error::new(unanswered(doing), Cut.to_string()),
        };
        match self.after {
            Some(after) => error.after(after),
            None => error,
        }
    }

    fn answered(&self, doing: Doing) -> Error {
        if self.is_not_found() || (doing == Doing::Reading && self.is_of_marker()) {
            return self.says(
                ErrorKind::NotFound,
                match &*self.code {
                    "NoSuchUpload" => "the upload was completed or aborted",
                    _ => "there is nothing under that name",
                },
            );
        }
        if self.is_precondition() {
            return self.says(ErrorKind::Conflict, "changed in the meantime, or exists already");
        }
        match &*self.code {
            "NoSuchBucket" => self
                .says(ErrorKind::Refused, "there is no such bucket")
                .hint("look at its name, and at the endpoint and the region"),
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidSecurity" => self
                .says(ErrorKind::Permission, "the service does not accept the credentials")
                .hint("look at the access key, its secret and the profile; `aws sts get-caller-identity` shows who you are"),
            "ExpiredToken" | "TokenRefreshRequired" => self
                .says(ErrorKind::Permission, "the credentials have expired")
                .hint("sign in again, as with `aws sso login`"),
            "RequestTimeTooSkewed" => self.skewed(),
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" | "301" => {
                self.elsewhere()
            }
            "InvalidObjectState" => self
                .says(ErrorKind::Refused, "is archived and cannot be read")
                .hint("restore it from the archive first (`aws s3api restore-object`)"),
            "KeyTooLongError" | "InvalidURI" => self.says(ErrorKind::Input, "cannot have this name in the bucket"),
            "EntityTooLarge" | "EntityTooSmall" => self.says(ErrorKind::Input, "has a size that the service does not take"),
            // It was not kept: what arrived was not what was sent.
            "BadDigest" | "XAmzContentSHA256Mismatch" | "IncompleteBody" => {
                self.says(ErrorKind::Transient, "was damaged on its way to the service")
            }
            "ConditionalRequestConflict" | "OperationAborted" | "SlowDown" | "ServiceUnavailable" | "Throttling"
            | "ThrottlingException" | "RequestLimitExceeded" | "TooManyRequests" | "BandwidthLimitExceeded"
            | "ServerBusy" => self.says(ErrorKind::Transient, "the service is busy"),
            "RequestTimeout" | "RequestTimeoutException" => {
                self.says(ErrorKind::Transient, "the service waited too long for the request")
            }
            _ => self.by_status(doing),
        }
    }

    /// What the number alone tells.
    fn by_status(&self, doing: Doing) -> Error {
        // An error inside of a good answer tells by its name alone.
        let failed = self.status >= 500 || self.code == "InternalError";
        match self.status {
            301 | 307 => self.elsewhere(),
            403 => self
                .says(ErrorKind::Permission, "access is denied")
                .hint("look at the rights of the credentials and at the policy of the bucket"),
            401 => self.says(ErrorKind::Permission, "the service does not accept the credentials"),
            408 | 429 | 503 => self.says(ErrorKind::Transient, "the service is busy"),
            501 => self.says(ErrorKind::Refused, "the service does not have this"),
            // Others have it done already, for all that a gateway knows.
            502 | 504 if doing != Doing::Reading => {
                self.says(ErrorKind::Unsure, "the service failed, and does not say how far it came")
            }
            _ if failed && doing == Doing::Once => {
                self.says(ErrorKind::Unsure, "the service failed, and does not say how far it came")
            }
            _ if failed => self.says(ErrorKind::Transient, "the service failed"),
            _ => self.says(ErrorKind::Refused, "the service refused"),
        }
    }

    fn skewed(&self) -> Error {
        let skew = self.date.map(skew);
        let message = match skew {
            Some((by, which)) => format!(
                "the clock of this machine is {} {which} that of the service",
                humantime::format_duration(Duration::from_secs(by.as_secs()))
            ),
            None => "the clock of this machine is too far from that of the service".into(),
        };
        self.says(ErrorKind::Permission, message).hint("set the clock (NTP), then try again")
    }

    fn elsewhere(&self) -> Error {
        let error = self.says(ErrorKind::Refused, "the bucket is in another region or at another endpoint");
        match &self.region {
            Some(region) => error.hint(format!("name its region: {region}")),
            None => error.hint("name the region and the endpoint of the bucket"),
        }
    }

    fn not_sent(&self) -> Error {
        if is_of_credentials(&self.message) {
            return Error::new(ErrorKind::Permission, "there are no credentials for the service")
                .because(self.message.clone())
                .hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile");
        }
        Error::new(ErrorKind::Refused, "the request cannot be made").because(self.message.clone())
    }

    fn not_connected(&self) -> Error {
        if self.message.contains("certificate") {
            return Error::new(ErrorKind::Refused, "the certificate of the service is not trusted")
                .because(self.message.clone())
                .hint("look at the endpoint; a file of certificates to trust can be named in the settings");
        }
        Error::new(ErrorKind::Transient, "cannot connect").because(self.message.clone())
    }

    /// An error with what the service said as its cause.
    pub(super) fn says(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message).because(self.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.code, &*self.message) {
            ("", "") => write!(f, "HTTP status {}", self.status),
            ("", message) => f.write_str(message),
            (code, "") => write!(f, "HTTP status {}, {code}", self.status),
            (code, message) => write!(f, "HTTP status {}, {code}: {message}", self.status),
        }
    }
}

/// How far the clock of this machine is from another one.
#[expect(
    clippy::disallowed_methods,
    reason = "it is the clock that requests are signed by, whoever gave the time"
)]
fn skew(date: SystemTime) -> (Duration, &'static str) {
    match SystemTime::now().duration_since(date) {
        Ok(ahead) => (ahead, "ahead of"),
        Err(behind) => (behind.duration(), "behind"),
    }
}

/// The kind of what got no answer.
fn unanswered(doing: Doing) -> ErrorKind {
    match doing {
        Doing::Reading => ErrorKind::Transient,
        Doing::Writing | Doing::Once => ErrorKind::Unsure,
    }
}

/// An error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line = format!("{line}: {error}");
        cause = error.source();
    }
    clean(&line)
}

fn is_cut(error: &dyn std::error::Error) -> bool {
    std::iter::successors(error.source(), |cause| cause.source()).any(|cause| cause.is::<Cut>())
}

/// What the client says when it could not connect; its types do not tell.
fn is_of_connecting(chain: &str) -> bool {
    ["client error (Connect)", "HTTP connect timeout", "dns error", "tcp connect error"]
        .iter()
        .any(|said| chain.contains(said))
}

fn is_of_credentials(chain: &str) -> bool {
    chain.contains("credential")
}

/// Text of a service for people's terminals: short, without control characters.
fn clean(text: &str) -> String {
    text.chars().take(500).map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// A time as headers have it: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<SystemTime> {
    let format = aws_smithy_types::date_time::Format::HttpDate;
    SystemTime::try_from(aws_smithy_types::DateTime::from_str(text, format).ok()?).ok()
}
