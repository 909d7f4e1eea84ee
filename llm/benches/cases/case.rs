//! One thing to measure, the same for criterion (time) and for valgrind (instructions).

use std::hint::black_box;

/// What a step goes through, so that a table can say what one of it costs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    /// Events of a stream, records of a batch.
    pub(crate) each: usize,
    /// 0 where they do not matter.
    pub(crate) bytes: usize,
}

impl Size {
    pub(crate) const ONE: Self = Self { each: 1, bytes: 0 };
}

/// A step that is measured, over and over.
pub(crate) struct Case {
    /// `group/what`.
    pub(crate) name: &'static str,
    pub(crate) size: Size,
    pub(crate) step: Box<dyn FnMut()>,
    /// Work before each step, outside of the measurement.
    pub(crate) between: Option<Box<dyn FnMut()>>,
}

impl Case {
    /// Runs the step once and has `check` look at what it gives: what does not work is not measured.
    pub(crate) fn new<T>(
        name: &'static str,
        size: Size,
        step: impl FnMut() -> T + 'static,
        check: impl FnOnce(&T),
    ) -> Self {
        Self::made(name, size, None, step, check)
    }

    /// As [`Self::new`], with work before each step.
    pub(crate) fn made<T>(
        name: &'static str,
        size: Size,
        mut between: Option<Box<dyn FnMut()>>,
        mut step: impl FnMut() -> T + 'static,
        check: impl FnOnce(&T),
    ) -> Self {
        if let Some(between) = &mut between {
            between();
        }
        check(&step());
        // The result must be made, and is dropped within the measurement: the gateway drops it, too.
        Self { name, size, step: Box::new(move || drop(black_box(step()))), between }
    }
}
