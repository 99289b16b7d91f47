//! One replica's declarations in Zenoh, and its queries to peers.

use std::sync::Arc;

use tokio::sync::mpsc;
use zenoh::{
    Result as ZResult, Session,
    bytes::ZBytes,
    liveliness::LivelinessToken,
    pubsub::{Publisher, Subscriber},
    qos::{CongestionControl, Priority},
    query::{ConsolidationMode, Query as ZQuery, Queryable},
    sample::{Sample, SampleKind},
};

use super::{
    dropped::{Dropped, count},
    mailbox::Mailbox,
    parts::{Part, Parts},
    queryable::{self, Route},
    text::one_line,
};
use crate::sync::{
    Announcement, MAX_MESSAGE, PREFIX, Precedence, Query, REQUEST_TIMEOUT, ReplicaId, Terms, Token,
};

/// What one replica can ask of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Digest,
    Entries,
    Root,
}

impl Kind {
    /// The last chunk of the key expression to ask.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Digest => "digest",
            Self::Entries => "entries",
            Self::Root => "root",
        }
    }
}

/// A peer's query.
pub(super) type Asked = (Kind, ZQuery);

/// Where queries wait. One for a root is answered from memory, and does not wait behind others.
pub(super) struct AskedSenders {
    pub(super) roots: mpsc::Sender<Asked>,
    pub(super) others: mpsc::Sender<Asked>,
}

impl AskedSenders {
    fn of(&self, kind: Kind) -> &mpsc::Sender<Asked> {
        match kind {
            Kind::Root => &self.roots,
            Kind::Digest | Kind::Entries => &self.others,
        }
    }
}

/// Queries that may wait; more are refused.
pub(super) const MAX_ASKED: usize = 64;

/// A replica's declarations, undeclared on drop.
pub(super) struct Links {
    session: Session,
    mailbox: Arc<Mailbox>,
    token: Token,
    publisher: Publisher<'static>,
    _subscriber: Subscriber<()>,
    /// None while tokens are not watched.
    tokens: Option<Subscriber<()>>,
    _queryable: Queryable<()>,
    // Undeclared first.
    _token: LivelinessToken,
}

impl Links {
    /// Declares all that `token` stands for, and the queryables for operators; the token
    /// itself last, so that peers who see it find the rest.
    pub(super) async fn declare(
        session: Session,
        token: Token,
        mailbox: Arc<Mailbox>,
        asked: &AskedSenders,
        of_operators: Vec<Route>,
        dropped: &Arc<Dropped>,
    ) -> ZResult<Self> {
        let own = token.to_string();
        let group = own
            .rsplit_once('/')
            .map_or(own.as_str(), |(group, _)| group);
        let heard = Arc::clone(&mailbox);
        let subscriber = session
            .declare_subscriber(format!("{group}/*/root"))
            .callback(move |sample: Sample| {
                if let Some(replica) = replica_of(sample.key_expr().as_str()) {
                    let bytes = bounded(sample.payload(), Announcement::MAX_BYTES);
                    heard.announced(replica, bytes);
                }
            })
            .await?;
        let of_replicas = [Kind::Digest, Kind::Entries, Kind::Root].map(|kind| {
            let (asked, dropped) = (asked.of(kind).clone(), Arc::clone(dropped));
            Route::new(kind.name(), move |query| {
                // A query that is dropped is answered with nothing, and its
                // asker comes again later.
                if asked.try_send((kind, query)).is_err() {
                    count(&dropped.replica_queries);
                }
            })
        });
        let routes = of_operators.into_iter().chain(of_replicas).collect();
        let queryable = queryable::declare(&session, &own, routes).await?;
        let publisher = session
            .declare_publisher(format!("{own}/root"))
            // It comes again, and must not be what closes a transport that is busy.
            .congestion_control(CongestionControl::Drop)
            .await?;
        let tokens = look_at_tokens(&session, &token, &mailbox).await?;
        let declared = session.liveliness().declare_token(own).await?;
        Ok(Self {
            session,
            mailbox,
            token,
            publisher,
            _subscriber: subscriber,
            tokens: Some(tokens),
            _queryable: queryable,
            _token: declared,
        })
    }

    /// Looks at all tokens anew: reports all that are there, and then those that come and go. What was
    /// reported before is to be forgotten between [`look_away`](Self::look_away) and this.
    pub(super) async fn look_at_tokens(&mut self) -> ZResult<()> {
        self.tokens = Some(look_at_tokens(&self.session, &self.token, &self.mailbox).await?);
        Ok(())
    }

    /// Stops watching tokens.
    pub(super) fn look_away(&mut self) {
        self.tokens = None;
    }

    /// Publishes an announcement.
    pub(super) async fn announce(&self, bytes: Vec<u8>) -> ZResult<()> {
        self.publisher.put(bytes).await
    }

    fn of(&self, replica: ReplicaId, what: &str) -> String {
        let token = Token {
            replica,
            ..self.token.clone()
        };
        format!("{token}/{what}")
    }

    /// Sends a query to a peer; the answer comes as an event.
    pub(super) fn ask(
        &self,
        request: u64,
        replica: ReplicaId,
        query: Query,
        terms: Terms,
        bytes: Vec<u8>,
    ) {
        let what = match query {
            Query::Digest => "digest",
            Query::Entries => "entries",
        };
        let mailbox = Arc::clone(&self.mailbox);
        let key_expr = self.of(replica, what);
        let get = get(self.session.clone(), key_expr, terms, bytes, MAX_MESSAGE);
        tokio::spawn(async move { mailbox.answered(request, get.await) });
    }

    /// Queries a peer's root; the answer comes as an event.
    pub(super) fn ask_root(&self, replica: ReplicaId) {
        let mailbox = Arc::clone(&self.mailbox);
        let (key_expr, max) = (self.of(replica, "root"), Announcement::MAX_BYTES);
        let get = get(self.session.clone(), key_expr, QUICKLY, Vec::new(), max);
        tokio::spawn(async move {
            match get.await {
                Ok(bytes) => mailbox.announced(replica, bytes),
                Err(error) => {
                    tracing::debug!("replica {replica} did not answer with its root: {error}")
                }
            }
        });
    }
}

async fn look_at_tokens(
    session: &Session,
    own: &Token,
    mailbox: &Arc<Mailbox>,
) -> ZResult<Subscriber<()>> {
    let (group, mailbox) = (own.group.clone(), Arc::clone(mailbox));
    session
        .liveliness()
        .declare_subscriber(format!("{PREFIX}/*/*/*"))
        .history(true)
        .callback(move |sample: Sample| {
            let token = Token::parse(sample.key_expr().as_str());
            // Others have nothing to do with this storage, however many they are.
            if let Some(token) = token.filter(|token| group.overlaps(&token.group)) {
                mailbox.token(token, sample.kind() == SampleKind::Put);
            }
        })
        .await
}

/// The bytes of a message, but at most one more than `max`: enough to see that it is too
/// long, without allocating for it.
pub(super) fn bounded(payload: &ZBytes, max: usize) -> Vec<u8> {
    match payload.len() <= max {
        true => payload.to_bytes().into_owned(),
        false => {
            let mut start = Vec::new();
            for slice in payload.slices() {
                let room = max + 1 - start.len();
                start.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            start
        }
    }
}

/// How to send what is not part of a pull.
pub(super) const QUICKLY: Terms = Terms {
    precedence: Precedence::AfterClients,
    timeout: REQUEST_TIMEOUT,
};

/// The longest text of a peer that says why it does not answer.
const MAX_REASON: usize = 1024;

/// The answer to a query, joined of its parts, or why there is none. Of one that is longer than `max` no
/// more is copied than shows that. The answer has the priority and the congestion control of the query.
pub(super) async fn get(
    session: Session,
    key_expr: String,
    terms: Terms,
    bytes: Vec<u8>,
    max: usize,
) -> Result<Vec<u8>, String> {
    // Of one priority the link's queue holds back whoever comes after a message that waits. So each part
    // that waits is a batch at the most, and only where nothing else gets through.
    let (priority, congestion_control) = match terms.precedence {
        Precedence::AfterClients => (Priority::DataLow, CongestionControl::Drop),
        Precedence::AmongClients => (Priority::Data, CongestionControl::Block),
    };
    let replies = session
        .get(key_expr)
        .payload(bytes)
        .consolidation(ConsolidationMode::None)
        .congestion_control(congestion_control)
        .priority(priority)
        .timeout(terms.timeout)
        .await
        .map_err(|error| error.to_string())?;
    let mut parts = Parts::new(max);
    loop {
        let reply = replies.recv_async().await;
        let reply = reply.map_err(|_| parts.missing().to_owned())?;
        match reply.into_result() {
            Ok(sample) => {
                let part = sample.attachment().map(|part| bounded(part, Part::BYTES));
                let bytes = bounded(sample.payload(), parts.room());
                if let Some(whole) = parts.add(part.as_deref(), bytes)? {
                    return Ok(whole);
                }
            }
            Err(error) => {
                let reason = bounded(error.payload(), MAX_REASON);
                return Err(one_line(&String::from_utf8_lossy(&reason)));
            }
        }
    }
}

/// The replica whose token the key expression `<token>/<name>` contains.
fn replica_of(key_expr: &str) -> Option<ReplicaId> {
    let (token, _) = key_expr.rsplit_once('/')?;
    Some(Token::parse(token)?.replica)
}
