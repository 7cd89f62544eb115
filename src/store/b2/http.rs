//! Requests and answers, and what it means when there is none.

use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use reqwest::header::{CONTENT_LENGTH, HeaderMap};
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::failure::{Failure, Refusal};
use super::wire::{Api, PATIENCE};
use crate::{Error, ErrorKind, Result};

const CONNECT: Duration = Duration::from_secs(30);
/// Shorter than servers keep a connection that is not used, so that few requests meet one that is being closed.
const IDLE: Duration = Duration::from_secs(20);
/// How much of a body the connection takes at a time.
const CHUNK: usize = 256 << 10;
/// A page of a listing is far smaller.
const MAX_ANSWER: usize = 64 << 20;

/// The connections to a service.
#[derive(Debug)]
pub(super) struct Http {
    client: Client,
    connections: usize,
    permits: Semaphore,
}

impl Http {
    /// At most so many requests at a time; past the proxy that the environment names when it is to be `direct`.
    pub(super) fn new(connections: usize, direct: bool) -> Result<Self> {
        let connections = connections.clamp(1, Semaphore::MAX_PERMITS);
        let builder = Client::builder()
            .user_agent(concat!("sidekey/", env!("CARGO_PKG_VERSION")))
            .http1_only()
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(connections)
            .tcp_nodelay(true);
        let builder = if direct { builder.no_proxy() } else { builder };
        let client = builder
            .build()
            .map_err(|error| Error::new(ErrorKind::Refused, "cannot make connections").because(error))?;
        Ok(Self { client, connections, permits: Semaphore::new(connections) })
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// How many requests are under way at the most.
    pub(super) fn connections(&self) -> usize {
        self.connections
    }

    /// Sends a request of few bytes; the answer's head, when it says yes.
    pub(super) async fn ask(&self, api: &'static Api, request: RequestBuilder) -> Result<Response, Failure> {
        self.send(api, request, &Outgoing::new(Bytes::new())).await
    }

    /// Sends bytes, and reads the answer of JSON. When not all of them went out, the service has none of them.
    pub(super) async fn upload<T: DeserializeOwned>(
        &self,
        api: &'static Api,
        request: RequestBuilder,
        body: Bytes,
    ) -> Result<T, Failure> {
        let outgoing = Outgoing::new(body);
        let request = request.header(CONTENT_LENGTH, outgoing.bytes.len()).body(outgoing.body());
        let response = self.send(api, request, &outgoing).await?;
        read_json(api, response).await
    }

    async fn send(
        &self,
        api: &'static Api,
        request: RequestBuilder,
        outgoing: &Outgoing,
    ) -> Result<Response, Failure> {
        let permit = self.permits.acquire().await;
        let mut sending = pin!(request.send());
        let response = loop {
            let left = outgoing.left();
            match timeout(api.patience, &mut sending).await {
                Ok(answered) => break answered.map_err(|error| lost(api, error, outgoing))?,
                Err(_) if outgoing.left() < left => {}
                Err(_) => return Err(no_answer(api, "no answer came in time", outgoing.left() == 0).into()),
            }
        };
        drop(permit);
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        let headers = response.headers().clone();
        // What it says is for people: the status alone will do.
        let body = read(api, response).await.unwrap_or_default();
        Err(Refusal::new(api, status, &headers, &body).into())
    }
}

/// A body on its way out.
struct Outgoing {
    bytes: Bytes,
    left: Arc<AtomicUsize>,
}

impl Outgoing {
    fn new(bytes: Bytes) -> Self {
        let left = Arc::new(AtomicUsize::new(bytes.len()));
        Self { bytes, left }
    }

    /// How much the connection has not taken yet.
    fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    fn body(&self) -> Body {
        if self.bytes.is_empty() {
            return Body::from(Bytes::new());
        }
        let state = (self.bytes.clone(), Arc::clone(&self.left));
        Body::wrap_stream(stream::unfold(state, |(mut bytes, left)| async move {
            if bytes.is_empty() {
                return None;
            }
            let chunk = bytes.split_to(bytes.len().min(CHUNK));
            left.store(bytes.len(), Ordering::Relaxed);
            Some((Ok::<_, std::convert::Infallible>(chunk), (bytes, left)))
        }))
    }
}

/// A connection that cannot be made, or that broke.
fn lost(api: &Api, error: reqwest::Error, outgoing: &Outgoing) -> Error {
    let reached = !error.is_connect() && outgoing.left() == 0;
    if error.is_builder() {
        return Error::usage("the address of a service is none").because(error.without_url());
    }
    if let Some(error) = untrusted(&error) {
        return error;
    }
    let message = match (error.is_dns(), error.is_connect()) {
        (true, _) => "there is no such host, or no network",
        (_, true) => "cannot reach the service",
        _ => "the connection broke",
    };
    no_answer(api, message, reached).because(Causes::of(error))
}

/// `reached` tells whether the service may have the whole request.
fn no_answer(api: &Api, message: &str, reached: bool) -> Error {
    let kind = if reached && api.changes { ErrorKind::Unsure } else { ErrorKind::Transient };
    Error::new(kind, format!("{message} ({})", api.name))
}

/// A certificate that is refused will be refused again.
fn untrusted(error: &reqwest::Error) -> Option<Error> {
    let causes = Causes::of_source(error.source());
    if !error.is_connect() || !causes.0.to_lowercase().contains("certificate") {
        return None;
    }
    let time =
        ["expired", "valid yet", "notvalidyet"].iter().any(|word| causes.0.to_lowercase().contains(word));
    let hint = match time {
        true => "is the clock of this machine right?",
        false => "is this the service that is meant, and is its certificate's issuer trusted by this system?",
    };
    let message = "the certificate of the service is not to be trusted";
    Some(Error::new(ErrorKind::Refused, message).hint(hint).because(causes))
}

/// The causes of a failure on one line, without the address, which can hold what is not for everybody.
#[derive(Debug)]
pub(super) struct Causes(String);

impl Causes {
    pub(super) fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        Self::of_source(error.source()).or(error.to_string())
    }

    fn of_source(mut source: Option<&(dyn std::error::Error + 'static)>) -> Self {
        let mut lines: Vec<String> = Vec::new();
        while let Some(error) = source {
            let line = error.to_string();
            if !lines.iter().any(|said| said.contains(&line)) {
                lines.push(line);
            }
            source = error.source();
        }
        Self(lines.join(": "))
    }

    fn or(self, other: String) -> Self {
        if self.0.is_empty() { Self(other) } else { self }
    }
}

impl std::fmt::Display for Causes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Causes {}

/// An answer of JSON.
pub(super) async fn read_json<T: DeserializeOwned>(
    api: &'static Api,
    response: Response,
) -> Result<T, Failure> {
    let body = read(api, response).await?;
    serde_json::from_slice(&body).map_err(|error| {
        let kind = if api.changes { ErrorKind::Unsure } else { ErrorKind::Refused };
        let message = format!("{} gave an answer that is not of the API", api.name);
        Error::new(kind, message).hint("is the endpoint right?").because(error).into()
    })
}

/// A whole answer. When it breaks, the request was done.
async fn read(api: &'static Api, mut response: Response) -> Result<Bytes, Error> {
    let mut body = BytesMut::new();
    loop {
        let chunk = match timeout(PATIENCE, response.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => {
                return Err(no_answer(api, "the answer broke off", true).because(Causes::of(error)));
            }
            Err(_) => return Err(no_answer(api, "the answer did not go on", true)),
        };
        match chunk {
            None => return Ok(body.freeze()),
            Some(chunk) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
            Some(_) => {
                let message = format!("the answer of {} is longer than any can be", api.name);
                return Err(Error::new(ErrorKind::Refused, message));
            }
        }
    }
}

/// A header as text; nothing where there is none, or no text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
