//! Questions on the terminal, whatever standard input and output are.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};

use sidekey::{IoContext as _, Result};

const TERMINAL: &str = "/dev/tty";

/// Whether the user answers with yes; nothing when there is no terminal to ask on.
///
/// # Errors
/// What the operating system says.
pub(super) fn agreed(question: &str) -> Result<Option<bool>> {
    let Ok(mut terminal) = OpenOptions::new().read(true).write(true).open(TERMINAL) else {
        return Ok(None);
    };
    write!(terminal, "{question} [y/N] ").and_then(|()| terminal.flush()).context("cannot ask", TERMINAL)?;
    let mut answer = String::new();
    BufReader::new(terminal).read_line(&mut answer).context("cannot read the answer", TERMINAL)?;
    Ok(Some(matches!(answer.trim(), "y" | "Y" | "yes")))
}
