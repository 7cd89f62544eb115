//! What an application key is good for, as the service tells beforehand.

use super::failure::NEW_KEY;
use super::session::{Session, lacks};
use crate::store::Right;
use crate::{Error, ErrorKind, Result};

/// [`crate::store::Store::require`]: it is for this bucket, these names, and these calls.
pub(super) async fn require(session: &Session, prefix: &str, rights: &[Right]) -> Result<()> {
    let account = session.account().await?;
    let mut missing: Vec<&str> = rights.iter().map(|right| capability(*right)).collect();
    missing.retain(|capability| !account.may(capability));
    if !missing.is_empty() {
        return Err(Error::new(ErrorKind::Permission, lacks(&missing)).hint(NEW_KEY));
    }
    let names = account.allowed.name_prefix.as_deref().unwrap_or_default();
    if !prefix.starts_with(names) {
        let message = format!("the application key is for names that begin with {names:?} only");
        let hint = "name a place below that, or make another application key";
        return Err(Error::new(ErrorKind::Permission, message).hint(hint));
    }
    session.bucket_id().await?;
    Ok(())
}

fn capability(right: Right) -> &'static str {
    match right {
        Right::List => "listFiles",
        Right::Read => "readFiles",
        Right::Write => "writeFiles",
        Right::Delete => "deleteFiles",
    }
}
