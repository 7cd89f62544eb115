//! What an envelope or key file is to become, judged with its container where that is at hand.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::RewrapOptions;
use crate::format::{Entry, Envelope, Header, Wrap};
use crate::open::read_header;
use crate::ops::recipe_files::{self, Settled};
use crate::ops::walk;
use crate::pair::Finding;
use crate::recipe::{Decision, KeyFile, PasswordBlock, detect_key_file};
use crate::rewrap::{Examined, Judgement, Rotation, examine, judge_by_headers};
use crate::{Error, ErrorKind, Result, name};

/// What reading a file showed, and what it is to become.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) finding: Finding,
    pub(super) new: Option<Vec<u8>>,
    pub(super) residue: Vec<String>,
    pub(super) checked: u64,
    pub(super) unchecked: u64,
}

pub(super) fn judge_envelope(
    path: &Path,
    bytes: &[u8],
    options: &RewrapOptions,
    all: bool,
) -> Result<Judged> {
    let envelope = Envelope::parse(bytes)?;
    let containers = containers_beside(path);
    let headers: Vec<Header> = containers.iter().filter_map(|container| header_of(container)).collect();
    let judge = |entry: &Entry, secret: &[u8]| match entry.wrap {
        Wrap::RecipeKey => match recipe_files::judge_payload(entry, secret, &containers) {
            Some(true) => Judgement::Right,
            Some(false) => Judgement::Wrong,
            None => Judgement::Absent,
        },
        _ => judge_by_headers(&headers, &entry.data_id, secret),
    };
    let examined = examine(&envelope, &options.rotation, judge, options.now, all)?;
    let new = examined.rewrapped.map(|envelope| envelope.to_text().map(String::into_bytes)).transpose()?;
    let Examined { finding, residue, checked, unchecked, .. } = examined;
    Ok(Judged { finding, new, residue, checked, unchecked })
}

/// A key file of the recipe stays what it is, for one new recipient.
pub(super) fn judge_key_file(
    path: &Path,
    bytes: &[u8],
    rotation: &Rotation,
    settled: &Settled,
) -> Result<Judged> {
    let key_file = detect_key_file(bytes).ok_or_else(|| Error::conflict("changed while it was read"))?;
    let mut judged =
        Judged { finding: Finding::NotOurs, new: None, residue: vec![], checked: 0, unchecked: 0 };
    if !recipe_files::opens_to_text(&key_file, &rotation.old) {
        return Ok(judged);
    }
    let [recipient] = rotation.new.as_slice() else {
        return Err(Error::usage("a key file of the OpenSSL recipe holds one recipient")
            .hint("--adopt turns it into an envelope, which holds several"));
    };
    let blocks = key_file.open(&rotation.old)?;
    let password = match decide(path, &blocks, settled) {
        Ok(Some(decision)) => {
            judged.checked = 1;
            blocks.get(decision.block())
        }
        Err(error) if error.kind() == ErrorKind::Integrity => {
            judged.finding = Finding::Unproven;
            judged.residue.push(format!("the old key opens it, but {error}"));
            return Ok(judged);
        }
        Ok(None) | Err(_) => {
            judged.unchecked = 1;
            blocks.iter().find(|block| block.is_text())
        }
    };
    let password = password.ok_or_else(|| Error::auth("no old key opens it"))?;
    judged.finding = Finding::Opens;
    judged.new = Some(KeyFile::wrap(password, recipient, key_file.form())?.encode());
    Ok(judged)
}

/// How the container of a key file was made; nothing when it is not at hand.
fn decide(key_file: &Path, blocks: &[PasswordBlock], settled: &Settled) -> Result<Option<Decision>> {
    let Some(container) = recipe_container_of(key_file) else { return Ok(None) };
    let sample = recipe_files::sample_of(&container)?;
    settled.decide(&container, blocks, &sample).map(Some)
}

/// The paths of the containers that an envelope of this name may belong to.
fn containers_beside(path: &Path) -> Vec<PathBuf> {
    let last = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name::containers_of(&last).iter().map(|container| path.with_file_name(container)).collect()
}

/// The container of the recipe that a key file belongs to.
pub(super) fn recipe_container_of(key_file: &Path) -> Option<PathBuf> {
    let is_recipe = |path: &PathBuf| walk::sniff(path).is_ok_and(|start| recipe_files::is_container(&start));
    // A script names key files in the second form alone.
    containers_beside(key_file).pop().filter(is_recipe)
}

fn header_of(container: &Path) -> Option<Header> {
    read_header(&mut File::open(container).ok()?).ok()
}
