//! `dm-worker`: the command line.
fn main() {}
