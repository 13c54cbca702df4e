//! underdog
fn main() {}
