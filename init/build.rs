//! Link the program for the smallest number of resident pages: no page of its own for what is
//! read-only after relocation (nothing is relocated), none between constants and code.

#[path = "../.cargo/link.rs"]
mod link;

fn main() {
    link::link(&["-znorelro"], &["--no-rosegment"]);
}
