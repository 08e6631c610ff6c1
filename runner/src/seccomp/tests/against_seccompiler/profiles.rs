//! Profiles as they are written, and at random.

use super::*;

/// Rules of profiles, each tried under every default action: operators, masks, halves of a value, several
/// arguments and several rules.
const RULES: [(&str, &str); 21] = [
    ("no argument", r#"{"names":["read","write","mkdir"],"action":A}"#),
    ("runs and gaps", r#"{"names":["read","open","close","stat","getpid","uname","mseal"],"action":A}"#),
    ("behind another call", r#"{"names":["connect","shmget"],"action":A}"#),
    (
        "behind another call, with arguments",
        r#"{"names":["connect"],"action":A,"args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"}]}"#,
    ),
    ("equal", r#"{"names":["ioctl"],"action":A,"args":[{"index":1,"value":21522,"op":"SCMP_CMP_EQ"}]}"#),
    ("equal to 0", r#"{"names":["ioctl"],"action":A,"args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"}]}"#),
    ("not equal", r#"{"names":["ioctl"],"action":A,"args":[{"index":1,"value":21522,"op":"SCMP_CMP_NE"}]}"#),
    ("below", r#"{"names":["lseek"],"action":A,"args":[{"index":5,"value":4294967296,"op":"SCMP_CMP_LT"}]}"#),
    (
        "at most",
        r#"{"names":["lseek"],"action":A,"args":[{"index":4,"value":4294967295,"op":"SCMP_CMP_LE"}]}"#,
    ),
    (
        "at least",
        r#"{"names":["lseek"],"action":A,"args":[{"index":3,"value":12884901890,"op":"SCMP_CMP_GE"}]}"#,
    ),
    (
        "above",
        r#"{"names":["lseek"],"action":A,"args":[{"index":2,"value":18446744073709551614,"op":"SCMP_CMP_GT"}]}"#,
    ),
    (
        "the ends",
        r#"{"names":["lseek"],"action":A,"args":[{"index":2,"value":0,"op":"SCMP_CMP_GT"}]},
        {"names":["poll"],"action":A,"args":[{"index":2,"value":0,"op":"SCMP_CMP_GE"}]},
        {"names":["dup"],"action":A,"args":[{"index":2,"value":18446744073709551615,"op":"SCMP_CMP_LE"}]}"#,
    ),
    (
        "masked",
        r#"{"names":["clone"],"action":A,"args":[{"index":0,"value":2114060288,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
    ),
    (
        "masked in both halves",
        r#"{"names":["clone"],"action":A,"args":[{"index":0,"value":1152921508901814289,"valueTwo":1152921504606846977,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
    ),
    (
        "masked above",
        r#"{"names":["clone"],"action":A,"args":[{"index":0,"value":18446744069414584320,"valueTwo":4294967296,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
    ),
    (
        "a datum beyond its mask",
        r#"{"names":["clone"],"action":A,"args":[{"index":0,"value":15,"valueTwo":255,"op":"SCMP_CMP_MASKED_EQ"}]}"#,
    ),
    (
        "two arguments",
        r#"{"names":["socket"],"action":A,"args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"},{"index":2,"value":9,"op":"SCMP_CMP_NE"}]}"#,
    ),
    (
        "two arguments with high halves",
        r#"{"names":["fcntl","fcntl64"],"action":A,"args":[{"index":1,"value":8589934593,"op":"SCMP_CMP_GE"},{"index":2,"value":8589934593,"op":"SCMP_CMP_LT"}]}"#,
    ),
    (
        "two conditions on one argument",
        r#"{"names":["socket"],"action":A,"args":[{"index":0,"value":3,"op":"SCMP_CMP_LT"},{"index":0,"value":40,"op":"SCMP_CMP_GT"}]}"#,
    ),
    (
        "several rules for a call",
        r#"{"names":["personality"],"action":A,"args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"}]},
        {"names":["personality"],"action":A,"args":[{"index":0,"value":8,"op":"SCMP_CMP_EQ"}]},
        {"names":["personality"],"action":A,"args":[{"index":0,"value":4294967295,"op":"SCMP_CMP_EQ"}]},
        {"names":["personality"],"action":A,"args":[{"index":1,"value":8589934592,"op":"SCMP_CMP_GT"}]}"#,
    ),
    (
        "a rule without arguments beside one with",
        r#"{"names":["mkdir"],"action":A,"args":[{"index":1,"value":511,"op":"SCMP_CMP_EQ"}]},
        {"names":["mkdir"],"action":A}"#,
    ),
];

/// The rules of a profile for callers of this architecture. On i386 the lower half of values counts, and there
/// are those of `socketcall` and `ipc` too, which say nothing of arguments. What is allowed for some arguments only is not allowed there.
fn rules_for(machine: Machine, profile: &LinuxSeccomp, default: u32) -> Vec<LinuxSyscall> {
    let mut rules = profile.syscalls.clone();
    for rule in profile.syscalls.iter().filter(|_| machine == Machine::I386) {
        let result = action(&rule.action, rule.errno_ret).unwrap() & libc::SECCOMP_RET_ACTION_FULL;
        let gives = result as i32 > (default & libc::SECCOMP_RET_ACTION_FULL) as i32;
        for name in rule.names.iter().filter(|_| rule.args.is_empty() || !gives) {
            let (other, value, value_two) = match name.as_str() {
                "socket" => ("socketcall", 0xffff_ffff, 1),
                "connect" => ("socketcall", 0xffff_ffff, 3),
                "shmget" => ("ipc", 0xffff, 23),
                _ => continue,
            };
            let op = "SCMP_CMP_MASKED_EQ".to_owned();
            let args = vec![LinuxSeccompArg { index: 0, value, value_two, op }];
            rules.push(LinuxSyscall { names: vec![other.to_owned()], args, ..rule.clone() });
        }
    }
    for arg in rules.iter_mut().flat_map(|r| &mut r.args).filter(|_| machine == Machine::I386) {
        (arg.value, arg.value_two) = (arg.value & 0xffff_ffff, arg.value_two & 0xffff_ffff);
    }
    rules
}

#[test]
fn written_profiles_agree_with_seccompilers_whatever_the_default_and_the_action() {
    let actions = [
        r#""SCMP_ACT_ALLOW""#,
        r#""SCMP_ACT_ERRNO","errnoRet":77"#,
        r#""SCMP_ACT_KILL""#,
        r#""SCMP_ACT_KILL_PROCESS""#,
        r#""SCMP_ACT_TRAP""#,
        r#""SCMP_ACT_LOG""#,
        r#""SCMP_ACT_TRACE","errnoRet":1234"#,
    ];
    let mut met = BTreeSet::new();
    for (name, rules) in RULES {
        for (n, act) in actions.iter().enumerate() {
            // One other action in each case is enough; all pairs come up over the table.
            let default = actions[(n + 1 + name.len() % (actions.len() - 1)) % actions.len()];
            let x32 = n % 2 == 0;
            let machines = &[Machine::X86_64, Machine::I386][..1 + n % 3 % 2];
            let mut architectures = vec![r#""SCMP_ARCH_X86_64""#];
            architectures.extend(x32.then_some(r#""SCMP_ARCH_X32""#));
            architectures.extend((machines.len() == 2).then_some(r#""SCMP_ARCH_X86""#));
            let default = default.replace("errnoRet", "defaultErrnoRet");
            let json = format!(
                r#"{{"defaultAction":{default},"architectures":[{}],"syscalls":[{}]}}"#,
                architectures.join(","),
                rules.replace("\"action\":A", &format!("\"action\":{act}")),
            );
            let profile = load(&json, &plain(), "6.1").unwrap_or_else(|e| panic!("{name}: {e}: {json}"));
            let default_result = action(&profile.default_action, profile.default_errno_ret).unwrap();
            met.extend(agree(&Case {
                name: &format!("{name}: {act} else {default}"),
                ours: compile(&profile).unwrap().code,
                rules: machines.iter().map(|m| (*m, rules_for(*m, &profile, default_result))).collect(),
                x32,
                default: default_result,
            }));
        }
    }
    assert_eq!(met, DIFFERENCES.iter().map(|d| d.why).collect());
}

#[test]
fn profiles_at_random_agree_with_seccompilers() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % below as u64) as usize
    };
    let mut names: Vec<_> = Machine::X86_64.calls().into_iter().filter(|(_, n)| *n < 120).collect();
    names.sort_by_key(|(_, number)| *number);
    let actions = ["ALLOW", "ERRNO", "KILL_PROCESS", "TRAP"].map(|a| format!("SCMP_ACT_{a}"));
    let ops = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
    let values =
        [0, 1, 2, 3, 5, 0xffff_fffe, 0xffff_ffff, 1 << 32, 1 << 32 | 1, 5 << 32 | 3, u64::MAX - 1, u64::MAX];
    for round in 0..40 {
        // From few calls to nearly all of them, and from few rules with arguments to many.
        let (density, conditional) = (1 + random(20), random(20));
        let mut profile =
            LinuxSeccomp { default_action: actions[random(2)].clone(), ..LinuxSeccomp::default() };
        for (name, _) in &names {
            if random(20) > density {
                continue;
            }
            let action = actions[random(actions.len())].clone();
            let with = random(20) < conditional;
            for _ in 0..if with { 1 + random(4) } else { 1 } {
                let mut args = Vec::new();
                for index in (0..3).filter(|_| with) {
                    if random(2) == 0 || (index == 2 && args.is_empty()) {
                        let op = format!("SCMP_CMP_{}", ops[random(ops.len())]);
                        let (value, value_two) = (values[random(values.len())], values[random(values.len())]);
                        args.push(LinuxSeccompArg { index, value, value_two, op });
                    }
                }
                let names = vec![(*name).to_owned()];
                profile.syscalls.push(LinuxSyscall { names, action: action.clone(), errno_ret: None, args });
            }
        }
        let default = action(&profile.default_action, None).unwrap();
        agree(&Case {
            name: &format!("at random, {round}: {profile:?}"),
            ours: compile(&profile).unwrap().code,
            rules: vec![(Machine::X86_64, profile.syscalls.clone())],
            x32: false,
            default,
        });
    }
}
