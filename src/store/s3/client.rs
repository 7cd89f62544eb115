//! The client: credentials, region, address, certificates and times to wait.

use std::fs;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Builder, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::whole::WholeAnswers;
use super::{Settings, check_address, is_this_machine};
use crate::{Error, ErrorKind, Result};

const CONNECT: Duration = Duration::from_secs(30);
/// So long a body may stand still.
const STILL: Duration = Duration::from_secs(60);
/// Where no region is named, as for most services that are not AWS.
const REGION: &str = "us-east-1";

/// A client, and the address that it was told.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) endpoint: Option<String>,
}

/// Certificates as a file has them.
pub(super) type Certificates = Vec<u8>;

/// Reads a file of certificates, so that what is wrong with it is said at once.
pub(super) fn certificates(settings: &Settings) -> Result<Option<Certificates>> {
    let Some(path) = &settings.ca_file else { return Ok(None) };
    let pem = fs::read(path).map_err(|source| Error::io("cannot read", source).at(path))?;
    match are_certificates(&pem) {
        true => Ok(Some(pem)),
        false => Err(Error::input("holds no certificates (PEM)").at(path)),
    }
}

/// Whether there are certificates, and all of them can be read: the client takes what it is given for good.
fn are_certificates(pem: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(pem) else { return false };
    let mut blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1).peekable();
    let is_whole = |block: &str| {
        let body = block.split_once("-----END CERTIFICATE-----").map(|(body, _)| body);
        let body: Option<String> = body.map(|body| body.split_whitespace().collect());
        body.is_some_and(|body| STANDARD.decode(body).is_ok_and(|der| is_certificate(&der)))
    };
    blocks.peek().is_some() && blocks.all(is_whole)
}

/// Whether DER has the fields of a certificate (RFC 5280): version, serial number, algorithm, issuer, validity, subject,
/// key; perhaps extensions; then the algorithm again and the signature.
fn is_certificate(der: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    let Some(outer) = fields(der) else { return false };
    let [(SEQUENCE, certificate)] = outer[..] else { return false };
    let Some(parts) = fields(certificate) else { return false };
    let [(SEQUENCE, signed), (SEQUENCE, _), (BIT_STRING, _)] = parts[..] else { return false };
    let Some(signed) = fields(signed) else { return false };
    let kinds: Vec<u8> = signed.iter().map(|(kind, _)| *kind).collect();
    let kinds = kinds.strip_prefix(&[VERSION]).unwrap_or(&kinds);
    let more = kinds.strip_prefix(&[INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE]);
    more.is_some_and(|more| more.iter().all(|kind| matches!(kind, 0x81 | 0x82 | 0xa3)))
}

/// The values that follow each other in DER, with their kinds, when they fill it.
fn fields(mut der: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut found = Vec::new();
    while let [kind, first, rest @ ..] = der {
        let (len, rest) = match first {
            0..=0x7f => (usize::from(*first), rest),
            0x81..=0x84 => {
                let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (len.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        found.push((*kind, value));
        der = rest;
    }
    der.is_empty().then_some(found)
}

/// The client of these settings. What is not in them comes from where the `aws` tool takes it.
pub(super) async fn connect(settings: &Settings, certificates: Option<Certificates>) -> Result<Connected> {
    let shared = shared(settings, http(certificates.clone(), false)?).await;
    let endpoint = match &settings.endpoint {
        Some(endpoint) => Some(endpoint.clone()),
        None => configured_endpoint(&shared)?,
    };
    let path_style = settings.path_style.unwrap_or(endpoint.is_some());
    let mut config = Builder::from(&shared)
        .force_path_style(path_style)
        .interceptor(WholeAnswers)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if shared.region().is_none() {
        config = config.region(Region::from_static(REGION));
    }
    if endpoint.as_deref().is_some_and(is_here) {
        config.set_http_client(Some(http(certificates, true)?));
    }
    config.set_endpoint_url(endpoint.clone());
    Ok(Connected { client: Client::from_conf(config.build()), endpoint })
}

/// Tries are counted by the store around this one, so each request is sent once, with a signature of its own.
async fn shared(settings: &Settings, http: SharedHttpClient) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT).disable_read_timeout().build();
    let still = StalledStreamProtectionConfig::enabled().grace_period(STILL).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
        .stalled_stream_protection(still);
    if let Some(region) = region(settings) {
        loader = loader.region(region);
    }
    if let Some(profile) = &settings.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(keys) = &settings.credentials {
        let secret = String::from_utf8_lossy(keys.secret.expose()).into_owned();
        loader = loader.credentials_provider(Credentials::new(&keys.id, secret, None, None, "settings"));
    }
    loader.load().await
}

/// The region, unless the client finds it by itself. On machines of AWS that asks the machine, which is left out where
/// the service is another.
fn region(settings: &Settings) -> Option<RegionProviderChain> {
    if let Some(region) = &settings.region {
        return Some(RegionProviderChain::first_try(Region::new(region.clone())));
    }
    settings.endpoint.as_ref()?;
    let mut profile = profile::region::Builder::default();
    if let Some(name) = &settings.profile {
        profile = profile.profile_name(name);
    }
    let named = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new());
    Some(named.or_else(profile.build()).or_else(Region::from_static(REGION)))
}

/// The address in the environment or the profile, for S3 or for all services.
fn configured_endpoint(shared: &SdkConfig) -> Result<Option<String>> {
    let key =
        ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build();
    let own = key.ok().and_then(|key| shared.service_config()?.load_config(key));
    let endpoint = own.or_else(|| shared.endpoint_url().map(str::to_owned));
    if let Some(endpoint) = &endpoint {
        check_address(endpoint).map_err(|error| {
            error.hint("look at AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL and endpoint_url of the profile")
        })?;
    }
    Ok(endpoint)
}

/// Whether an address is one of this machine, to which no proxy leads.
fn is_here(endpoint: &str) -> bool {
    endpoint.split_once("://").is_some_and(|(_, rest)| is_this_machine(rest))
}

/// `direct`: past the proxy that the environment names (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, but for `NO_PROXY`).
fn http(certificates: Option<Certificates>, direct: bool) -> Result<SharedHttpClient> {
    let mut trust = TrustStore::default();
    if let Some(pem) = certificates {
        trust = trust.with_pem_certificate(pem);
    }
    let context = TlsContext::builder().with_trust_store(trust).build().map_err(|error| {
        Error::new(ErrorKind::Refused, "cannot prepare encrypted connections").because(error)
    })?;
    let proxy = if direct { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
    let client =
        aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder().proxy_config(proxy.clone());
            connector.set_connector_settings(settings.cloned());
            if let Some(components) = components {
                connector.set_sleep_impl(components.sleep_impl());
            }
            let provider = Provider::Rustls(CryptoMode::AwsLc);
            connector.tls_provider(provider).tls_context(context.clone()).build()
        });
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "\
        MIIBbjCCARWgAwIBAgIUTR4WI83oSnB0xzJ1wfS8yHxcUjUwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBeDAgFw0yNj\
        ExMjExOTE5MzdaGA8yMTA5MDExMDE5MTkzN1owDDEKMAgGA1UEAwwBeDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA\
        BOoLNlW5MJuE0GxJMsQcI52GqetBwXlg4HTf1/X9htbYPnESF28CsrPADtXaiLythXuZwd+Z1JrokdiaS1ao5F+jUz\
        BRMB0GA1UdDgQWBBQg5kCGCdwVpEuZlATOc1gTssiHkDAfBgNVHSMEGDAWgBQg5kCGCdwVpEuZlATOc1gTssiHkDAP\
        BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIF9+kkjoxIZg5EMP2oHcbA8I8DMtUi8fdHBTV541Qot9Ai\
        B/716323cLd1cxBbwYRll75Le98Jhwwx58095L17jVhQ==";

    #[test]
    fn a_file_of_certificates_holds_whole_ones() {
        let pem = |body: &str| format!("x\n-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let good = pem(CERTIFICATE);
        assert!(are_certificates(good.as_bytes()));
        assert!(are_certificates(format!("{good}{good}").as_bytes()));
        let der = STANDARD.decode(CERTIFICATE).unwrap();
        let decodes = [&der[..der.len() - 1], &[0x30, 0], &der[4..], &[der.clone(), vec![0]].concat()];
        let decodes = decodes.map(|der| pem(&STANDARD.encode(der)));
        let others = ["".into(), "text".into(), "-----BEGIN CERTIFICATE-----\nMAA=\n".into(), pem("M!")];
        for bad in decodes.iter().chain(&others) {
            assert!(!are_certificates(bad.as_bytes()), "{bad:?}");
        }
    }
}
