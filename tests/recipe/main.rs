//! The OpenSSL recipe: against files that OpenSSL made, against the `openssl` command, and against damage; and that
//! what settles a file's parameters is never wrong in silence.

mod container;
mod fuzz;
mod openssl;
mod settle;
mod support;
