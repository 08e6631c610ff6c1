//! Limits as cgroup v2 takes them. Pure: from resources to what is written where.

use coracle_sys::Result;

use super::limit::{self, Limit, no_file, number};
use super::weight;
use crate::spec::resources::{BlockIo, Cpu, LinuxResources, Memory};

/// Every limit that the resources ask for, in the order in which it is to be written.
pub(super) fn limits(r: &LinuxResources) -> Result<Vec<Limit>> {
    let mut out = Vec::new();
    if let Some(m) = &r.memory {
        memory(m, &mut out)?;
    }
    if let Some(c) = &r.cpu {
        cpu(c, &mut out);
    }
    if let Some(n) = r.pids.as_ref().and_then(|p| p.limit).filter(|n| *n != 0) {
        out.push(Limit::new("pids", "pids.max", number(n)));
    }
    if let Some(b) = &r.block_io {
        block_io(b, &mut out);
    }
    for h in &r.hugepage_limits {
        let value = h.limit.min(i64::MAX as u64).to_string();
        let size = &h.page_size;
        out.push(Limit::new("hugetlb", format!("hugetlb.{size}.max"), value.clone()));
        out.push(Limit::new("hugetlb", format!("hugetlb.{size}.rsvd.max"), value).optional());
    }
    if let Some(n) = &r.network {
        for (file, asked) in [
            ("net_cls.classid", n.class_id.is_some_and(|c| c != 0)),
            ("net_prio.ifpriomap", !n.priorities.is_empty()),
        ] {
            if asked {
                out.push(only_v1(file));
            }
        }
    }
    limit::rdma(&r.rdma, &mut out);
    for (file, value) in &r.unified {
        let controller = file.split('.').next().unwrap_or_default();
        if controller.is_empty() || controller == file {
            return Err(no_file(file));
        }
        for line in value.lines() {
            out.push(Limit::new(controller.to_owned(), file.clone(), line.to_owned()));
        }
    }
    Ok(out)
}

fn only_v1(file: &'static str) -> Limit {
    let controller = file.split('.').next().unwrap_or_default();
    Limit::new(controller, file, String::new()).impossible("cgroup v2 does not have it")
}

fn memory(m: &Memory, out: &mut Vec<Limit>) -> Result<()> {
    let swap = weight::swap_max(m.limit, m.swap)?;
    if let Some(limit) = m.limit.filter(|l| *l != 0) {
        out.push(Limit::new("memory", "memory.max", number(limit)));
    }
    if let Some(swap) = swap {
        let limit = Limit::new("memory", "memory.swap.max", number(swap));
        // Without swap accounting an unlimited amount is what there is.
        out.push(if swap < 0 { limit.optional() } else { limit });
    }
    if let Some(r) = m.reservation.filter(|r| *r != 0) {
        out.push(Limit::new("memory", "memory.low", number(r)));
    }
    if m.swappiness.is_some_and(|s| s != u64::MAX) {
        out.push(only_v1("memory.swappiness"));
    }
    if m.disable_oom_killer == Some(true) {
        out.push(only_v1("memory.oom_control"));
    }
    Ok(())
}

fn cpu(c: &Cpu, out: &mut Vec<Limit>) {
    if let Some(shares) = c.shares.filter(|s| *s != 0) {
        out.push(Limit::new("cpu", "cpu.weight", weight::cpu_weight(shares).to_string()));
    }
    let quota = c.quota.filter(|q| *q != 0);
    if quota.is_some() || c.period.is_some_and(|p| p != 0) {
        let quota = quota.filter(|q| *q > 0).map_or("max".into(), |q| q.to_string());
        let period = c.period.filter(|p| *p != 0).unwrap_or(100_000);
        out.push(Limit::new("cpu", "cpu.max", format!("{quota} {period}")));
    }
    if let Some(burst) = c.burst {
        out.push(Limit::new("cpu", "cpu.max.burst", burst.to_string()));
    }
    if let Some(idle) = c.idle {
        out.push(Limit::new("cpu", "cpu.idle", idle.to_string()));
    }
    if c.realtime_period.is_some_and(|p| p != 0) {
        out.push(only_v1("cpu.rt_period_us"));
    }
    if c.realtime_runtime.is_some_and(|r| r != 0) {
        out.push(only_v1("cpu.rt_runtime_us"));
    }
    for (file, list) in [("cpuset.cpus", &c.cpus), ("cpuset.mems", &c.mems)] {
        if let Some(list) = list.as_ref().filter(|l| !l.is_empty()) {
            out.push(Limit::new("cpuset", file, list.clone()));
        }
    }
}

fn block_io(b: &BlockIo, out: &mut Vec<Limit>) {
    // The kernel's bfq scheduler has a file of its own, which takes v1's numbers.
    let weigh = |device: &str, w: u16| {
        let converted = format!("{device}{}", weight::io_weight(w));
        Limit::new("io", "io.weight", converted).or("io.bfq.weight", format!("{device}{w}"))
    };
    if let Some(w) = b.weight.filter(|w| *w != 0) {
        out.push(weigh("", w));
    }
    for d in &b.weight_device {
        if let Some(w) = d.weight.filter(|w| *w != 0) {
            out.push(weigh(&format!("{}:{} ", d.major, d.minor), w));
        }
    }
    if b.leaf_weight.is_some_and(|w| w != 0)
        || b.weight_device.iter().any(|d| d.leaf_weight.is_some_and(|w| w != 0))
    {
        out.push(only_v1("blkio.leaf_weight"));
    }
    for (key, list) in [
        ("rbps", &b.throttle_read_bps_device),
        ("wbps", &b.throttle_write_bps_device),
        ("riops", &b.throttle_read_iops_device),
        ("wiops", &b.throttle_write_iops_device),
    ] {
        for t in list {
            let rate = if t.rate == 0 { "max".into() } else { t.rate.to_string() };
            out.push(Limit::new("io", "io.max", format!("{}:{} {key}={rate}", t.major, t.minor)));
        }
    }
}
