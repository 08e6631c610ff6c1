//! Sorting in one piece of code for all types: the standard library's brings 3 kB for each, and lists here are short.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::Result;

/// Sort. What is equal keeps its order.
pub fn sort<T: Ord>(items: &mut Vec<T>) {
    sort_by(items, T::cmp);
}

/// [`sort`], as `compare` has it.
pub fn sort_by<T>(items: &mut Vec<T>, compare: impl Fn(&T, &T) -> Ordering) {
    let order = order(items.len(), &|a, b| compare(&items[a], &items[b]));
    let mut places: Vec<Option<T>> = items.drain(..).map(Some).collect();
    items.extend(order.into_iter().filter_map(|n| places[n].take()));
}

/// A map of pairs, of which the last counts where a key stands twice. Collected, they would be sorted first.
pub fn map<V>(pairs: impl Iterator<Item = Result<(String, V)>>) -> Result<BTreeMap<String, V>> {
    let mut all = BTreeMap::new();
    for pair in pairs {
        let (key, value) = pair?;
        all.insert(key, value);
    }
    Ok(all)
}

/// A set or a map of what comes. Collected, that would be sorted first.
pub fn gather<T, C: Default + Extend<T>>(items: impl IntoIterator<Item = T>) -> C {
    let mut all = C::default();
    all.extend(items);
    all
}

/// Numbers from 0 on, in the order of what they stand for.
fn order(length: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    order.sort_unstable_by(|a, b| compare(*a, *b).then(a.cmp(b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_keeps_its_order() {
        let mut items: Vec<(u32, usize)> = (0..500).map(|n| ((n as u32 * 7919) % 13, n)).collect();
        let mut wanted = items.clone();
        wanted.sort_by_key(|item| item.0);
        sort_by(&mut items, |a, b| a.0.cmp(&b.0));
        assert_eq!(items, wanted);
        let mut none: Vec<u8> = Vec::new();
        sort(&mut none);
        assert!(none.is_empty());
    }
}
