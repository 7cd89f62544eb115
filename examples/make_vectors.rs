//! Writes `fixtures/vectors`: `cargo run --release --example make_vectors`. Two runs write the same bytes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../tests/vectors/generate/mod.rs"]
mod generate;

use generate::{Expect, FOLDER, Vector, WORKED_EXAMPLE};

#[expect(clippy::disallowed_methods, reason = "a tool of this repository that writes fixtures, not results")]
fn main() -> std::io::Result<()> {
    let mut names = BTreeSet::from([format!("{WORKED_EXAMPLE}.vec")]);
    let (mut written, mut bytes) = (0, 0);
    for scenario in generate::scenarios() {
        let name = format!("{}.vec", scenario.name);
        let text = scenario.vector.print();
        assert_eq!(Vector::parse(&text), scenario.vector);
        assert_eq!(scenario.says.is_empty(), scenario.vector.expect == Expect::Ok, "{name}");
        bytes += text.len();
        let path = Path::new(FOLDER).join(&name);
        if fs::read(&path).ok().as_deref() != Some(&text[..]) {
            fs::write(&path, &text)?;
            written += 1;
        }
        assert!(names.insert(name.clone()), "{name} twice");
    }
    for entry in fs::read_dir(FOLDER)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        if name.ends_with(".vec") && !names.contains(&name) {
            println!("{name} is not of this generator: remove it");
        }
    }
    println!("{} vectors of {bytes} bytes; {written} written", names.len() - 1);
    Ok(())
}
