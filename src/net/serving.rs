//! Answers the queries of operators, for as long as the storage runs.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::mpsc;
use zenoh::{query::Query as ZQuery, session::Session};

use super::{
    answers::Found,
    asker::Asker,
    authority::{Demand, Pace, admit},
    changes::Feed,
    dropped::count,
    operator::Operator,
    outbox::Outbox,
    queryable::{self, Route},
    queues::Queues,
    replier::Replier,
    request::Request,
    session::Sessions,
};
use crate::{
    admin::AdminError,
    config::Operators,
    sync::{PROTOCOL, Token},
};

/// Queries that wait to be taken; more are answered with nothing.
const MAX_ASKED: usize = 64;

/// How often one that waits for another replica looks whether the storage is being closed.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Operator {
    /// Replicates the storage, if it is replicated, and answers operators; until it
    /// is stopped.
    pub async fn run(self: Arc<Self>, sessions: Arc<Sessions>) {
        if let Some(replicator) = self.replicator.clone() {
            return replicator
                .run(sessions, |session, own| Serving::start(session, own, &self))
                .await;
        }
        if self.operators == Operators::None {
            return self.stop.notified().await;
        }
        let opened = tokio::select! {
            opened = sessions.get_for_operators() => opened,
            () = self.stop.notified() => return,
        };
        let Some((session, _)) = opened else {
            return;
        };
        let own = Token {
            protocol: PROTOCOL,
            group: self.admin.group.clone(),
            replica: self.own_identity,
        };
        let own = own.to_string();
        let (serving, routes) = Serving::start(&session, &own, &self);
        match queryable::declare(&session, &own, routes).await {
            Ok(declared) => {
                self.stop.notified().await;
                drop(declared);
                drop(serving);
            }
            Err(error) => {
                let name = &self.admin.name;
                tracing::error!("storage '{name}': operators cannot ask for anything: {error}");
            }
        }
    }
}

/// Answers operators, for as long as this is there.
struct Serving(Vec<tokio::task::JoinHandle<()>>);

impl Serving {
    /// Answers for what is below `own`. The routes lead to it, and have to be declared.
    fn start(session: &Session, own: &str, operator: &Arc<Operator>) -> (Self, Vec<Route>) {
        let (sender, asked) = mpsc::channel(MAX_ASKED);
        let answered: &[Request] = match operator.operators {
            Operators::None => &[],
            Operators::Read | Operators::All => &Request::ALL,
        };
        let routes = answered.iter().map(|&request| {
            let (sender, dropped) = (sender.clone(), Arc::clone(&operator.dropped));
            Route::new(request.name(), move |query| {
                // A query that is dropped is answered with nothing.
                if sender.try_send((request, query)).is_err() {
                    count(&dropped.operator_queries);
                }
            })
        });
        let routes = routes.collect();
        let mut serving = Vec::new();
        if operator.operators != Operators::None {
            let feed = Feed {
                changes: Arc::clone(&operator.changes),
                replica: Arc::clone(&operator.admin.replica),
                group: operator.admin.group.clone(),
                name: operator.admin.name.clone(),
                session: session.clone(),
                own: own.to_owned(),
            };
            serving.push(tokio::spawn(feed.run()));
        }
        let (asked_where, found) = (session.clone(), Arc::clone(&operator.found));
        // Zenoh may have its configuration locked.
        tokio::task::spawn_blocking(move || found.look(&asked_where));
        let (session, operator) = (session.clone(), Arc::clone(operator));
        serving.push(tokio::spawn(serve(
            session,
            operator,
            Arc::from(own),
            asked,
        )));
        (Self(serving), routes)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Answers queries until no more can come. What blocks on disk or takes long is
/// done on threads for that.
async fn serve(
    session: Session,
    operator: Arc<Operator>,
    own: Arc<str>,
    mut asked: mpsc::Receiver<(Request, ZQuery)>,
) {
    let queues = Queues::new();
    while let Some((request, query)) = asked.recv().await {
        let demand = Demand::of(request, query.parameters());
        let refused = admit(operator.operators, demand, &query).err();
        let mut refused = refused.map(|error| error.to_string());
        let mut place = match refused {
            None => queues.of(demand.pace).enter(),
            Some(_) => queues.quick.enter(),
        };
        if place.is_none() && demand.pace != Pace::Quick {
            refused = Some("too much is going on that takes long; ask again later".to_owned());
            place = queues.quick.enter();
        }
        // A query that is dropped is answered with nothing.
        let Some(place) = place else {
            count(&operator.dropped.operator_queries);
            continue;
        };
        let asked = Asked {
            session: session.clone(),
            operator: Arc::downgrade(&operator),
            own: Arc::clone(&own),
            demand,
            query,
        };
        tokio::spawn(async move {
            let turn = place.turn().await;
            asked.answer(refused).await;
            drop(turn);
        });
    }
}

/// A query. While it waits for its turn, and while its answer is sent, it does not hold the storage.
struct Asked {
    session: Session,
    operator: Weak<Operator>,
    own: Arc<str>,
    demand: Demand,
    query: ZQuery,
}

impl Asked {
    /// Answers it, or says why it is refused. Of a storage that has gone meanwhile there is no answer.
    async fn answer(self, refused: Option<String>) {
        let found = match self.demand.pace {
            Pace::Peer if refused.is_none() => match self.find_differences().await {
                Some(found) => Some(found),
                None => return,
            },
            _ => None,
        };
        let (found, refused) = match found {
            Some(Err(error)) => (None, Some(error.to_string())),
            Some(Ok(found)) => (Some(found), refused),
            None => (None, refused),
        };
        let answered = tokio::task::spawn_blocking(move || {
            let outbox = match self.demand.pace {
                Pace::Long => Outbox::stream(),
                Pace::Quick | Pace::Frame | Pace::Peer => Outbox::few(),
            };
            self.make_answer(refused, found.as_ref(), &outbox);
            drop(self);
            outbox.send_all();
        });
        if let Err(error) = answered.await {
            tracing::error!("a query of an operator was not answered: {error}");
        }
    }

    /// What another replica has and this one has not; nothing if the storage goes meanwhile.
    async fn find_differences(&self) -> Option<Result<Found, AdminError>> {
        let operator = self.operator.upgrade()?;
        let replica = &operator.admin.replica;
        let closing = async {
            while !replica.is_closing() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            found = operator.find_differences(&self.query) => Some(found),
            () = closing => Some(Err(AdminError::Closing)),
        }
    }

    fn make_answer(&self, refused: Option<String>, found: Option<&Found>, outbox: &Outbox) {
        let Some(operator) = self.operator.upgrade() else {
            return;
        };
        let (query, own) = (&self.query, &self.own);
        let key = format!("{own}/{}", self.demand.request.name());
        let (admin, refusals) = (&operator.admin, &operator.refused);
        let replier = Replier::new(&admin.name, query, &key, outbox, &admin.replica, refusals);
        if let Some(reason) = refused {
            return replier.error(&reason);
        }
        match Asker::of(&self.session, own, query) {
            Ok(asker) => operator.answer(self.demand, query, found, &replier.to(asker)),
            Err(error) => replier.error(&error.to_string()),
        }
    }
}
