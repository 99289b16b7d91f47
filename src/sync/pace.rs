//! The pace of pulls from one peer: how large messages are, and whether they wait for clients.
//!
//! A link may be slow, and busy with what clients write. Zenoh drops an answer that does not get
//! into the queue of the link soon; were it not to be dropped, Zenoh would close the transport in the
//! end. So the first messages fit in one batch of Zenoh's. As in TCP they double while answers are
//! quick, grow little by little beyond half of the size at which one was lost, and are halved by a
//! loss. On a link that clients keep full an answer waits for what is queued before it, however
//! short it is: there one waits longer instead, and asks for more at a time. Two answers of different sizes
//! tell the one from the other: what waits for others takes as long when it is shorter. The pace is the
//! link's: it outlives pulls, and a peer that disappears and comes back has the one that it had.

use std::time::Duration;

use super::MESSAGE_BYTES;

/// The first messages: with what Zenoh adds, one batch.
const FIRST_MESSAGE: usize = 48 << 10;

/// The longest messages among those of clients: on a link where each waits for seconds. An answer is cut
/// into batches then, and clients' messages come between them.
const MOST_AMONG_CLIENTS: usize = 8 * FIRST_MESSAGE;

/// The smallest messages, over a link that is too slow for larger ones.
const MIN_MESSAGE: usize = 4 << 10;

/// What is added to the size of messages where one of twice that was lost.
const STEP: usize = 16 << 10;

/// An answer that comes within this time may be larger; one that takes longer than this is to be
/// smaller.
const QUICK: Duration = Duration::from_millis(500);
const SLOW: Duration = Duration::from_secs(2);

/// How long an answer is waited for as long as there was none.
const FIRST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer is waited for, where they come soon.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The same at the most, on a link where answers take long.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether a query and its answer go before or after what clients write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precedence {
    /// Only where clients leave room: a repair does not get in the way of what is being written.
    AfterClients,
    /// As one of them, since what went after them did not get through.
    AmongClients,
}

/// How a query is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Of the query and its answer.
    pub precedence: Precedence,
    /// How long to wait for the answer.
    pub timeout: Duration,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    message_bytes: usize,
    /// Up to here messages double.
    threshold: usize,
    terms: Terms,
    /// The last slow answer that was as long as asked for, and how long it took.
    slow: Option<(usize, Duration)>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            message_bytes: FIRST_MESSAGE,
            threshold: MESSAGE_BYTES,
            terms: Terms {
                precedence: Precedence::AfterClients,
                timeout: FIRST_TIMEOUT,
            },
            slow: None,
        }
    }
}

impl Pace {
    /// About the size of the next query, and of its answer.
    pub(super) fn message_bytes(&self) -> usize {
        match self.terms.precedence {
            Precedence::AfterClients => self.message_bytes,
            Precedence::AmongClients => self.message_bytes.min(MOST_AMONG_CLIENTS),
        }
    }

    /// How the next query is to be sent.
    pub(super) fn terms(&self) -> Terms {
        self.terms
    }

    /// An answer of so many bytes came, so long after it was asked for.
    pub(super) fn answered(&mut self, bytes: usize, took: Duration) {
        self.terms.timeout = (took * 4).clamp(REQUEST_TIMEOUT, MAX_TIMEOUT);
        // What is not full says nothing of larger ones.
        let is_full = bytes >= self.message_bytes() / 2;
        let before = self.slow.take();
        if took < QUICK {
            self.terms.precedence = Precedence::AfterClients;
            if is_full {
                let doubled = (self.message_bytes * 2).min(self.threshold);
                let next = doubled.max(self.message_bytes + STEP);
                self.message_bytes = next.min(MESSAGE_BYTES);
            }
        } else if self.terms.precedence == Precedence::AmongClients {
            // It waited for what clients had queued, and would have, were it shorter.
            if is_full {
                self.message_bytes = (self.message_bytes * 2).min(MOST_AMONG_CLIENTS);
            }
        } else if took >= SLOW {
            let this = Some((bytes, took)).filter(|_| is_full);
            if before
                .zip(this)
                .is_some_and(|(before, this)| waits_for_others(before, this))
            {
                self.terms.precedence = Precedence::AmongClients;
                self.message_bytes = MOST_AMONG_CLIENTS;
            } else {
                self.slow = this.or(before);
                self.shrink();
            }
        }
    }

    /// A query or its answer was dropped on the way.
    pub(super) fn dropped(&mut self) {
        self.shrink();
    }

    /// There was no answer in time.
    pub(super) fn timed_out(&mut self) {
        match self.terms.precedence {
            // It was too long, or clients never let it through: then it is for them to wait.
            Precedence::AfterClients => {
                self.message_bytes = self.message_bytes.min(FIRST_MESSAGE);
                self.threshold = self.message_bytes;
            }
            Precedence::AmongClients => self.shrink(),
        }
        self.terms.precedence = Precedence::AmongClients;
        self.terms.timeout = (self.terms.timeout * 2).min(MAX_TIMEOUT);
    }

    fn shrink(&mut self) {
        self.message_bytes = (self.message_bytes() / 2).max(MIN_MESSAGE);
        self.threshold = self.message_bytes;
    }
}

/// Whether of two answers, each of so many bytes, the shorter one took nearly as long as the longer one: what
/// made them wait was not their own length.
fn waits_for_others(one: (usize, Duration), other: (usize, Duration)) -> bool {
    let (shorter, longer) = match one.0 < other.0 {
        true => (one, other),
        false => (other, one),
    };
    let is_much_shorter = 3 * shorter.0 <= 2 * longer.0;
    is_much_shorter && shorter.1 * 6 >= longer.1 * 5
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quick(pace: &mut Pace) -> usize {
        pace.answered(pace.message_bytes(), QUICK / 2);
        pace.message_bytes()
    }

    #[test]
    fn messages_grow_on_a_quick_link_and_shrink_on_a_slow_one() {
        let mut pace = Pace::default();
        assert_eq!(pace.message_bytes(), FIRST_MESSAGE);
        pace.answered(100, Duration::ZERO);
        assert_eq!(pace.message_bytes(), FIRST_MESSAGE, "it was not full");
        assert_eq!(quick(&mut pace), 2 * FIRST_MESSAGE);
        (0..10).for_each(|_| _ = quick(&mut pace));
        assert_eq!(pace.message_bytes(), MESSAGE_BYTES);
        pace.answered(MESSAGE_BYTES, QUICK);
        assert_eq!(
            pace.message_bytes(),
            MESSAGE_BYTES,
            "neither quick nor slow"
        );
        pace.answered(MESSAGE_BYTES, SLOW);
        assert_eq!(pace.message_bytes(), MESSAGE_BYTES / 2);
        (0..10).for_each(|_| pace.timed_out());
        assert_eq!(pace.message_bytes(), MIN_MESSAGE);
    }

    #[test]
    fn what_was_dropped_is_approached_slowly() {
        let mut pace = Pace::default();
        while quick(&mut pace) < MESSAGE_BYTES {}
        pace.dropped();
        assert_eq!(pace.message_bytes(), MESSAGE_BYTES / 2);
        assert_eq!(quick(&mut pace), MESSAGE_BYTES / 2 + STEP);
        // Twice in a row: it doubles again up to half of that.
        pace.dropped();
        pace.dropped();
        let half = (MESSAGE_BYTES / 2 + STEP) / 4;
        assert_eq!(pace.message_bytes(), half);
        assert_eq!(quick(&mut pace), half + STEP);
    }

    #[test]
    fn what_waits_for_others_however_short_it_is_goes_among_them_and_is_long() {
        let mut pace = Pace::default();
        pace.answered(FIRST_MESSAGE, Duration::from_secs(4));
        assert_eq!(pace.message_bytes(), FIRST_MESSAGE / 2);
        pace.answered(100, Duration::from_secs(9));
        let quarter = FIRST_MESSAGE / 4;
        assert_eq!(
            pace.message_bytes(),
            quarter,
            "it was not as long as asked for"
        );
        pace.answered(quarter, Duration::from_secs(9));
        assert_eq!(pace.terms().precedence, Precedence::AmongClients);
        assert_eq!(pace.message_bytes(), MOST_AMONG_CLIENTS);
        // And on a link that is slow, and nobody else's.
        let mut pace = Pace::default();
        for bytes in [FIRST_MESSAGE, FIRST_MESSAGE / 2] {
            pace.answered(bytes, Duration::from_micros(100 * bytes as u64));
        }
        assert_eq!(pace.terms().precedence, Precedence::AfterClients);
        assert_eq!(pace.message_bytes(), FIRST_MESSAGE / 4);
    }

    #[test]
    fn what_timed_out_behind_clients_goes_among_them_until_the_link_is_quick() {
        let mut pace = Pace::default();
        while quick(&mut pace) < MESSAGE_BYTES {}
        assert_eq!(pace.terms().precedence, Precedence::AfterClients);
        pace.dropped();
        assert_eq!(pace.terms().precedence, Precedence::AfterClients);
        pace.timed_out();
        assert_eq!(pace.terms().precedence, Precedence::AmongClients);
        assert_eq!(pace.message_bytes(), FIRST_MESSAGE, "clients wait for it");
        assert_eq!(pace.terms().timeout, 2 * REQUEST_TIMEOUT);
        pace.timed_out();
        assert_eq!(pace.message_bytes(), FIRST_MESSAGE / 2, "it was too long");
        // Behind what clients have queued it is slow at any size.
        (0..10).for_each(|_| pace.answered(pace.message_bytes(), 6 * SLOW));
        assert_eq!(pace.message_bytes(), MOST_AMONG_CLIENTS);
        assert_eq!(pace.terms().precedence, Precedence::AmongClients);
        assert_eq!(pace.terms().timeout, 24 * SLOW);
        pace.answered(1, Duration::ZERO);
        assert_eq!(pace.terms().precedence, Precedence::AfterClients);
        assert_eq!(pace.terms().timeout, REQUEST_TIMEOUT);
    }
}
