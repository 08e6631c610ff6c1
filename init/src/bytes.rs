//! Bytes put in the place of others, without a call that could panic.

/// Copy bytes, as many as there is room for.
#[inline(never)]
pub(crate) fn copy(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
