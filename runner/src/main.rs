//! runner

fn main() {}
