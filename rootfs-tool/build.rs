//! Link the program as all three are linked.

#[path = "../.cargo/link.rs"]
mod link;

fn main() {
    link::link(&[], &[]);
}
