//! Requests to replicas.

use zenoh_backend_mst::sync::Token;

/// What a replica is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(super) key_expr: String,
    /// The one replica that is asked, if it is one.
    pub(super) replica: Option<String>,
    pub(super) parameters: Vec<String>,
    pub(super) payload: Option<Vec<u8>>,
}

impl Request {
    /// `what` of a replica, such as `status`.
    pub(crate) fn to(replica: &Token, what: &str) -> Self {
        Self {
            replica: Some(replica.to_string()),
            ..Self::at(format!("{replica}/{what}"))
        }
    }

    pub(super) fn at(key_expr: String) -> Self {
        Self {
            key_expr,
            replica: None,
            parameters: Vec::new(),
            payload: None,
        }
    }

    /// With a parameter.
    pub(crate) fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.parameters.push(format!("{name}={value}"));
        self
    }

    /// With parameters as they are written.
    pub(super) fn with_all(mut self, parameters: &str) -> Self {
        let given = parameters.split(';').filter(|one| !one.is_empty());
        self.parameters.extend(given.map(ToOwned::to_owned));
        self
    }

    /// For what changes something: the payload says which replica is meant.
    pub(crate) fn meant(self) -> Self {
        let identity = self.replica.as_deref();
        let identity = identity.and_then(|base| base.rsplit('/').next());
        let identity = identity.unwrap_or_default().to_owned();
        self.payload(identity)
    }

    /// With a payload.
    pub(crate) fn payload(mut self, payload: impl Into<Vec<u8>>) -> Self {
        self.payload = Some(payload.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_the_replica_and_have_parameters() {
        let token = Token::parse("@mst/2/demo%2f%2a%2a/abababababababababababababababab");
        let token = token.expect("a token");
        let request = Request::to(&token, "keys")
            .with("limit", 5)
            .with("match", "demo/*")
            .payload("p");
        assert_eq!(request.key_expr, format!("{token}/keys"));
        assert_eq!(request.parameters.join(";"), "limit=5;match=demo/*");
        assert_eq!(request.payload.as_deref(), Some(&b"p"[..]));
    }
}
