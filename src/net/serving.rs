//! Answers the queries of operators, for as long as the storage runs.

use std::sync::Arc;

use tokio::sync::mpsc;
use zenoh::{query::Query as ZQuery, session::Session};

use super::{
    asker::Asker,
    authority::{admit, Demand, Pace},
    changes::Feed,
    operator::Operator,
    queryable::{self, Route},
    queues::Queues,
    replier::Replier,
    request::Request,
    session::Sessions,
};
use crate::{
    config::Operators,
    sync::{Token, PROTOCOL},
};

/// Queries that wait to be taken; more are answered with nothing.
const MAX_ASKED: usize = 64;

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
            let sender = sender.clone();
            Route::new(request.name(), move |query| {
                // A query that is dropped is answered with nothing.
                let _ = sender.try_send((request, query));
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
            continue;
        };
        let asked = Asked {
            session: session.clone(),
            operator: Arc::clone(&operator),
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

/// A query whose turn it is.
struct Asked {
    session: Session,
    operator: Arc<Operator>,
    own: Arc<str>,
    demand: Demand,
    query: ZQuery,
}

impl Asked {
    /// Answers it, or says why it is refused.
    async fn answer(self, refused: Option<String>) {
        let found = match self.demand.pace {
            Pace::Peer if refused.is_none() => {
                Some(self.operator.find_differences(&self.query).await)
            }
            _ => None,
        };
        let (found, refused) = match found {
            Some(Err(error)) => (None, Some(error.to_string())),
            Some(Ok(found)) => (Some(found), refused),
            None => (None, refused),
        };
        let answered = tokio::task::spawn_blocking(move || {
            let Self {
                session,
                operator,
                own,
                demand,
                query,
            } = self;
            let key = format!("{own}/{}", demand.request.name());
            let replier = Replier::new(&operator.admin.name, &query, &key, &operator.refused);
            if let Some(reason) = refused {
                return replier.error(&reason);
            }
            match Asker::of(&session, &own, &query) {
                Ok(asker) => {
                    operator.answer(demand, &query, found.as_ref(), &replier.to(asker));
                }
                Err(error) => replier.error(&error.to_string()),
            }
        });
        if let Err(error) = answered.await {
            tracing::error!("a query of an operator was not answered: {error}");
        }
    }
}
