//! A storage's queryable: one for everything that can be asked of it.
//!
//! When a link comes up, routers tell each other of every queryable, with its whole key
//! expression. One for each thing that can be asked would be more than everything else
//! that they exchange then.

use zenoh::{
    Result as ZResult, Session,
    key_expr::KeyExpr,
    query::{Query, Queryable},
};

/// Handles queries of one name. Must not block.
pub(super) struct Route {
    name: &'static str,
    take: Box<dyn Fn(Query) + Send + Sync>,
}

impl Route {
    /// Passes queries of `<own>/<name>` to `take`.
    pub(super) fn new(name: &'static str, take: impl Fn(Query) + Send + Sync + 'static) -> Self {
        Self {
            name,
            take: Box::new(take),
        }
    }
}

/// Declares a queryable for everything below `own`. It passes a query with wildcards to
/// each route whose name matches; a query that matches none gets an empty answer.
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
