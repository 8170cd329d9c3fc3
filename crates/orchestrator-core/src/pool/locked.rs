//! The pool's lock, as it is held.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;

use super::job::{LoadableImage, Task};
use super::state::State;

/// The pool's state, locked. What jobs brought that were refused meanwhile is dropped when it is locked no more: to give
/// back many large inputs takes milliseconds, in which nothing could be started for anybody.
pub(super) struct Locked<'a> {
    // Fields are dropped in this order: this one unlocks.
    state: MutexGuard<'a, State>,
    refused: Vec<(Task, LoadableImage)>,
}

impl<'a> Locked<'a> {
    pub(super) const fn new(state: MutexGuard<'a, State>) -> Self {
        Self { state, refused: Vec::new() }
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let Self { state, refused } = self;
        mem::swap(refused, &mut state.refused);
    }
}
