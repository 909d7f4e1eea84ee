//! Which bytes to leave out so that some members of an object are gone and the rest is as it was.
//!
//! A member goes with the comma before it; where none is left before it, with all up to the member after it. So what
//! remains has its own spaces and exactly the commas it needs.

use std::ops::Range;

/// One object whose members may be cut.
#[derive(Debug, Default)]
struct Level {
    /// Quote of the key in progress.
    key: Option<usize>,
    /// End of the member before.
    last_end: usize,
    /// A member that stays was seen: there is something to hang a comma on.
    kept: bool,
    /// A member was cut.
    cut: bool,
    /// The last cut began the object: it goes on to the next member, if there is one.
    open: bool,
}

/// Cuts of the body and of its `metadata`.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    done: Vec<Range<usize>>,
    top: Level,
    metadata: Level,
    /// Cuts before those in `metadata`.
    mark: usize,
}

impl Cuts {
    fn level(&mut self, depth: usize) -> &mut Level {
        if depth == 1 { &mut self.top } else { &mut self.metadata }
    }

    /// A key begins at `start`, in the body's object (`depth` 1) or in `metadata` (2).
    pub(super) fn key(&mut self, depth: usize, start: usize) {
        let level = self.level(depth);
        level.key = Some(start);
        if std::mem::take(&mut level.open)
            && let Some(cut) = self.done.last_mut()
        {
            cut.end = start;
        }
    }

    /// A value of `metadata` begins.
    pub(super) fn enter_metadata(&mut self) {
        self.metadata = Level::default();
        self.mark = self.done.len();
    }

    /// A member ends before `end`. An array's element is none.
    pub(super) fn member(&mut self, depth: usize, cut: bool, end: usize) {
        let level = self.level(depth);
        let Some(key) = level.key.take() else { return };
        let last_end = std::mem::replace(&mut level.last_end, end);
        if !cut {
            level.kept = true;
            return;
        }
        level.cut = true;
        level.open = !level.kept;
        let start = if level.kept { last_end } else { key };
        match self.done.last_mut().filter(|before| before.end == start) {
            Some(before) => before.end = end,
            None => self.done.push(start..end),
        }
    }

    /// `metadata` itself ends: it goes too when everything in it does.
    pub(super) fn leave_metadata(&mut self, end: usize) {
        let emptied = self.metadata.cut && !self.metadata.kept;
        if emptied {
            self.done.truncate(self.mark);
        }
        self.member(1, emptied, end);
    }

    /// Is nothing left of the body's object?
    pub(super) fn all_cut(&self) -> bool {
        !self.top.kept
    }

    pub(super) fn finish(&mut self) -> Vec<Range<usize>> {
        std::mem::take(&mut self.done)
    }
}
