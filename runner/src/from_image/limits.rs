//! Flags that limit what a container uses, and the devices it may use. Pure.

use std::path::Path;

use coracle_sys::{Error, Result, quantity};

use super::flags::Flags;
use super::{devices, units};
use crate::spec::Device;
use crate::spec::resources::{BlockIo, Cpu, DeviceRule, LinuxResources, Memory, Pids, ThrottleDevice};

/// `linux.resources`, where a flag asks for any or the container could make device nodes.
/// `swap_counted`: the kernel can limit swap, so that it is limited unasked, as docker does. `processors`: how many there
/// are.
pub(super) fn resources(
    flags: &Flags,
    devices: &[Device],
    user_namespace: bool,
    swap_counted: bool,
    processors: usize,
) -> Result<Option<LinuxResources>> {
    let resources = LinuxResources {
        // In a user namespace the kernel lets nobody make device nodes.
        devices: match user_namespace {
            true => devices::without_rules(flags)?,
            false => device_rules(flags, devices)?,
        },
        memory: some(memory(flags, swap_counted)?),
        cpu: some(cpu(flags, processors)?),
        pids: flags.pids_limit.filter(|n| *n != 0).map(|n| Pids { limit: Some(n) }),
        block_io: some(block_io(flags)?),
        ..LinuxResources::default()
    };
    Ok(some(resources))
}

fn some<T: Default + PartialEq>(value: T) -> Option<T> {
    (value != T::default()).then_some(value)
}

/// Bytes; -1 is no limit.
fn bytes(text: &str, flag: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    i64::try_from(quantity::size(text, flag)?)
        .map_err(|_| Error::usage(format!("{flag} {text:?}: too large")))
}

fn memory(flags: &Flags, swap_counted: bool) -> Result<Memory> {
    let read = |text: &Option<String>, flag| text.as_deref().map(|t| bytes(t, flag)).transpose();
    let limit = read(&flags.memory, "--memory")?.filter(|n| *n != 0);
    if limit.is_some_and(|n| (1..6 << 20).contains(&n)) {
        return Err(Error::usage("--memory: at least 6m are needed"));
    }
    let reservation = read(&flags.memory_reservation, "--memory-reservation")?.filter(|n| *n != 0);
    if reservation.is_some_and(|n| (1..6 << 20).contains(&n)) {
        return Err(Error::usage("--memory-reservation: at least 6m are needed"));
    }
    if let (Some(limit @ 1..), Some(reservation)) = (limit, reservation)
        && limit < reservation
    {
        return Err(Error::usage("--memory-reservation cannot be above --memory"));
    }
    let swap = match (read(&flags.memory_swap, "--memory-swap")?.filter(|n| *n != 0), limit) {
        (Some(_), None) => return Err(Error::usage("--memory-swap needs --memory beside it")),
        (Some(swap), Some(limit)) if swap != -1 && swap < limit => {
            return Err(Error::usage(
                "--memory-swap counts memory and swap together: it cannot be below --memory",
            ));
        }
        // What is not trusted gets no more by writing it out.
        (None, Some(limit)) if swap_counted && limit > 0 && flags.untrusted => Some(limit),
        (None, Some(limit)) if swap_counted && limit > 0 => limit.checked_mul(2),
        (swap, _) => swap,
    };
    Ok(Memory {
        limit,
        swap,
        reservation,
        swappiness: flags.memory_swappiness.and_then(|n| u64::try_from(n).ok()),
        disable_oom_killer: flags.oom_kill_disable.then_some(true),
        ..Memory::default()
    })
}

fn cpu(flags: &Flags, processors: usize) -> Result<Cpu> {
    let (mut period, mut quota) = (flags.cpu_period, flags.cpu_quota);
    if let Some(cpus) = &flags.cpus {
        if period.is_some() || quota.is_some() {
            return Err(Error::usage("--cpus sets --cpu-period and --cpu-quota: say one or the others"));
        }
        let processors = if flags.best_effort { usize::MAX } else { processors };
        if let Some(millionths) = units::cpus(cpus, processors)? {
            (period, quota) = (Some(100_000), Some((millionths / 10) as i64));
        }
    }
    Ok(Cpu {
        shares: flags.cpu_shares.filter(|n| *n != 0),
        quota,
        period,
        cpus: flags.cpuset_cpus.clone(),
        mems: flags.cpuset_mems.clone(),
        ..Cpu::default()
    })
}

/// What every container may use is allowed without being named here.
fn device_rules(flags: &Flags, devices: &[Device]) -> Result<Vec<DeviceRule>> {
    let all = flags.privileged;
    let mut rules = vec![DeviceRule { allow: all, access: Some("rwm".to_owned()), ..DeviceRule::default() }];
    let named = devices.iter().filter(|d| d.major.is_some() && !all);
    rules.extend(named.map(|d| DeviceRule {
        allow: true,
        kind: Some(d.kind.clone()),
        major: d.major,
        minor: d.minor,
        access: Some(devices::access(flags, d)),
    }));
    rules.extend(devices::rules(flags)?);
    Ok(rules)
}

/// `--device-read-bps /dev/sda:1mb` and its like: a device, and how much a second.
fn throttles(texts: &[String], flag: &str) -> Result<Vec<ThrottleDevice>> {
    let read = |text: &String| {
        let (device, rate) = text
            .rsplit_once(':')
            .ok_or_else(|| Error::usage(format!("{flag} {text:?}: it is /DEVICE:RATE")))?;
        let rate = match flag.ends_with("iops") {
            true => rate
                .parse()
                .map_err(|_| Error::usage(format!("{flag} {text:?}: it is a whole number a second")))?,
            false => quantity::size(rate, flag)?,
        };
        let (major, minor) = devices::block(Path::new(device), flag)?;
        Ok(ThrottleDevice { major, minor, rate })
    };
    texts.iter().map(read).collect()
}

fn block_io(flags: &Flags) -> Result<BlockIo> {
    Ok(BlockIo {
        weight: flags.blkio_weight,
        throttle_read_bps_device: throttles(&flags.device_read_bps, "--device-read-bps")?,
        throttle_write_bps_device: throttles(&flags.device_write_bps, "--device-write-bps")?,
        throttle_read_iops_device: throttles(&flags.device_read_iops, "--device-read-iops")?,
        throttle_write_iops_device: throttles(&flags.device_write_iops, "--device-write-iops")?,
        ..BlockIo::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_become_docker_s_numbers() {
        let flags = Flags {
            memory: Some("32m".into()),
            cpus: Some("1.5".into()),
            pids_limit: Some(10),
            ..Flags::default()
        };
        let r = resources(&flags, &[], true, true, 2).unwrap().unwrap();
        let memory = r.memory.unwrap();
        assert_eq!((memory.limit, memory.swap), (Some(32 << 20), Some(64 << 20)));
        let cpu = r.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(150_000), Some(100_000)));
        assert_eq!(r.pids.unwrap().limit, Some(10));
        let more = Flags { cpus: Some("500".into()), best_effort: true, ..Flags::default() };
        let cpu = resources(&more, &[], true, true, 2).unwrap().unwrap().cpu.unwrap();
        assert_eq!(cpu.quota, Some(50_000_000));
        let none = Flags { cpus: Some("0".into()), ..Flags::default() };
        assert_eq!(resources(&none, &[], true, true, 2).unwrap(), None);
        assert_eq!(resources(&Flags::default(), &[], true, true, 2).unwrap(), None);
    }

    #[test]
    fn limits_that_make_no_sense_are_refused_by_name() {
        for (flags, word) in [
            (Flags { memory: Some("1m".into()), ..Flags::default() }, "--memory"),
            (Flags { memory_swap: Some("64m".into()), ..Flags::default() }, "--memory-swap"),
            (
                Flags { memory: Some("32m".into()), memory_swap: Some("16m".into()), ..Flags::default() },
                "--memory-swap",
            ),
            (Flags { cpus: Some("NaN".into()), ..Flags::default() }, "--cpus"),
            (
                Flags { cpus: Some("2.01".into()), ..Flags::default() },
                "from 0.01 to 2.00, as there are only 2",
            ),
            (Flags { cpus: Some("0.001".into()), ..Flags::default() }, "at least 0.01"),
            (Flags { memory_reservation: Some("1k".into()), ..Flags::default() }, "--memory-reservation"),
            (
                Flags {
                    memory: Some("32m".into()),
                    memory_reservation: Some("33m".into()),
                    ..Flags::default()
                },
                "--memory-reservation",
            ),
            (Flags { cpus: Some("1".into()), cpu_quota: Some(1), ..Flags::default() }, "--cpus"),
        ] {
            let e = resources(&flags, &[], true, true, 2).unwrap_err().to_string();
            assert!(e.contains(word), "{e}");
        }
    }
}
