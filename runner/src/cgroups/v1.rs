//! Limits as cgroup v1 takes them. Pure: from resources to what is written where.

use coracle_sys::{Error, Result};

use super::layout::Layout;
use super::limit::{self, Limit, number};
use crate::spec::resources::{BlockIo, Cpu, LinuxResources, Memory};

/// Every limit that the resources ask for, in the order in which it is to be written.
pub(super) fn limits(r: &LinuxResources, layout: &Layout) -> Result<Vec<Limit>> {
    let mut out = Vec::new();
    let has = |controller: &str, file: &str| {
        layout.v1_of(controller).is_some_and(|h| h.files.iter().any(|f| f == file))
    };
    if let Some(m) = &r.memory {
        memory(m, has("memory", "memory.memsw.limit_in_bytes"), &mut out)?;
    }
    if let Some(c) = &r.cpu {
        cpu(c, &mut out);
    }
    if let Some(n) = r.pids.as_ref().and_then(|p| p.limit).filter(|n| *n != 0) {
        out.push(Limit::new("pids", "pids.max", number(n)));
    }
    if let Some(b) = &r.block_io {
        let file = match has("blkio", "blkio.bfq.weight") && !has("blkio", "blkio.weight") {
            true => "blkio.bfq.weight",
            false => "blkio.weight",
        };
        let start = out.len();
        block_io(b, file, &mut out);
        if layout.v1_of("blkio").is_some() && !has("blkio", file) {
            for limit in out[start..].iter_mut().filter(|l| l.file.contains("weight")) {
                *limit =
                    limit.clone().impossible("the kernel weighs block devices only under its bfq scheduler");
            }
        }
    }
    for h in &r.hugepage_limits {
        let value = h.limit.min(i64::MAX as u64).to_string();
        let size = &h.page_size;
        out.push(Limit::new("hugetlb", format!("hugetlb.{size}.limit_in_bytes"), value.clone()));
        out.push(Limit::new("hugetlb", format!("hugetlb.{size}.rsvd.limit_in_bytes"), value).optional());
    }
    if let Some(n) = &r.network {
        if let Some(class) = n.class_id.filter(|c| *c != 0) {
            out.push(Limit::new("net_cls", "net_cls.classid", class.to_string()));
        }
        for p in &n.priorities {
            out.push(Limit::new("net_prio", "net_prio.ifpriomap", format!("{} {}", p.name, p.priority)));
        }
    }
    limit::rdma(&r.rdma, &mut out);
    for file in r.unified.keys() {
        out.push(
            Limit::new("unified", file.clone(), String::new())
                .impossible("it is a file of cgroup v2, and this host has v1"),
        );
    }
    Ok(out)
}

fn memory(m: &Memory, swap_accounted: bool, out: &mut Vec<Limit>) -> Result<()> {
    let swap = match (m.limit, m.swap) {
        // Unlimited memory with the old limit of memory and swap together would still be limited.
        (Some(-1), None | Some(0)) if swap_accounted => Some(-1),
        (_, swap) => swap.filter(|s| *s != 0),
    };
    if let (Some(limit), Some(swap)) = (m.limit, swap)
        && swap > 0
        && limit > swap
    {
        return Err(Error::invalid(
            "memory.swap counts memory and swap together: it cannot be below memory.limit",
        ));
    }
    if let Some(limit) = m.limit.filter(|l| *l != 0) {
        out.push(Limit::new("memory", "memory.limit_in_bytes", limit.to_string()));
    }
    if let Some(swap) = swap {
        let limit = Limit::new("memory", "memory.memsw.limit_in_bytes", swap.to_string());
        out.push(match swap_accounted {
            true => limit,
            false => limit.impossible("the kernel does not account swap (boot it with swapaccount=1)"),
        });
    }
    if let Some(r) = m.reservation.filter(|r| *r != 0) {
        out.push(Limit::new("memory", "memory.soft_limit_in_bytes", r.to_string()));
    }
    if let Some(s) = m.swappiness.filter(|s| *s != u64::MAX) {
        if s > 100 {
            return Err(Error::invalid(format!("memory.swappiness: {s} is not within 0 and 100")));
        }
        out.push(Limit::new("memory", "memory.swappiness", s.to_string()));
    }
    if m.disable_oom_killer == Some(true) {
        out.push(Limit::new("memory", "memory.oom_control", "1".into()));
    }
    Ok(())
}

fn cpu(c: &Cpu, out: &mut Vec<Limit>) {
    let mut push = |controller: &'static str, file: &'static str, value: String| {
        out.push(Limit::new(controller, file, value))
    };
    if let Some(shares) = c.shares.filter(|s| *s != 0) {
        push("cpu", "cpu.shares", shares.to_string());
    }
    if let Some(period) = c.period.filter(|p| *p != 0) {
        push("cpu", "cpu.cfs_period_us", period.to_string());
    }
    if let Some(quota) = c.quota.filter(|q| *q != 0) {
        push("cpu", "cpu.cfs_quota_us", quota.to_string());
    }
    if let Some(burst) = c.burst {
        push("cpu", "cpu.cfs_burst_us", burst.to_string());
    }
    if let Some(period) = c.realtime_period.filter(|p| *p != 0) {
        push("cpu", "cpu.rt_period_us", period.to_string());
    }
    if let Some(runtime) = c.realtime_runtime.filter(|r| *r != 0) {
        push("cpu", "cpu.rt_runtime_us", runtime.to_string());
    }
    if let Some(idle) = c.idle {
        push("cpu", "cpu.idle", idle.to_string());
    }
    for (file, list) in [("cpuset.cpus", &c.cpus), ("cpuset.mems", &c.mems)] {
        if let Some(list) = list.as_ref().filter(|l| !l.is_empty()) {
            push("cpuset", file, list.clone());
        }
    }
}

fn block_io(b: &BlockIo, weight_file: &str, out: &mut Vec<Limit>) {
    if let Some(w) = b.weight.filter(|w| *w != 0) {
        out.push(Limit::new("blkio", weight_file, w.to_string()));
    }
    if let Some(w) = b.leaf_weight.filter(|w| *w != 0) {
        out.push(Limit::new("blkio", "blkio.leaf_weight", w.to_string()));
    }
    for d in &b.weight_device {
        let device = format!("{}:{}", d.major, d.minor);
        if let Some(w) = d.weight.filter(|w| *w != 0) {
            out.push(Limit::new("blkio", format!("{weight_file}_device"), format!("{device} {w}")));
        }
        if let Some(w) = d.leaf_weight.filter(|w| *w != 0) {
            out.push(Limit::new("blkio", "blkio.leaf_weight_device", format!("{device} {w}")));
        }
    }
    for (file, list) in [
        ("blkio.throttle.read_bps_device", &b.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &b.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &b.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &b.throttle_write_iops_device),
    ] {
        for t in list {
            out.push(Limit::new("blkio", file, format!("{}:{} {}", t.major, t.minor, t.rate)));
        }
    }
}
