//! What goes over the wire: the calls of the API, and what the service answers.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::store::{Info, Object};

/// One call of the API.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) name: &'static str,
    /// What the application key must be good for.
    pub(super) capability: &'static str,
    /// Whether it changes what others see, so that a lost answer leaves it open whether it did.
    pub(super) changes: bool,
    /// How long the service may take to begin its answer.
    pub(super) patience: Duration,
}

/// How long nothing may happen on a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

impl Api {
    const fn read(name: &'static str, capability: &'static str) -> Self {
        Self { name, capability, changes: false, patience: PATIENCE }
    }

    const fn change(name: &'static str, capability: &'static str) -> Self {
        Self { name, capability, changes: true, patience: PATIENCE }
    }

    /// The service moves bytes before it answers.
    const fn long(self) -> Self {
        Self { patience: Duration::from_secs(20 * 60), ..self }
    }
}

pub(super) static LIST_BUCKETS: Api = Api::read("b2_list_buckets", "listBuckets");
pub(super) static UPDATE_BUCKET: Api = Api::read("b2_update_bucket", "writeBuckets");
pub(super) static LIST_FILE_NAMES: Api = Api::read("b2_list_file_names", "listFiles");
pub(super) static LIST_FILE_VERSIONS: Api = Api::read("b2_list_file_versions", "listFiles");
pub(super) static LIST_UNFINISHED: Api = Api::read("b2_list_unfinished_large_files", "listFiles");
pub(super) static LIST_PARTS: Api = Api::read("b2_list_parts", "writeFiles");
pub(super) static GET_UPLOAD_URL: Api = Api::read("b2_get_upload_url", "writeFiles");
pub(super) static GET_UPLOAD_PART_URL: Api = Api::read("b2_get_upload_part_url", "writeFiles");
/// What is begun without an answer is an unfinished file, which nobody sees.
pub(super) static START_LARGE_FILE: Api = Api::read("b2_start_large_file", "writeFiles");
pub(super) static FINISH_LARGE_FILE: Api = Api::change("b2_finish_large_file", "writeFiles").long();
pub(super) static CANCEL_LARGE_FILE: Api = Api::read("b2_cancel_large_file", "writeFiles");
pub(super) static COPY_FILE: Api = Api::change("b2_copy_file", "writeFiles").long();
pub(super) static COPY_PART: Api = Api::read("b2_copy_part", "writeFiles").long();
pub(super) static HIDE_FILE: Api = Api::change("b2_hide_file", "writeFiles");
pub(super) static DELETE_FILE_VERSION: Api = Api::change("b2_delete_file_version", "deleteFiles");
/// Not called by these names, but sent to an URL that is had for it.
pub(super) static UPLOAD_FILE: Api = Api::change("b2_upload_file", "writeFiles");
pub(super) static UPLOAD_PART: Api = Api::change("b2_upload_part", "writeFiles");
pub(super) static DOWNLOAD: Api = Api::read("b2_download_file", "readFiles");
pub(super) static AUTHORIZE: Api = Api::read("b2_authorize_account", "");

/// The answer of `b2_authorize_account`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authorized {
    pub(super) account_id: String,
    pub(super) authorization_token: String,
    pub(super) api_info: ApiInfo,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiInfo {
    pub(super) storage_api: StorageApi,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StorageApi {
    pub(super) api_url: String,
    pub(super) download_url: String,
    pub(super) absolute_minimum_part_size: u64,
    pub(super) allowed: Allowed,
}

/// What an application key is good for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Allowed {
    /// All where there is nothing here.
    pub(super) buckets: Option<Vec<AllowedBucket>>,
    pub(super) capabilities: Vec<String>,
    pub(super) name_prefix: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct AllowedBucket {
    pub(super) id: String,
    /// Nothing of one that is gone.
    pub(super) name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Buckets {
    pub(super) buckets: Vec<BucketAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BucketAnswer {
    pub(super) bucket_id: String,
    pub(super) bucket_name: String,
    pub(super) default_server_side_encryption: Option<DefaultAnswer>,
    pub(super) file_lock_configuration: Option<LockAnswer>,
    #[serde(default)]
    pub(super) lifecycle_rules: Vec<LifecycleRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LockAnswer {
    #[serde(default)]
    pub(super) is_client_authorized_to_read: bool,
    pub(super) value: Option<LockSettings>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LockSettings {
    #[serde(default)]
    pub(super) is_file_lock_enabled: bool,
    pub(super) default_retention: Option<Retention>,
}

#[derive(Deserialize)]
pub(super) struct Retention {
    pub(super) mode: Option<String>,
    pub(super) period: Option<Period>,
}

#[derive(Deserialize)]
pub(super) struct Period {
    pub(super) duration: u64,
    pub(super) unit: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LifecycleRule {
    pub(super) file_name_prefix: String,
    pub(super) days_from_uploading_to_hiding: Option<u32>,
    pub(super) days_from_hiding_to_deleting: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DefaultAnswer {
    #[serde(default)]
    pub(super) is_client_authorized_to_read: bool,
    pub(super) value: Option<ModeAnswer>,
}

#[derive(Deserialize)]
pub(super) struct ModeAnswer {
    pub(super) mode: Option<String>,
}

/// Where to upload to, and with what.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct UploadUrlAnswer {
    pub(super) upload_url: String,
    pub(super) authorization_token: String,
}

/// A page of a listing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Files {
    pub(super) files: Vec<File>,
    pub(super) next_file_name: Option<String>,
    pub(super) next_file_id: Option<String>,
}

/// A version of a file, a hide marker, an unfinished large file, or a folder of a listing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct File {
    pub(super) file_id: Option<String>,
    pub(super) file_name: String,
    pub(super) action: Option<String>,
    pub(super) content_length: Option<u64>,
    pub(super) content_sha1: Option<String>,
    pub(super) file_info: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) upload_timestamp: u64,
}

/// What a [`File`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Upload,
    Hide,
    Start,
    Folder,
}

impl File {
    pub(super) fn action(&self) -> Action {
        match self.action.as_deref() {
            Some("hide") => Action::Hide,
            Some("start") => Action::Start,
            Some("folder") => Action::Folder,
            _ => Action::Upload, // "upload" or "copy"
        }
    }

    pub(super) fn id(&self) -> &str {
        self.file_id.as_deref().unwrap_or_default()
    }

    /// The SHA-1 of all bytes, lower-case hex, where the service knows it: of large files it does not.
    pub(super) fn sha1(&self) -> Option<&str> {
        self.content_sha1
            .as_deref()
            .map(|sha1| sha1.strip_prefix("unverified:").unwrap_or(sha1))
            .filter(is_sha1)
    }

    pub(super) fn modified(&self) -> SystemTime {
        time(self.upload_timestamp)
    }

    pub(super) fn into_object(self, latest: bool) -> Object {
        let marker = self.action() == Action::Hide;
        Object {
            modified: self.modified(),
            version: self.file_id.unwrap_or_default(),
            key: self.file_name,
            latest,
            marker,
            size: if marker { 0 } else { self.content_length.unwrap_or_default() },
            info: Some(self.file_info.map(Info::from_iter).unwrap_or_default()),
        }
    }
}

fn is_sha1(text: &&str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A time of the service's.
pub(super) fn time(milliseconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Parts {
    pub(super) parts: Vec<PartAnswer>,
    pub(super) next_part_number: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartAnswer {
    pub(super) part_number: u32,
    #[serde(default)]
    pub(super) content_length: u64,
    pub(super) content_sha1: Option<String>,
}

/// An answer that nothing is read from.
#[derive(Deserialize)]
pub(super) struct Nothing {}

/// How the service says no.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ErrorAnswer {
    pub(super) code: String,
    pub(super) message: String,
}
