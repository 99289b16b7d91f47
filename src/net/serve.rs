//! Answers to the queries of other replicas.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::{Semaphore, mpsc};
use zenoh::{Wait, qos::CongestionControl, query::Query as ZQuery};

use super::{
    links::{Asked, Kind, bounded},
    parts::{Part, parts_of},
    replicator::Replicator,
};
use crate::{
    cell::{CellKey, Key, Timestamp, Version},
    mst::RootHash,
    replica::{Change, ReplicaError, Snapshot},
    sync::{
        Asked as AskedAt, AtHand, MAX_QUERY, RespondError, Source, admit_query, answer_digests_to,
        answer_entries, is_lineage_query, lineage_reply,
    },
};

/// Queries that are answered at a time.
const AT_A_TIME: usize = 2;

/// Answers queries until no more can come. What blocks on disk or takes long is
/// done on threads for that.
pub(super) async fn serve(
    replicator: Arc<Replicator>,
    own: Arc<str>,
    mut asked: mpsc::Receiver<Asked>,
) {
    let permits = Arc::new(Semaphore::new(AT_A_TIME));
    while let Some(asked) = asked.recv().await {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
            return;
        };
        let (replicator, own) = (Arc::clone(&replicator), Arc::clone(&own));
        tokio::task::spawn_blocking(move || {
            let (kind, query) = asked;
            let answer = replicator.answer(kind, &query);
            let answer = answer.map_err(|error| replicator.said(&error));
            let name = replicator.name.clone();
            // A link that takes nothing does not keep the storage.
            drop(replicator);
            reply(&name, &format!("{own}/{}", kind.name()), &query, answer);
            drop(permit);
        });
    }
}

/// Replies as this replica: a query may ask many at once, and an answer is told
/// from others by its key.
fn reply(name: &str, own: &str, query: &ZQuery, answer: Result<Answer, String>) {
    let sent = match answer {
        Ok(Answer::Bytes(bytes)) => match query.congestion_control() {
            // It waits for room as long as it has to, and others' messages come between two parts.
            CongestionControl::Block => parts_of(bytes.into()).try_for_each(|(part, bytes)| {
                let reply = query.reply(own, bytes);
                reply.attachment(part.map(Part::encode)).wait()
            }),
            // A message that may be dropped is, after a millisecond without room; but of a long one
            // Zenoh cuts pieces itself, which wait for longer.
            _ => query.reply(own, bytes).wait(),
        },
        Ok(Answer::Nothing) => Ok(()),
        Err(error) => query.reply_err(error).wait(),
    };
    if let Err(error) = sent {
        tracing::debug!("storage '{name}': an answer was not sent: {error}");
    }
}

/// What a query is answered with.
enum Answer {
    Bytes(Vec<u8>),
    /// There is nothing to say at the moment.
    Nothing,
}

impl Replicator {
    /// Blocks on disk.
    fn answer(&self, kind: Kind, query: &ZQuery) -> Result<Answer, RespondError> {
        let payload = || {
            let payload = query.payload();
            payload.map_or_else(Vec::new, |payload| {
                bounded(payload, MAX_QUERY + AskedAt::BYTES)
            })
        };
        let answer = match kind {
            Kind::Digest => {
                self.served.digest_queries.fetch_add(1, Ordering::Relaxed);
                let payload = payload();
                let (is_mirror, query) = self.admit(&payload)?;
                let tree = self.replica.snapshot()?.tree;
                let lifetimes = self.replica.lifetimes();
                let answer = answer_digests_to(&tree, lifetimes, query, is_mirror)?;
                self.admit(&payload)?;
                Answer::Bytes(answer)
            }
            Kind::Entries => {
                self.served.entries_queries.fetch_add(1, Ordering::Relaxed);
                let payload = payload();
                if is_lineage_query(&payload)
                    && let Some(own) = self.replica.member_state()
                {
                    return Ok(Answer::Bytes(lineage_reply(&own.kept)));
                }
                let (_, query) = self.admit(&payload)?;
                let answer = answer_entries(self, query, self.compression)?;
                self.admit(&payload)?;
                Answer::Bytes(answer)
            }
            Kind::Root => self.announcement().map_or(Answer::Nothing, Answer::Bytes),
        };
        if let Answer::Bytes(bytes) = &answer {
            let sent = &self.served.bytes_sent;
            sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(answer)
    }

    /// Whether a query is for the horizon that is: the query itself, and whether the asker catches up.
    fn admit<'a>(&self, query: &'a [u8]) -> Result<(bool, &'a [u8]), RespondError> {
        admit_query(self.replica.member_state().as_ref(), query)
    }

    /// Why a query is not answered, in words; counted, and in the log.
    fn said(&self, error: &RespondError) -> String {
        let name = &self.name;
        let malformed = match error {
            RespondError::Query(_) => self.served.malformed.fetch_add(1, Ordering::Relaxed) + 1,
            RespondError::Store(_) | RespondError::Replica(_) => 1,
            // It passes when both have the same horizon.
            RespondError::Horizon => return error.to_string(),
        };
        // Anyone can ask nonsense, as fast as they like.
        if malformed.is_power_of_two() {
            tracing::warn!("storage '{name}': a query was not answered: {error}");
        }
        error.to_string()
    }
}

impl Source for Replicator {
    fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        self.replica.snapshot()
    }

    fn changes_since(&self, root: &RootHash, after: u64) -> Option<Vec<Change>> {
        self.replica.roots().changes_since(root, after)
    }

    fn dead(&self, key: &Key, watermark: u64) -> Option<Timestamp> {
        self.replica.lifetimes().dead(key, watermark)
    }

    fn damaged(&self, key: &CellKey, version: &Version) {
        self.served.damaged.fetch_add(1, Ordering::Relaxed);
        self.replica.mend(std::iter::once((key.clone(), *version)));
        let (name, key) = (&self.name, &key.key);
        tracing::error!(
            "storage '{name}': the value of '{key}' is damaged, and is not sent to others"
        );
    }

    fn at_hand(&self) -> Option<&AtHand> {
        Some(&self.at_hand)
    }
}
