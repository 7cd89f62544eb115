//! The token that goes with every call: asked for when it is needed, once for all that need it, and again when it is
//! over.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, DATE, HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::Settings;
use super::date;
use super::failure::{Failure, NEW_KEY};
use super::http::{Http, read_json, text};
use super::wire::{AUTHORIZE, Allowed, Api, Authorized, Buckets, LIST_BUCKETS};
use crate::secret::SecretBytes;
use crate::{Error, ErrorKind, Result};

const REALM: &str = "https://api.backblazeb2.com";
/// The version of the API.
const VERSION: &str = "b2api/v4";
/// How often one call is given another token.
const TOKENS: usize = 2;

/// An application key at work on a bucket.
pub(super) struct Session {
    pub(super) http: Http,
    realm: Url,
    pub(super) bucket: String,
    key_id: String,
    key: SecretBytes,
    account: Mutex<Option<Arc<Account>>>,
    bucket_id: OnceCell<String>,
}

/// What the service says about the application key, with the token.
pub(super) struct Account {
    pub(super) id: String,
    token: HeaderValue,
    api_url: Url,
    download_url: Url,
    pub(super) min_part: u64,
    pub(super) allowed: Allowed,
    /// The service's clock, when it was read.
    clock: Option<(SystemTime, Instant)>,
}

impl Account {
    /// What time it is by the service's clock, up to the seconds that its answer took.
    pub(super) fn now(&self) -> Option<SystemTime> {
        let (date, read) = self.clock?;
        date.checked_add(read.elapsed())
    }

    pub(super) fn may(&self, capability: &str) -> bool {
        self.allowed.capabilities.iter().any(|allowed| allowed == capability)
    }
}

impl Session {
    pub(super) fn new(settings: Settings) -> Result<Self> {
        let realm = address(settings.endpoint.as_deref().unwrap_or(REALM))?;
        let http = Http::new(settings.connections, is_loopback(&realm))?;
        Ok(Self {
            http,
            realm,
            bucket: settings.bucket,
            key_id: settings.key_id,
            key: settings.key,
            account: Mutex::new(None),
            bucket_id: OnceCell::new(),
        })
    }

    /// What the service says about the application key. Who comes while it is asked waits for that answer.
    pub(super) async fn account(&self) -> Result<Arc<Account>, Failure> {
        let mut account = self.account.lock().await;
        if let Some(account) = &*account {
            return Ok(Arc::clone(account));
        }
        let new = Arc::new(self.authorize().await?);
        *account = Some(Arc::clone(&new));
        Ok(new)
    }

    /// The next call gets another token, unless it has been had in the meantime.
    async fn forget(&self, stale: &Arc<Account>) {
        let mut account = self.account.lock().await;
        if account.as_ref().is_some_and(|account| Arc::ptr_eq(account, stale)) {
            *account = None;
        }
    }

    async fn authorize(&self) -> Result<Account, Failure> {
        let pair = Zeroizing::new([self.key_id.as_bytes(), b":", self.key.expose()].concat());
        let basic = Zeroizing::new(format!("Basic {}", STANDARD.encode(&*pair)));
        let mut basic =
            HeaderValue::from_str(&basic).map_err(|_| Error::usage("the application key is none"))?;
        basic.set_sensitive(true);
        let url = join(&self.realm, &format!("{VERSION}/b2_authorize_account"))?;
        let request = self.http.client().get(url).header(AUTHORIZATION, basic);
        let response = self.http.ask(&AUTHORIZE, request).await?;
        let clock = text(response.headers(), DATE.as_str()).and_then(date::parse);
        let answer: Authorized = read_json(&AUTHORIZE, response).await?;
        let storage = answer.api_info.storage_api;
        Ok(Account {
            id: answer.account_id,
            token: secret_header(&answer.authorization_token)?,
            api_url: self.trusted(&storage.api_url)?,
            download_url: self.trusted(&storage.download_url)?,
            min_part: storage.absolute_minimum_part_size.max(1),
            allowed: storage.allowed,
            clock: clock.map(|date| (date, Instant::now())),
        })
    }

    /// Makes a call; with another token where the one at hand is over.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        api: &'static Api,
        arguments: &Value,
    ) -> Result<T, Failure> {
        let body = arguments.to_string();
        let asked = self.with_token(api, |account| {
            let url = join(&account.api_url, &format!("{VERSION}/{}", api.name))?;
            Ok(self.http.client().post(url).header(AUTHORIZATION, &account.token).body(body.clone()))
        });
        read_json(api, asked.await?).await
    }

    /// Begins a download of what `path` names below the address for downloads.
    pub(super) async fn download(
        &self,
        api: &'static Api,
        method: &Method,
        path: &Path<'_>,
        headers: &HeaderMap,
    ) -> Result<Response, Failure> {
        self.with_token(api, |account| {
            let url = match path {
                Path::Name(key) => join(
                    &account.download_url,
                    &format!("file/{}/{}", self.bucket, super::text::encode(key)),
                )?,
                Path::Id(id) => {
                    let mut url = join(&account.download_url, &format!("{VERSION}/b2_download_file_by_id"))?;
                    url.query_pairs_mut().append_pair("fileId", id);
                    url
                }
            };
            let request = self.http.client().request(method.clone(), url).headers(headers.clone());
            Ok(request.header(AUTHORIZATION, &account.token))
        })
        .await
    }

    async fn with_token(
        &self,
        api: &'static Api,
        request: impl Fn(&Account) -> Result<reqwest::RequestBuilder, Failure>,
    ) -> Result<Response, Failure> {
        let mut tokens = 0;
        loop {
            let account = self.account().await?;
            let asked = self.http.ask(api, request(&account)?).await;
            match asked {
                Err(failure)
                    if tokens < TOKENS && failure.refusal().is_some_and(|no| no.is_stale_token()) =>
                {
                    let failure = self.name_what_lacks(&account, failure);
                    if failure.refusal().is_some_and(|no| no.lacking.is_some()) {
                        return Err(failure);
                    }
                    self.forget(&account).await;
                    tokens += 1;
                }
                other => return other.map_err(|failure| self.name_what_lacks(&account, failure)),
            }
        }
    }

    /// Says why a call is not allowed, where what the key is good for tells.
    pub(super) fn name_what_lacks(&self, account: &Account, mut failure: Failure) -> Failure {
        if let Failure::Refused(refusal) = &mut failure
            && refusal.status == 401
            && matches!(&*refusal.code, "unauthorized" | "")
            && !refusal.api.capability.is_empty()
            && !account.may(refusal.api.capability)
        {
            refusal.lacking = Some(lacks(&[refusal.api.capability]));
        }
        failure
    }

    /// The id of the bucket. A key of one bucket brings it; else the service is asked by name.
    pub(super) async fn bucket_id(&self) -> Result<&str, Failure> {
        self.bucket_id.get_or_try_init(|| self.find_bucket()).await.map(String::as_str)
    }

    async fn find_bucket(&self) -> Result<String, Failure> {
        let account = self.account().await?;
        if let Some(buckets) = &account.allowed.buckets {
            if let Some(found) = buckets.iter().find(|bucket| bucket.name.as_ref() == Some(&self.bucket)) {
                return Ok(found.id.clone());
            }
            let names: Vec<&str> = buckets.iter().filter_map(|bucket| bucket.name.as_deref()).collect();
            let message = format!("the application key is for other buckets: {}", names.join(", "));
            return Err(Error::new(ErrorKind::Permission, message).hint(NEW_KEY).into());
        }
        let asked = json!({"accountId": account.id, "bucketName": self.bucket});
        let found: Buckets = self.call(&LIST_BUCKETS, &asked).await?;
        let found = found.buckets.into_iter().find(|bucket| bucket.bucket_name == self.bucket);
        found.map(|bucket| bucket.bucket_id).ok_or_else(|| {
            let error = Error::new(ErrorKind::Refused, "the account has no such bucket");
            error.hint("make it first; its name belongs to one account in the whole service").into()
        })
    }

    /// An address that the service gave: the token may go there.
    pub(super) fn trusted(&self, url: &str) -> Result<Url> {
        let url = address(url)?;
        match url.scheme() == self.realm.scheme() {
            true => Ok(url),
            false => Err(Error::new(ErrorKind::Refused, "the service names an address without encryption")),
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { realm, bucket, key_id, .. } = self;
        f.debug_struct("Session")
            .field("realm", &realm.as_str())
            .field("bucket", bucket)
            .field("key_id", key_id)
            .finish_non_exhaustive()
    }
}

/// How a download names what it wants.
pub(super) enum Path<'a> {
    Name(&'a str),
    Id(&'a str),
}

/// A header that is never shown.
pub(super) fn secret_header(text: &str) -> Result<HeaderValue> {
    let value = HeaderValue::from_str(text);
    let mut value =
        value.map_err(|_| Error::new(ErrorKind::Refused, "the service gave a token that is none"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a key is not good for.
pub(super) fn lacks(capabilities: &[&str]) -> String {
    format!("the application key lacks {}", capabilities.join(", "))
}

/// An address that secrets may go to.
fn address(text: &str) -> Result<Url> {
    let url = Url::parse(text).map_err(|error| Error::usage("is no address").because(error).about(text))?;
    if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) {
        return Ok(url);
    }
    Err(Error::usage("is not an address of https")
        .about(text)
        .hint("keys and names would be sent in the clear"))
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

fn join(base: &Url, path: &str) -> Result<Url> {
    let text = format!("{}/{path}", base.as_str().trim_end_matches('/'));
    Url::parse(&text).map_err(|error| Error::usage("is no address").because(error).about(text))
}
