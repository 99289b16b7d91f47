//! The queryable of a storage: one for all that it can be asked.
//!
//! Routers tell each other of every queryable when a link comes up, with its whole
//! key expression. One for each thing that can be asked would be more than all else
//! that has to be said then.

use zenoh::{
    key_expr::KeyExpr,
    query::{Query, Queryable},
    Result as ZResult, Session,
};

/// Takes queries of one name. It must not block.
pub(super) struct Route {
    name: &'static str,
    take: Box<dyn Fn(Query) + Send + Sync>,
}

impl Route {
    /// Hands queries of `<own>/<name>` to `take`.
    pub(super) fn new(name: &'static str, take: impl Fn(Query) + Send + Sync + 'static) -> Self {
        Self {
            name,
            take: Box::new(take),
        }
    }
}

/// Declares a queryable for all that is below `own`. A query with wildcards is handed
/// to each whose name it matches; one that matches none is answered with nothing.
pub(super) async fn declare(
    session: &Session,
    own: &str,
    routes: Vec<Route>,
) -> ZResult<Queryable<()>> {
    let routes = routes.into_iter().map(|route| {
        let key_expr = KeyExpr::new(format!("{own}/{}", route.name))?;
        Ok((key_expr, route.take))
    });
    let routes: Vec<_> = routes.collect::<ZResult<_>>()?;
    session
        .declare_queryable(format!("{own}/**"))
        .complete(true)
        .callback(move |query: Query| {
            for (key_expr, take) in &routes {
                if query.key_expr().intersects(key_expr) {
                    take(query.clone());
                }
            }
        })
        .await
}
