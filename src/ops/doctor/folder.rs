//! What a folder of this machine stands on.

use super::Finding;
use super::settings::size;
use crate::store::facts::Folder;

/// Less room than this is worth a word.
const LITTLE: u64 = 1 << 30;

pub(super) fn judged(folder: &Folder) -> Vec<Finding> {
    vec![disk(folder), room(folder), permissions(folder), locks(folder)]
}

fn disk(folder: &Folder) -> Finding {
    match folder {
        Folder { in_memory: true, .. } => Finding::attention(
            "disk",
            "in memory: nothing here survives a power cut",
            "keep backups in a folder that is on a disk",
        ),
        Folder { read_only: true, .. } => Finding::attention(
            "disk",
            "mounted read-only: nothing can be put here",
            "mount it so that it can be written",
        ),
        Folder { syncs_together: true, .. } => Finding::fine("disk", "many files are synced to it together"),
        _ => Finding::fine("disk", "files are synced to it one by one"),
    }
}

fn room(folder: &Folder) -> Finding {
    let value = format!("{} of {} free", size(folder.free), size(folder.total));
    match folder.free < LITTLE {
        true => Finding::attention("room", value, "make room before the next backup"),
        false => Finding::fine("room", value),
    }
}

fn permissions(folder: &Folder) -> Finding {
    let value = format!("{:04o}", folder.mode);
    match folder.mode & 0o022 {
        0 => Finding::fine("permissions", value),
        _ => Finding::attention(
            "permissions",
            format!("{value}: others may remove and replace what is here"),
            "chmod go-w takes that from them",
        ),
    }
}

fn locks(folder: &Folder) -> Finding {
    match folder.locks {
        true => Finding::fine("locks", "runs at the same time keep out of each other's way"),
        false => Finding::attention(
            "locks",
            "none: what two runs replace at the same time is compared, and not held",
            "let one machine at a time rewrap and clean here",
        ),
    }
}
