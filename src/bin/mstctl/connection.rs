//! The Zenoh session: requests to replicas, and their answers.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{json, Value};
use zenoh::{
    handlers::{FifoChannel, FifoChannelHandler},
    liveliness::LivelinessToken,
    query::{ConsolidationMode, QueryTarget, Reply},
    sample::Sample,
    Config, Session, Wait,
};
use zenoh_backend_mst::sync::{Announcement, ReplicaId, Token, PREFIX, PROTOCOL};

use crate::{
    args::{Global, Mode},
    exit::{file_error, of_zenoh, Error},
    output::{note, short},
    replicas::{storage, Replica},
};

/// Where a router listens, if nobody says otherwise.
const DEFAULT_ENDPOINT: &str = "tcp/localhost:7447";

/// The variable of the environment that says where to connect to, with commas between
/// several endpoints. A configuration file and `-e` go over it.
const CONNECT_ENV: &str = "MSTCTL_CONNECT";

/// Answers that wait to be looked at. When there are as many, the router has to
/// wait, so that a backup does not fill memory.
const MAX_WAITING: usize = 64;

/// For how long an answer of many parts may take in all. The wait for each part is
/// bounded by `--timeout`.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What Zenoh says in place of an answer that did not come.
const TIMEOUT: &str = "Timeout";

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

/// What a replica is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    key_expr: String,
    /// The one replica that is asked, if it is one.
    replica: Option<String>,
    parameters: Vec<String>,
    payload: Option<Vec<u8>>,
}

impl Request {
    /// `what` of a replica, such as `status`.
    pub(crate) fn to(replica: &Token, what: &str) -> Self {
        Self {
            replica: Some(replica.to_string()),
            ..Self::at(format!("{replica}/{what}"))
        }
    }

    fn at(key_expr: String) -> Self {
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

/// An answer, or a part of one.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// Who answers.
    pub(crate) key_expr: String,
    /// What.
    pub(crate) payload: Vec<u8>,
    /// What is said beside it.
    attachment: Option<Vec<u8>>,
}

impl From<Sample> for Piece {
    fn from(sample: Sample) -> Self {
        let attachment = sample.attachment();
        Self {
            key_expr: sample.key_expr().to_string(),
            payload: sample.payload().to_bytes().into_owned(),
            attachment: attachment.map(|bytes| bytes.to_bytes().into_owned()),
        }
    }
}

impl Piece {
    /// The payload as JSON.
    pub(crate) fn json(&self) -> Result<Value, Error> {
        self.parse(&self.payload)
    }

    /// What is said beside the payload, as JSON.
    pub(crate) fn beside(&self) -> Result<Value, Error> {
        self.parse(self.attachment.as_deref().unwrap_or_default())
    }

    fn parse(&self, bytes: &[u8]) -> Result<Value, Error> {
        serde_json::from_slice(bytes).map_err(|error| self.problem(format!("not JSON, {error}")))
    }

    /// An error that says what is wrong with it.
    pub(crate) fn problem(&self, problem: impl Into<String>) -> Error {
        Error::Answer {
            whom: whom(&self.key_expr),
            problem: problem.into(),
        }
    }
}

/// What is asked, in words.
fn whom(key_expr: &str) -> String {
    let mut chunks = key_expr.splitn(5, '/').skip(3);
    match (chunks.next(), chunks.next()) {
        (Some("*"), Some(what)) => format!("`{what}` of any replica"),
        (Some(replica), Some(what)) => format!("`{what}` of replica {}", short(replica)),
        _ => key_expr.to_owned(),
    }
}

/// The parts of an answer, as they come.
pub(crate) struct Pieces {
    replies: FifoChannelHandler<Reply>,
    whom: String,
    timeout: Duration,
    /// Says that they are waited for.
    _attendance: Option<LivelinessToken>,
}

impl Pieces {
    /// The next part; nothing after the last.
    pub(crate) fn next(&self) -> Result<Option<Piece>, Error> {
        let silent = || Error::Silent {
            whom: self.whom.clone(),
            waited: self.timeout,
        };
        // An error of the channel says that it was closed: that was all.
        match self.replies.recv_timeout(self.timeout) {
            Err(_) => Ok(None),
            Ok(None) => Err(silent()),
            Ok(Some(reply)) => match reply.into_result() {
                Ok(sample) => Ok(Some(sample.into())),
                Err(error) => {
                    let text = error.payload().to_bytes();
                    match String::from_utf8_lossy(&text) {
                        text if text == TIMEOUT => Err(silent()),
                        text => Err(Error::Refused {
                            whom: self.whom.clone(),
                            reason: text.into_owned(),
                        }),
                    }
                }
            },
        }
    }

    /// The one answer that there is.
    pub(crate) fn only(&self) -> Result<Piece, Error> {
        self.next()?.ok_or_else(|| Error::Nobody(self.whom.clone()))
    }
}

fn configuration(global: &Global, connect: Option<&str>) -> Result<(Config, String), Error> {
    let of_environment = connect.unwrap_or_default().split(',');
    let of_environment = of_environment
        .map(str::trim)
        .filter(|endpoint| !endpoint.is_empty())
        .map(ToOwned::to_owned);
    let (endpoints, whence): (Vec<String>, &str) =
        match global.endpoints.is_empty() && global.config.is_none() {
            true => (of_environment.collect(), CONNECT_ENV),
            false => (global.endpoints.clone(), "-e"),
        };
    let usage = |error: zenoh::Error| Error::Usage(of_zenoh(&error));
    let mut config = match &global.config {
        None => {
            let default = json!({
                "mode": "client",
                "connect": { "endpoints": [DEFAULT_ENDPOINT] },
                "scouting": { "multicast": { "enabled": global.mode == Some(Mode::Peer) } },
            });
            Config::from_json5(&default.to_string()).map_err(usage)?
        }
        Some(file) => read(file)?,
    };
    if let Some(mode) = global.mode {
        let mode = json!(mode.name()).to_string();
        config.insert_json5("mode", &mode).map_err(usage)?;
    }
    if !endpoints.is_empty() {
        let inserted = config.insert_json5("connect/endpoints", &json!(endpoints).to_string());
        inserted.map_err(|error| {
            Error::Usage(format!(
                "{whence} {}: {}",
                endpoints.join(" "),
                of_zenoh(&error)
            ))
        })?;
    }
    let to = match (&global.config, endpoints.is_empty()) {
        (_, false) => endpoints.join(", "),
        (Some(file), true) => format!("what {} says", file.display()),
        (None, true) => DEFAULT_ENDPOINT.to_owned(),
    };
    Ok((config, to))
}

fn read(file: &Path) -> Result<Config, Error> {
    // Whether it can be read at all is the system's to say, and the rest Zenoh's.
    std::fs::metadata(file).map_err(file_error("read", file))?;
    Config::from_file(file).map_err(|error| Error::Place {
        path: file.to_owned(),
        problem: format!("not a configuration of Zenoh: {}", of_zenoh(&error)),
    })
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
        let key_expr = format!("{PREFIX}/{PROTOCOL}/{group}/*/{what}");
        let pieces = self.send(Request::at(key_expr), timeout)?;
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

    /// All replicas that answer within a time, ordered by storage and identity.
    pub(crate) fn replicas_within(&self, timeout: Duration) -> Result<Vec<Replica>, Error> {
        let answers = self.ask_all("*", "status", timeout)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;

    fn configured(line: &str) -> Result<(Config, String), Error> {
        let cli = Cli::read(line.split(' ')).expect("valid");
        configuration(&cli.global, None)
    }

    #[test]
    fn the_environment_says_where_to_if_nothing_else_does() {
        let to = |line: &str, connect: &str| {
            let cli = Cli::read(line.split(' ')).expect("valid");
            configuration(&cli.global, Some(connect)).map(|(_, to)| to)
        };
        let plain = "mstctl status";
        assert_eq!(
            to(plain, "tcp/a:1, tcp/b:2,").expect("valid"),
            "tcp/a:1, tcp/b:2"
        );
        assert_eq!(to(plain, "").expect("valid"), DEFAULT_ENDPOINT);
        assert_eq!(
            to("mstctl -e tcp/c:3 status", "tcp/a:1").expect("valid"),
            "tcp/c:3"
        );
        let wrong = to(plain, "nowhere").expect_err("refused");
        assert!(
            wrong.to_string().starts_with("MSTCTL_CONNECT nowhere"),
            "{wrong}"
        );
    }

    fn shown(line: &str) -> String {
        let (config, to) = configured(line).expect("valid");
        let get = |key: &str| config.get_json(key).expect("there");
        format!("{} {} {to}", get("mode"), get("connect/endpoints"))
    }

    #[test]
    fn sessions_are_configured() {
        assert_eq!(
            shown("mstctl status"),
            r#""client" ["tcp/localhost:7447"] tcp/localhost:7447"#
        );
        assert_eq!(
            shown("mstctl -m peer -e tcp/a:1 -e tcp/b:2 status"),
            r#""peer" ["tcp/a:1","tcp/b:2"] tcp/a:1, tcp/b:2"#
        );
        let Err(wrong) = configured("mstctl -e nowhere status") else {
            panic!("not refused");
        };
        assert_eq!(wrong.code(), 2);
        assert!(wrong.to_string().contains("nowhere"), "{wrong}");
        let missing = configured("mstctl -c /no/such/file status").err();
        assert!(missing.is_some_and(|error| error.code() == 5));
    }

    #[test]
    fn requests_name_the_replica_and_have_parameters() {
        let token = Token::parse("@mst/2/demo%2f%2a%2a/abababababababababababababababab");
        let token = token.expect("a token");
        let request = Request::to(&token, "keys")
            .with("limit", 5)
            .with("match", "demo/*")
            .payload("p");
        assert_eq!(request.key_expr, format!("{token}/keys"));
        assert_eq!(whom(&request.key_expr), "`keys` of replica abababab");
        assert_eq!(whom("@mst/2/*/*/root"), "`root` of any replica");
        assert_eq!(request.parameters.join(";"), "limit=5;match=demo/*");
        assert_eq!(request.payload.as_deref(), Some(&b"p"[..]));
    }
}
