//! Reports of rotations: read and checked, put together where many workers shared the work, and how to share it.

mod chain;
mod merge;
mod plan;
mod read;

pub(crate) use self::chain::Chain;
pub use self::merge::{Merged, merge, write_merged};
pub use self::plan::{Plan, PlanOptions, Shard, plan_shards};
pub use self::read::{Line, RunReport, read};
