//! Requests that wait no longer, and what each of them is told: a few in one callback, the rest in the next.
//!
//! Envoy lets go on (or answers) what a callback resumes when a callback ends, and that may be the next request's callback
//! within the work on this one: of requests that are resumed at once, each stands on the stack of the one before. V8 gives a VM
//! one megabyte of stack. Three hundred refusals at once overflowed it, which costs the VM with all it knows.

use std::collections::VecDeque;
use std::rc::Rc;

use attache_llm::contract::Decided;

use crate::intake::Looked;
use crate::questions::Waiter;

/// Requests that may be resumed in one callback: some 100 KB of stack.
pub const AT_ONCE: usize = 16;

/// One of them.
#[derive(Debug)]
pub enum Due {
    /// What became of the lookup of its key.
    Key { context: u32, looked: Rc<Looked> },
    /// The decision, or the status that tells that there is none.
    Decision { waiter: Waiter, answer: Result<Decided, u16> },
}

/// Those of one worker, in order. Each was bounded where it waited.
#[derive(Debug, Default)]
pub struct Dues(VecDeque<Due>);

impl Dues {
    /// Their keys were looked up, or that failed.
    pub fn looked_up(&mut self, contexts: Vec<u32>, looked: Looked) {
        let looked = Rc::new(looked);
        self.0.extend(contexts.into_iter().map(|context| Due::Key { context, looked: Rc::clone(&looked) }));
    }

    /// They were decided, in the order of `waiters`. Another number of answers cannot be matched: 503 for all.
    pub fn decided(&mut self, waiters: Vec<Waiter>, answer: Result<Vec<Decided>, u16>) {
        let answers = match answer {
            Ok(decided) if decided.len() == waiters.len() => decided.into_iter().map(Ok).collect(),
            Ok(_) => vec![Err(503); waiters.len()],
            Err(status) => vec![Err(status); waiters.len()],
        };
        let both = waiters.into_iter().zip(answers);
        self.0.extend(both.map(|(waiter, answer)| Due::Decision { waiter, answer }));
    }

    /// The one that waited longest.
    pub fn take(&mut self) -> Option<Due> {
        self.0.pop_front()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiters(count: u32) -> Vec<Waiter> {
        (0..count).map(|context| Waiter { context, call_id: format!("call-{context}") }).collect()
    }

    fn told(dues: &mut Dues) -> Vec<String> {
        std::iter::from_fn(|| dues.take())
            .map(|due| match due {
                Due::Key { context, looked } => format!("{context} {looked:?}"),
                Due::Decision { waiter, answer } => format!("{} {answer:?}", waiter.context),
            })
            .collect()
    }

    #[test]
    fn they_are_told_in_order_and_once() {
        let mut dues = Dues::default();
        dues.decided(waiters(2), Ok(vec![Decided::Late, Decided::Refuse(Default::default())]));
        dues.looked_up(vec![7, 8], Looked::Nobody);
        assert!(!dues.is_empty());
        let told = told(&mut dues);
        assert_eq!(told[0], "0 Ok(Late)");
        assert!(told[1].starts_with("1 Ok(Refuse("), "{told:?}");
        assert_eq!(told[2..], ["7 Nobody", "8 Nobody"]);
        assert!(dues.is_empty() && dues.take().is_none());
    }

    #[test]
    fn answers_that_cannot_be_matched_refuse_all() {
        for (answer, status) in
            [(Ok(vec![Decided::Late]), 503), (Ok(vec![Decided::Late; 3]), 503), (Err(504), 504)]
        {
            let mut dues = Dues::default();
            dues.decided(waiters(2), answer);
            assert_eq!(told(&mut dues), [format!("0 Err({status})"), format!("1 Err({status})")]);
        }
    }
}
