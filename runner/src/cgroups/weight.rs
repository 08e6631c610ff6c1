//! The numbers of v1 and v2 for the same thing, converted as runc and crun do. Pure arithmetic.

use coracle_sys::{Error, Result};

/// CPU shares (2 to 262144, 1024 by default) as a weight of v2 (1 to 10000, 100 by default): the
/// quadratic curve on logarithms that runc 1.4 and crun 1.24 use, through the least, the default
/// and the greatest of both.
pub(super) fn cpu_weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = log2(shares);
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // 10 to that, rounded up: the least number whose logarithm is not below it. What is lost in the
            // arithmetic must not count as more, for the default is met exactly.
            let wanted = exponent * std::f64::consts::LOG2_10 - 1e-10;
            let (mut least, mut most) = (1, 10_000);
            while least < most {
                let middle = (least + most) / 2;
                if log2(middle) < wanted {
                    least = middle + 1;
                } else {
                    most = middle;
                }
            }
            least
        }
    }
}

/// The logarithm of a number above 0, bit after bit: that of the C library, and its power, bring tables of 10 kB.
fn log2(n: u64) -> f64 {
    let whole = n.ilog2();
    let mut rest = n as f64 / (1_u64 << whole) as f64;
    let (mut log, mut bit) = (f64::from(whole), 0.5);
    for _ in 0..50 {
        rest *= rest;
        if rest >= 2.0 {
            rest /= 2.0;
            log += bit;
        }
        bit /= 2.0;
    }
    log
}

/// A weight of v1's blkio (10 to 1000) as one of v2's `io.weight` (1 to 10000).
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

/// The limit of swap alone, as v2 has it, from that of memory and swap together.
pub(super) fn swap_max(limit: Option<i64>, swap: Option<i64>) -> Result<Option<i64>> {
    match (limit.unwrap_or(0), swap.unwrap_or(0)) {
        (-1, 0) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (_, -1) => Ok(Some(-1)),
        (0 | -1, _) => Err(Error::invalid("memory.swap needs a memory.limit beside it")),
        (limit, swap) if limit < 0 || swap < 0 => {
            Err(Error::invalid("memory.limit or memory.swap is negative"))
        }
        (limit, swap) if swap < limit => Err(Error::invalid(
            "memory.swap counts memory and swap together: it cannot be below memory.limit",
        )),
        (limit, swap) => Ok(Some(swap - limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_keep_their_least_default_and_greatest() {
        for (shares, weight) in
            [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000), (512, 59), (2048, 174)]
        {
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        for shares in (3..5000).chain((5000..262_144).step_by(61)) {
            let l = (shares as f64).log2();
            let weight = 10_f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64;
            assert_eq!(cpu_weight(shares), weight, "{shares}");
        }
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }

    #[test]
    fn swap_is_what_is_left_of_the_sum() {
        assert_eq!(swap_max(Some(32), Some(64)).unwrap(), Some(32));
        assert_eq!(swap_max(Some(32), Some(32)).unwrap(), Some(0));
        assert_eq!(swap_max(Some(32), Some(-1)).unwrap(), Some(-1));
        assert_eq!(swap_max(Some(32), None).unwrap(), None);
        assert!(swap_max(Some(32), Some(16)).is_err() && swap_max(None, Some(16)).is_err());
    }
}
