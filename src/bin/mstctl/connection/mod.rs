//! The Zenoh session: requests to replicas, and their answers.
//!
//! | part | what it is |
//! |---|---|
//! | `configuration` | how the session is opened |
//! | `request`, `answer` | what is asked, and what comes back |

mod answer;
mod configuration;
mod request;

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use zenoh::{
    Session, Wait,
    handlers::FifoChannel,
    liveliness::LivelinessToken,
    query::{ConsolidationMode, QueryTarget},
    sample::Sample,
};
use zenoh_backend_mst::sync::{Announcement, PREFIX, PROTOCOL, ReplicaId, Token};

pub(crate) use answer::{Piece, Pieces};
pub(crate) use configuration::read as read_configuration;
pub(crate) use request::Request;

use crate::{
    args::Global,
    exit::{Error, of_zenoh},
    output::{note, short},
    replicas::{Replica, storage},
};
use answer::whom;
use configuration::{CONNECT_ENV, configuration};

/// Answers that wait to be looked at. When there are as many, the router has to
/// wait, so that a backup does not fill memory.
const MAX_WAITING: usize = 64;

/// For how long an answer of many parts may take in all. The wait for each part is
/// bounded by `--timeout`.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// A session, and what it is asked with.
pub(crate) struct Connection {
    session: Session,
    /// For how long an answer is waited for.
    pub(crate) timeout: Duration,
    /// Where it is connected to, in words.
    to: String,
    /// Replicas of which was said that they do not answer.
    told: Mutex<BTreeSet<ReplicaId>>,
}

impl Connection {
    /// Opens a session.
    pub(crate) fn open(global: &Global) -> Result<Self, Error> {
        let connect = std::env::var(CONNECT_ENV).ok();
        let (config, to) = configuration(global, connect.as_deref())?;
        let session = zenoh::open(config).wait();
        let session = session.map_err(|error| Error::Connect {
            to: to.clone(),
            reason: of_zenoh(&error),
        })?;
        Ok(Self {
            session,
            timeout: global.timeout,
            to,
            told: Mutex::default(),
        })
    }

    fn send(&self, request: Request, longest: Duration) -> Result<Pieces, Error> {
        let Request {
            key_expr,
            parameters,
            payload,
            ..
        } = request;
        let selector = format!("{key_expr}?{}", parameters.join(";"));
        let mut query = self
            .session
            .get(selector)
            .target(QueryTarget::All)
            .consolidation(ConsolidationMode::None)
            .timeout(longest)
            .with(FifoChannel::new(MAX_WAITING));
        if let Some(payload) = payload {
            query = query.payload(payload);
        }
        let replies = query
            .wait()
            .map_err(|error| Error::Usage(of_zenoh(&error)))?;
        Ok(Pieces {
            replies,
            whom: whom(&key_expr),
            timeout: self.timeout,
            _attendance: None,
        })
    }

    /// Asks for something that has one answer, which is waited for elsewhere: so
    /// several can be under way.
    pub(crate) fn begin(&self, request: Request) -> Result<Pieces, Error> {
        self.send(request, self.timeout)
    }

    /// Asks for something that has one answer.
    pub(crate) fn ask(&self, request: Request) -> Result<Piece, Error> {
        self.begin(request)?.only()
    }

    /// Asks for something whose answer comes in parts. Each is waited for by itself.
    pub(crate) fn stream(&self, request: Request) -> Result<Pieces, Error> {
        self.send(request, LONGEST)
    }

    /// Says to a replica that this process is there, for as long as the token is: a replica
    /// does nothing lasting for those who are not.
    pub(crate) fn attendance(&self, replica: &str) -> Result<LivelinessToken, Error> {
        let key_expr = format!("{replica}/asker/{}", self.session.zid());
        let token = self.session.liveliness().declare_token(key_expr).wait();
        token.map_err(|error| Error::Usage(of_zenoh(&error)))
    }

    /// As [`stream`](Self::stream), for somebody who has said that they are there.
    pub(crate) fn stream_attended(&self, request: Request) -> Result<Pieces, Error> {
        self.stream(request.with("asker", self.session.zid()))
    }

    /// As [`stream`](Self::stream), for what is not to go on, or not to be done, when this
    /// process has ended: a token says that it is there.
    pub(crate) fn attend(&self, request: Request) -> Result<Pieces, Error> {
        let Some(replica) = request.replica.clone() else {
            return self.stream(request);
        };
        let token = self.attendance(&replica)?;
        let pieces = self.stream_attended(request)?;
        Ok(Pieces {
            _attendance: Some(token),
            ..pieces
        })
    }

    /// Has a replica change something, which has one answer.
    pub(crate) fn change(&self, request: Request) -> Result<Piece, Error> {
        self.attend(request.meant())?.only()
    }

    /// Asks all replicas, of a group or of all. Who does not answer, or with an
    /// error, is left out.
    fn ask_all(&self, group: &str, what: &str, timeout: Duration) -> Result<Vec<Piece>, Error> {
        let (what, parameters) = what.split_once('?').unwrap_or((what, ""));
        let request = Request::at(format!("{PREFIX}/{PROTOCOL}/{group}/*/{what}"));
        let pieces = self.send(request.with_all(parameters), timeout)?;
        let mut answers = Vec::new();
        loop {
            match pieces.next() {
                Ok(None) | Err(Error::Silent { .. }) => return Ok(answers),
                Ok(Some(piece)) => answers.push(piece),
                Err(Error::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// All replicas that answer within a time, ordered by storage and identity. What each says of itself is
    /// short, as there may be a hundred replicas of ten storages.
    pub(crate) fn replicas_within(&self, timeout: Duration) -> Result<Vec<Replica>, Error> {
        let answers = self.ask_all("*", "status?brief=true", timeout)?;
        let mut replicas = Vec::with_capacity(answers.len());
        for answer in answers {
            let base = answer.key_expr.strip_suffix("/status");
            let Some(base) = base.and_then(Token::parse) else {
                continue;
            };
            // Anyone can answer, and so can a later version.
            match answer.json() {
                Ok(document) => replicas.push(Replica::new(base, document)),
                Err(error) => self.note_strange(base.replica, &error),
            }
        }
        replicas.sort_by(|a, b| a.order().cmp(&b.order()));
        // A copied folder answers twice until one of the two has another identity.
        replicas.dedup_by(|a, b| a.order() == b.order());
        Ok(replicas)
    }

    /// A replica with all that it says of itself.
    pub(crate) fn in_full(&self, replica: &Replica) -> Result<Replica, Error> {
        let answer = self.ask(Request::to(&replica.base, "status"))?;
        Ok(Replica::new(replica.base.clone(), answer.json()?))
    }

    /// All replicas. Says of which there is only the token: else they would be left out
    /// without a word.
    pub(crate) fn replicas(&self) -> Result<Vec<Replica>, Error> {
        let replicas = self.replicas_within(self.timeout)?;
        self.note_silent(&replicas);
        match replicas.is_empty() {
            false => Ok(replicas),
            true => Err(Error::NoStorage {
                to: self.to.clone(),
                waited: self.timeout,
            }),
        }
    }

    /// Says once of a replica that it answers what cannot be understood, and is left out.
    fn note_strange(&self, replica: ReplicaId, error: &Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(replica) {
            note(&format!("{error}; it is left out"));
        }
    }

    fn note_silent(&self, answered: &[Replica]) {
        let mut silent = self.tokens();
        silent.retain(|token| answered.iter().all(|replica| replica.base != *token));
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for token in silent {
            if told.insert(token.replica) {
                let (replica, waited) = (short(&token.replica.to_string()), self.timeout);
                note(&format!(
                    "replica {replica} of {} did not answer within {waited:?}, and is left out",
                    storage(&token.group)
                ));
            }
        }
    }

    /// The tokens of replicas that speak our protocol, as far as one may see them.
    fn tokens(&self) -> Vec<Token> {
        let key_expr = format!("{PREFIX}/{PROTOCOL}/*/*");
        let asked = self.session.liveliness().get(key_expr);
        let Ok(replies) = asked.timeout(self.timeout).wait() else {
            return Vec::new();
        };
        let samples = replies.iter().filter_map(|reply| reply.into_result().ok());
        let tokens = samples.filter_map(|sample| Token::parse(sample.key_expr().as_str()));
        tokens.collect()
    }

    /// What the replicas of a group announce. One whose root is not made at the
    /// moment says nothing.
    pub(crate) fn announcements(&self, group: &str) -> Result<Vec<(Token, Announcement)>, Error> {
        let answers = self.ask_all(group, "root", self.timeout)?;
        let mut announcements = Vec::with_capacity(answers.len());
        for answer in answers {
            let base = answer.key_expr.strip_suffix("/root").and_then(Token::parse);
            let decoded = Announcement::decode(&answer.payload);
            match (base, decoded) {
                (Some(base), Ok(announcement)) => announcements.push((base, announcement)),
                (Some(base), Err(error)) => {
                    self.note_strange(base.replica, &answer.problem(error.to_string()));
                }
                (None, _) => {}
            }
        }
        Ok(announcements)
    }

    /// What a get of a key returns: the newest of the answers.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Sample>, Error> {
        let usage = |error: zenoh::Error| Error::Usage(format!("{key}: {}", of_zenoh(&error)));
        let query = self.session.get(key).timeout(self.timeout);
        let replies = query.wait().map_err(usage)?;
        let deadline = Instant::now() + self.timeout;
        let mut newest: Option<Sample> = None;
        while let Ok(Some(reply)) = replies.recv_deadline(deadline) {
            let Ok(sample) = reply.into_result() else {
                continue;
            };
            let is_newer = newest
                .as_ref()
                .is_none_or(|newest| newest.timestamp() < sample.timestamp());
            if is_newer {
                newest = Some(sample);
            }
        }
        Ok(newest)
    }
}
