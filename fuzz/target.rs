//! What all targets share: the fixtures, read once.

use std::sync::LazyLock;

#[path = "bodies.rs"]
#[allow(dead_code, reason = "the tests write the seeds")]
mod bodies;

use bodies::{BODIES, World};

static WORLD: LazyLock<World> = LazyLock::new(|| World::load(env!("CARGO_MANIFEST_DIR")));

pub(crate) fn run(name: &str, data: &[u8]) {
    let body = BODIES.iter().find(|body| body.name == name).expect("a body of that name");
    (body.run)(&WORLD, data);
}
