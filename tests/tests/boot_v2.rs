//! A machine with cgroup v2 alone. What is checked inside is `boot/v2.sh`.

use coracle_tests::Scratch;
use coracle_tests::machine::Machine;

#[test]
fn limits_hold_on_cgroup_v2_alone() {
    let scratch = Scratch::new("boot");
    let Some(machine) = Machine::new(&scratch, "v2.sh", &[]) else { return };
    machine.boot("", None).passed(24, "CHECKS DONE");
}
