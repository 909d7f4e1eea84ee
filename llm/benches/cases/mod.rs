//! What is measured of this crate, as gate and adapter call it.

mod bodies;
mod money;
mod scan;
mod stream;
mod translate;

use crate::case::Case;

pub(crate) fn all() -> Vec<Case> {
    [scan::cases(), stream::cases(), translate::cases(), money::cases()].into_iter().flatten().collect()
}
