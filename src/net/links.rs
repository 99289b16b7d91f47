//! One replica's declarations in Zenoh, and its queries to peers.

use std::sync::{
    atomic::{AtomicBool, AtomicU64, Ordering},
    Arc,
};

use tokio::sync::mpsc::{self, error::TrySendError};
use zenoh::{
    bytes::ZBytes,
    liveliness::LivelinessToken,
    pubsub::{Publisher, Subscriber},
    qos::{CongestionControl, Priority},
    query::{ConsolidationMode, Query as ZQuery, Queryable},
    sample::{Sample, SampleKind},
    Result as ZResult, Session,
};

use super::queryable::{self, Route};
use crate::sync::{
    Announcement, Event, Precedence, Query, ReplicaId, Terms, Token, PREFIX, REQUEST_TIMEOUT,
};

/// Events that may wait; more are dropped, as on a bad link.
pub(super) const MAX_EVENTS: usize = 4096;

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

/// Queries that may wait; more are refused.
pub(super) const MAX_ASKED: usize = 64;

/// The sending end of the loop's queue of events; counts those for which there was no
/// room.
#[derive(Clone)]
pub(super) struct Events {
    sender: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
    /// Whether a token's event was among those.
    has_missed_tokens: Arc<AtomicBool>,
}

impl Events {
    pub(super) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(MAX_EVENTS);
        let events = Self {
            sender,
            dropped: Arc::default(),
            has_missed_tokens: Arc::default(),
        };
        (events, receiver)
    }

    fn send(&self, event: Event) {
        // If it is closed, nobody is there to miss it.
        if let Err(TrySendError::Full(event)) = self.sender.try_send(event) {
            // What else is dropped comes again by itself.
            if matches!(event, Event::Appeared(_) | Event::Gone(_)) {
                self.has_missed_tokens.store(true, Ordering::Relaxed);
            }
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(
                    "{dropped} replication events were dropped, as too many came at a time"
                );
            }
        }
    }
}

/// A replica's declarations, undeclared on drop.
pub(super) struct Links {
    session: Session,
    events: Events,
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
        events: Events,
        asked: mpsc::Sender<Asked>,
        of_operators: Vec<Route>,
    ) -> ZResult<Self> {
        let own = token.to_string();
        let group = own
            .rsplit_once('/')
            .map_or(own.as_str(), |(group, _)| group);
        let heard = events.clone();
        let subscriber = session
            .declare_subscriber(format!("{group}/*/root"))
            .callback(move |sample: Sample| {
                if let Some(replica) = replica_of(sample.key_expr().as_str()) {
                    let bytes = bounded(sample.payload(), Announcement::MAX_BYTES);
                    heard.send(Event::Announced(replica, bytes));
                }
            })
            .await?;
        let of_replicas = [Kind::Digest, Kind::Entries, Kind::Root].map(|kind| {
            let asked = asked.clone();
            Route::new(kind.name(), move |query| {
                // A query that is dropped is answered with nothing, and its
                // asker comes again later.
                let _ = asked.try_send((kind, query));
            })
        });
        let routes = of_operators.into_iter().chain(of_replicas).collect();
        let queryable = queryable::declare(&session, &own, routes).await?;
        let publisher = session
            .declare_publisher(format!("{own}/root"))
            // It comes again, and must not be what closes a transport that is busy.
            .congestion_control(CongestionControl::Drop)
            .await?;
        let tokens = look_at_tokens(&session, events.clone()).await?;
        let declared = session.liveliness().declare_token(own).await?;
        Ok(Self {
            session,
            events,
            token,
            publisher,
            _subscriber: subscriber,
            tokens: Some(tokens),
            _queryable: queryable,
            _token: declared,
        })
    }

    /// Whether an event of a token was dropped.
    pub(super) fn has_missed_tokens(&self) -> bool {
        self.events.has_missed_tokens.load(Ordering::Relaxed)
    }

    /// Has all tokens looked at anew.
    pub(super) fn look_again(&self) {
        self.events.has_missed_tokens.store(true, Ordering::Relaxed);
    }

    /// Stops watching tokens.
    pub(super) fn look_away(&mut self) {
        self.tokens = None;
    }

    /// Starts watching tokens: reports all that are there, and then those that come and
    /// go.
    pub(super) async fn look_at_tokens(&mut self) -> ZResult<()> {
        let events = self.events.clone();
        events.has_missed_tokens.store(false, Ordering::Relaxed);
        self.tokens = Some(look_at_tokens(&self.session, events).await?);
        Ok(())
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
        let events = self.events.clone();
        let get = get(self.session.clone(), self.of(replica, what), terms, bytes);
        tokio::spawn(async move { events.send(Event::Answer(request, get.await)) });
    }

    /// Queries a peer's root; the answer comes as an event.
    pub(super) fn ask_root(&self, replica: ReplicaId) {
        let events = self.events.clone();
        let key_expr = self.of(replica, "root");
        let get = get(self.session.clone(), key_expr, QUICKLY, Vec::new());
        tokio::spawn(async move {
            match get.await {
                Ok(bytes) => events.send(Event::Announced(replica, bytes)),
                Err(error) => {
                    tracing::debug!("replica {replica} did not answer with its root: {error}")
                }
            }
        });
    }
}

async fn look_at_tokens(session: &Session, events: Events) -> ZResult<Subscriber<()>> {
    session
        .liveliness()
        .declare_subscriber(format!("{PREFIX}/*/*/*"))
        .history(true)
        .callback(move |sample: Sample| {
            if let Some(token) = Token::parse(sample.key_expr().as_str()) {
                events.send(match sample.kind() {
                    SampleKind::Put => Event::Appeared(token),
                    SampleKind::Delete => Event::Gone(token),
                });
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

/// The only answer to a query, or why there is none. The answer has the priority and the congestion
/// control of the query.
pub(super) async fn get(
    session: Session,
    key_expr: String,
    terms: Terms,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, String> {
    // Of one priority the link's queue holds back whoever comes after a message that waits. So what
    // waits is a batch at the most, and only where nothing else gets through.
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
    let reply = replies
        .recv_async()
        .await
        .map_err(|_| "there was no answer".to_owned())?;
    match reply.into_result() {
        Ok(sample) => Ok(sample.payload().to_bytes().into_owned()),
        Err(error) => Err(String::from_utf8_lossy(&error.payload().to_bytes()).into_owned()),
    }
}

/// The replica whose token the key expression `<token>/<name>` contains.
fn replica_of(key_expr: &str) -> Option<ReplicaId> {
    let (token, _) = key_expr.rsplit_once('/')?;
    Some(Token::parse(token)?.replica)
}
