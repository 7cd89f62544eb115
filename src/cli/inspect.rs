//! `sidekey inspect`.

use std::path::{Path, PathBuf};

use serde::Serialize;
use sidekey::Result;
use sidekey::format::Header;
use sidekey::format::envelope::Content;
use sidekey::ops::inspect::{Inspected, block_kind, inspect};
use sidekey::recipe::{ContainerEncoding, KeyFileForm};

use super::report::Report;

/// show what is public about containers and envelopes; no key is needed
///
/// Of a container: version, cipher suite, sizes and data id. Of an envelope: its entries and whom they say they are for.
/// None of it is authenticated: decrypt checks it.
#[derive(clap::Args, Debug)]
#[command(after_help = "\
examples:
  sidekey inspect letter.odt.enc letter.odt.key.enc
  sidekey inspect --json *.key.enc")]
pub(crate) struct Args {
    /// the files
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
}

#[derive(Serialize)]
struct Container {
    r#type: &'static str,
    path: String,
    version: u8,
    suite: &'static str,
    data_id: String,
    section_size: usize,
    metadata_len: u32,
    len: u64,
    plain_len_min: Option<u64>,
    plain_len_max: Option<u64>,
}

#[derive(Serialize)]
struct Envelope {
    r#type: &'static str,
    path: String,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    kind: String,
    data_id: Option<String>,
    recipient: Option<String>,
    wrap: Option<String>,
    created: Option<String>,
    bits: Option<usize>,
}

#[derive(Serialize)]
struct RecipeContainer {
    r#type: &'static str,
    path: String,
    encoding: &'static str,
    data_id: String,
    len: u64,
}

#[derive(Serialize)]
struct RecipeKeyFile {
    r#type: &'static str,
    path: String,
    form: &'static str,
    bits: usize,
}

impl Args {
    pub(crate) fn run(self, report: &Report) -> Result<()> {
        for path in &self.paths {
            match inspect(path) {
                Ok(found) => show(path, &found, report),
                Err(error) => report.failure(&error),
            }
        }
        Ok(())
    }
}

fn show(path: &Path, found: &Inspected, report: &Report) {
    let path = path.display().to_string();
    match found {
        Inspected::Container { header, len, plain } => show_container(path, header, *len, plain, report),
        Inspected::Envelope(envelope) => {
            let entries: Vec<Entry> = envelope.blocks.iter().map(|block| describe(&block.content)).collect();
            let plural = if entries.len() == 1 { "entry" } else { "entries" };
            let mut lines = vec![format!("{path}: envelope, {} {plural}", entries.len())];
            for entry in &entries {
                let field = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
                let Some(recipient) = &entry.recipient else {
                    lines.push(format!("  {}", entry.kind));
                    continue;
                };
                lines.push(format!("  recipient {recipient}"));
                lines.push(format!(
                    "    data id {}, {}, {} bits, created {}",
                    field(&entry.data_id),
                    field(&entry.wrap),
                    entry.bits.unwrap_or_default(),
                    field(&entry.created),
                ));
            }
            report.result(&Envelope { r#type: "envelope", path, entries }, lines);
        }
        Inspected::RecipeContainer { encoding, data_id, len } => {
            let encoding = match encoding {
                ContainerEncoding::Raw => "raw",
                ContainerEncoding::Base64Wrapped => "base64 in lines (-a)",
                ContainerEncoding::Base64OneLine => "base64 on one line (-a -A)",
            };
            let lines = [
                format!("{path}: container of the OpenSSL recipe (openssl enc, salted), not authenticated"),
                format!("  encoding  {encoding}"),
                format!("  length    {len} bytes"),
                format!("  data id   {data_id}, once adopted"),
            ];
            let data_id = data_id.to_string();
            report.result(
                &RecipeContainer { r#type: "recipe-container", path, encoding, data_id, len: *len },
                lines,
            );
        }
        Inspected::RecipeKeyFile { form, bits } => {
            let form = match form {
                KeyFileForm::Raw => "raw",
                KeyFileForm::Base64OneLine => "base64 on one line",
                KeyFileForm::Base64Wrapped => "base64 in lines",
            };
            let line =
                format!("{path}: key file of the OpenSSL recipe, {form}, for an RSA key of {bits} bits");
            report.result(&RecipeKeyFile { r#type: "recipe-key-file", path, form, bits: *bits }, [line]);
        }
        _ => {}
    }
}

fn show_container(
    path: String,
    header: &Header,
    len: u64,
    plain: &Result<(u64, u64), String>,
    report: &Report,
) {
    let (min, max) = plain.clone().ok().unzip();
    let value = Container {
        r#type: "container",
        path,
        version: 1,
        suite: "AES-256-CBC + AES-256-CMAC, HKDF-SHA-256",
        data_id: header.data_id().to_string(),
        section_size: header.section_size(),
        metadata_len: header.metadata_len(),
        len,
        plain_len_min: min,
        plain_len_max: max,
    };
    let plain = match plain {
        Ok((min, max)) if min == max => format!("{min} bytes of plaintext"),
        Ok((min, max)) => format!("{min} to {max} bytes of plaintext"),
        Err(fault) => fault.clone(),
    };
    let lines = [
        format!("{}: container, version 1", value.path),
        format!("  suite     {}", value.suite),
        format!("  data id   {}", value.data_id),
        format!("  sections  {} bytes", value.section_size),
        format!("  metadata  {} bytes", value.metadata_len),
        format!("  length    {len} bytes, {plain}"),
    ];
    report.result(&value, lines);
}

fn describe(content: &Content) -> Entry {
    let kind = block_kind(content).to_owned();
    match content {
        Content::Entry(entry) => Entry {
            kind,
            data_id: Some(entry.data_id.to_string()),
            recipient: Some(entry.recipient.to_string()),
            wrap: Some(entry.wrap.to_string()),
            created: entry.created.clone(),
            bits: Some(entry.body.len() * 8),
        },
        _ => Entry { kind, data_id: None, recipient: None, wrap: None, created: None, bits: None },
    }
}
