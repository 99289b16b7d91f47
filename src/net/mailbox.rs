//! What waits for the loop of a replica, by kind: none of it takes the room of another, and of what
//! only the newest counts only the newest is kept. So nobody can fill it with what they send.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::dropped::{Dropped, count};
use crate::sync::{Event, ReplicaId, Token};

/// Replicas of which the token, and of which the announcement waits, at the most: more than are
/// remembered.
const MAX_REPLICAS: usize = 4096;

#[derive(Default)]
struct Waiting {
    /// The answer to the one question that is asked at a time, or to one before.
    answer: Option<(u64, Result<Vec<u8>, String>)>,
    /// Whether all tokens are to be looked at anew.
    are_tokens_missed: bool,
    /// The tokens that came or went last, and whether they are there.
    tokens: BTreeMap<ReplicaId, (Token, bool)>,
    /// The newest announcements.
    announced: BTreeMap<ReplicaId, Vec<u8>>,
    /// Whose announcement was taken last: the others come first.
    last: Option<ReplicaId>,
}

impl Waiting {
    /// Of the tokens those that are there come first: who announces a root is to be known.
    fn next(&mut self) -> Option<Event> {
        if let Some((request, answer)) = self.answer.take() {
            return Some(Event::Answer(request, answer));
        }
        if let Some((_, (token, is_there))) = self.tokens.pop_first() {
            return Some(match is_there {
                true => Event::Appeared(token),
                false => Event::Gone(token),
            });
        }
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.last.map_or(Unbounded, Excluded);
        let mut others = self.announced.range((after, Unbounded));
        let next = others.next().or_else(|| self.announced.iter().next());
        let next = next.map(|(replica, _)| *replica)?;
        self.last = Some(next);
        let bytes = self.announced.remove(&next)?;
        Some(Event::Announced(next, bytes))
    }
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
    dropped: Arc<Dropped>,
}

impl Mailbox {
    /// One that counts there what it has no room for.
    pub(super) fn new(dropped: Arc<Dropped>) -> Self {
        Self {
            dropped,
            ..Self::default()
        }
    }

    fn count_dropped(&self) {
        let dropped = count(&self.dropped.events);
        if dropped.is_power_of_two() {
            tracing::warn!("{dropped} replication events were dropped, as too many came at a time");
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token came or went.
    pub(super) fn token(&self, token: Token, is_there: bool) {
        let mut waiting = self.waiting();
        let has_room = waiting.tokens.len() < MAX_REPLICAS;
        if has_room || waiting.tokens.contains_key(&token.replica) {
            waiting.tokens.insert(token.replica, (token, is_there));
        } else {
            self.count_dropped();
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// A replica announced its root.
    pub(super) fn announced(&self, replica: ReplicaId, bytes: Vec<u8>) {
        let mut waiting = self.waiting();
        let has_room = waiting.announced.len() < MAX_REPLICAS;
        if has_room || waiting.announced.contains_key(&replica) {
            waiting.announced.insert(replica, bytes);
        } else {
            self.count_dropped();
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// A question was answered, or there is no answer.
    pub(super) fn answered(&self, request: u64, answer: Result<Vec<u8>, String>) {
        let mut waiting = self.waiting();
        let known = waiting.answer.as_ref().map(|(known, _)| *known);
        if known < Some(request) {
            waiting.answer = Some((request, answer));
        }
        drop(waiting);
        self.filled.notify_one();
    }

    /// All tokens are to be looked at anew.
    pub(super) fn miss_tokens(&self) {
        self.waiting().are_tokens_missed = true;
    }

    /// Whether they are, which is asked once.
    pub(super) fn has_missed_tokens(&self) -> bool {
        std::mem::take(&mut self.waiting().are_tokens_missed)
    }

    /// What was seen of tokens does not count any more: they are looked at anew.
    pub(super) fn forget_tokens(&self) {
        self.waiting().tokens.clear();
    }

    /// What others said before this replica was declared anew does not count any more; an answer to
    /// it does.
    pub(super) fn declared(&self) {
        let mut waiting = self.waiting();
        waiting.tokens.clear();
        waiting.announced.clear();
        waiting.are_tokens_missed = false;
    }

    /// The next event, if one waits.
    pub(super) fn try_take(&self) -> Option<Event> {
        self.waiting().next()
    }

    /// The next event. What is not awaited to its end takes nothing.
    pub(super) async fn take(&self) -> Event {
        loop {
            if let Some(event) = self.try_take() {
                return event;
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Group, PROTOCOL};

    fn id(number: u32) -> ReplicaId {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        ReplicaId(id)
    }

    fn token(number: u32) -> Token {
        Token {
            protocol: PROTOCOL,
            group: Group {
                key_expr: "demo/**".to_owned(),
                strip_prefix: None,
            },
            replica: id(number),
        }
    }

    /// What waits, in a few words.
    fn all(mailbox: &Mailbox) -> Vec<String> {
        let events = std::iter::from_fn(|| mailbox.try_take());
        let told = events.map(|event| match event {
            Event::Answer(request, answer) => format!("answer {request} {answer:?}"),
            Event::Appeared(token) => format!("there {}", token.replica.0[3]),
            Event::Gone(token) => format!("gone {}", token.replica.0[3]),
            Event::Announced(replica, bytes) => format!("announced {} {bytes:?}", replica.0[3]),
            other => format!("{other:?}"),
        });
        told.collect()
    }

    #[test]
    fn the_newest_of_each_is_kept_and_an_answer_comes_first() {
        let mailbox = Mailbox::default();
        for byte in 0..3 {
            mailbox.announced(id(1), vec![byte]);
            mailbox.announced(id(2), vec![byte + 10]);
        }
        mailbox.token(token(1), true);
        mailbox.token(token(2), true);
        mailbox.token(token(2), false);
        mailbox.answered(7, Ok(vec![1]));
        mailbox.answered(6, Ok(vec![2]));
        let expected = [
            "answer 7 Ok([1])",
            "there 1",
            "gone 2",
            "announced 1 [2]",
            "announced 2 [12]",
        ];
        assert_eq!(all(&mailbox), expected);
    }

    #[test]
    fn who_announces_all_the_time_does_not_keep_others_waiting() {
        let mailbox = Mailbox::default();
        mailbox.announced(id(2), vec![2]);
        for byte in 0..5 {
            mailbox.announced(id(1), vec![byte]);
            let taken = mailbox.try_take();
            let is_other = matches!(taken, Some(Event::Announced(replica, _)) if replica == id(2));
            assert_eq!(is_other, byte == 1);
        }
    }

    #[test]
    fn a_flood_takes_no_more_than_its_own_room() {
        let mailbox = Mailbox::default();
        for number in 0..2 * MAX_REPLICAS as u32 {
            mailbox.token(token(number), true);
            mailbox.announced(id(number), vec![0]);
        }
        mailbox.answered(1, Err("none".to_owned()));
        assert_eq!(mailbox.dropped.counts(), [2 * MAX_REPLICAS as u64, 0, 0, 0]);
        assert_eq!(all(&mailbox).len(), 2 * MAX_REPLICAS + 1);
    }

    #[test]
    fn an_answer_outlives_a_declaration() {
        let mailbox = Mailbox::default();
        mailbox.token(token(1), true);
        mailbox.announced(id(1), vec![1]);
        mailbox.answered(3, Ok(vec![3]));
        mailbox.miss_tokens();
        mailbox.declared();
        assert!(!mailbox.has_missed_tokens());
        assert_eq!(all(&mailbox), ["answer 3 Ok([3])"]);
    }
}
