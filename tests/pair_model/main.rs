//! Every interleaving, every failure and every late delivery of the real machines of `sidekey::pair`.

mod explore;
mod folder;
mod located;
mod random;

mod world;
