//! Who may have a storage do what.
//!
//! Zenoh does not say who sent a query. So the storage's option `operators` says what is
//! done at all, and what changes something has to be meant: it is asked of one replica by
//! its name, with a payload, by somebody whose liveliness token is there at this moment.
//! A get with wildcards, or one that a web page has the REST plugin make, has none of
//! these; nor has a query that comes when its asker is gone.

use zenoh::query::{Parameters, Query as ZQuery};

use super::{asker::Asker, request::Request};
use crate::{admin::AdminError, config::Operators, sync::ReplicaId};

/// What a query asks of the storage, each more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reach {
    /// To say something. Many may be asked at once.
    Look,
    /// To read all of it. One replica is asked.
    Work,
    /// To change or to fill something.
    Change,
}

/// With which others a query waits to be answered, so that what is quick does not wait for
/// what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Answered from memory, or by a few reads.
    Quick,
    /// A part of a restore or of a rollback, of which the next comes when it is done.
    Frame,
    /// Answered when another replica has answered.
    Peer,
    /// Reads or writes all of the storage.
    Long,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) request: Request,
    pub(super) reach: Reach,
    pub(super) pace: Pace,
}

impl Demand {
    /// By the request and its parameters: one request may ask for more or for less. What
    /// is no request at all is refused where it is read, and changes nothing.
    pub(super) fn of(request: Request, parameters: &Parameters<'_>) -> Self {
        let verb = parameters.get("do").unwrap_or_default();
        let is_of_snapshot = parameters
            .get("snapshot")
            .is_some_and(|name| !name.is_empty());
        let (reach, pace) = match request {
            Request::Status
            | Request::Ui
            | Request::Tree
            | Request::Metrics
            | Request::Proof
            | Request::Keys
            | Request::Cells => (Reach::Look, Pace::Quick),
            Request::Verify | Request::Backup => (Reach::Work, Pace::Long),
            Request::Diff => (Reach::Work, Pace::Peer),
            Request::Sync | Request::Forget => (Reach::Change, Pace::Quick),
            Request::Scrub => match verb {
                "now" => (Reach::Work, Pace::Long),
                "pause" | "resume" | "acknowledge" => (Reach::Change, Pace::Quick),
                _ => (Reach::Look, Pace::Quick),
            },
            Request::Collect => match verb {
                "now" => (Reach::Change, Pace::Quick),
                _ => (Reach::Look, Pace::Quick),
            },
            Request::Snapshot => match verb {
                "create" => (Reach::Change, Pace::Long),
                "delete" => (Reach::Change, Pace::Quick),
                _ => (Reach::Look, Pace::Quick),
            },
            Request::Restore => (Reach::Change, Pace::Frame),
            Request::Rollback if is_of_snapshot => (Reach::Change, Pace::Long),
            Request::Rollback => (Reach::Change, Pace::Frame),
        };
        Self {
            request,
            reach,
            pace,
        }
    }

    /// Whether the payload is what is to be written; otherwise it says for which replica
    /// the query is meant.
    fn has_frame(self) -> bool {
        self.pace == Pace::Frame
    }
}

/// Whether a storage with this option does what is asked, as far as the query alone says.
///
/// # Errors
/// If the option does not allow it, or the query may reach others as well.
pub(super) fn admit(
    operators: Operators,
    demand: Demand,
    query: &ZQuery,
) -> Result<(), AdminError> {
    decide(operators, demand, query.key_expr().is_wild())
}

fn decide(operators: Operators, demand: Demand, is_wild: bool) -> Result<(), AdminError> {
    let needed = match demand.reach {
        Reach::Look | Reach::Work => Operators::Read,
        Reach::Change => Operators::All,
    };
    if demand.reach > Reach::Look && is_wild {
        return Err(AdminError::Wildcard(demand.request.name()));
    }
    match operators >= needed {
        true => Ok(()),
        false => Err(AdminError::NotAllowed {
            what: demand.request.name(),
            found: operators.name(),
            needed: needed.name(),
        }),
    }
}

/// Whether what changes something is meant, and by whom: returns the ID of the asker's
/// Zenoh session. May wait for the token of the asker.
///
/// # Errors
/// If it is not meant for this replica, or nobody is there who asks.
pub(super) fn confirm<'a>(
    demand: Demand,
    own: ReplicaId,
    payload: &[u8],
    asker: Option<&'a Asker>,
) -> Result<&'a str, AdminError> {
    let what = demand.request.name();
    // A frame is meant as it is: an empty one, too, cannot be read, and writes nothing.
    if !demand.has_frame() && payload != own.to_string().as_bytes() {
        return Err(AdminError::NotConfirmed(what));
    }
    match asker.filter(|asker| asker.is_there()) {
        Some(asker) => Ok(asker.id()),
        None => Err(AdminError::NoAsker(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(request: Request, parameters: &'static str) -> Demand {
        Demand::of(request, &Parameters::from(parameters))
    }

    const CHANGES: [(Request, &str); 12] = [
        (Request::Sync, ""),
        (Request::Forget, "member=ab"),
        (Request::Scrub, "do=pause"),
        (Request::Scrub, "do=resume"),
        (Request::Scrub, "do=acknowledge"),
        (Request::Collect, "do=now"),
        (Request::Snapshot, "do=create;name=a"),
        (Request::Snapshot, "name=a;do=delete"),
        (Request::Restore, ""),
        (Request::Rollback, ""),
        (Request::Rollback, "snapshot="),
        (Request::Rollback, "snapshot=a"),
    ];

    const WORK: [(Request, &str); 4] = [
        (Request::Verify, ""),
        (Request::Scrub, "do=now"),
        (Request::Backup, ""),
        (Request::Diff, "with=ab"),
    ];

    #[test]
    fn every_request_is_one_of_three() {
        for (request, parameters) in CHANGES {
            assert_eq!(demand(request, parameters).reach, Reach::Change);
        }
        for (request, parameters) in WORK {
            assert_eq!(demand(request, parameters).reach, Reach::Work);
        }
        let changes: Vec<_> = CHANGES.iter().chain(&WORK).map(|(of, _)| *of).collect();
        for request in Request::ALL {
            let reach = demand(request, "").reach;
            let may_do_more = matches!(
                request,
                Request::Scrub | Request::Collect | Request::Snapshot
            );
            let is_listed = changes.contains(&request) && !may_do_more;
            assert_eq!(reach > Reach::Look, is_listed, "{request:?}");
        }
    }

    #[test]
    fn the_option_says_what_is_done() {
        let allowed = |operators, demand| decide(operators, demand, false).is_ok();
        for (request, parameters) in CHANGES {
            let demand = demand(request, parameters);
            assert!(allowed(Operators::All, demand));
            let refused = decide(Operators::Read, demand, false).expect_err("refused");
            let text = refused.to_string();
            assert!(
                text.contains(request.name()) && text.contains("`operators: \"all\"`"),
                "{text}"
            );
        }
        for (request, parameters) in WORK {
            assert!(allowed(Operators::Read, demand(request, parameters)));
            assert!(!allowed(Operators::None, demand(request, parameters)));
        }
        assert!(!allowed(Operators::None, demand(Request::Status, "")));
    }

    #[test]
    fn a_wildcard_reaches_what_is_looked_at_alone() {
        assert!(decide(Operators::Read, demand(Request::Status, ""), true).is_ok());
        for (request, parameters) in CHANGES.into_iter().chain(WORK) {
            let refused = decide(Operators::All, demand(request, parameters), true);
            assert!(matches!(refused, Err(AdminError::Wildcard(_))));
        }
    }

    #[test]
    fn a_change_is_meant_for_a_replica_by_somebody() {
        let own = ReplicaId([0xab; 16]);
        let meant = own.to_string();
        let pause = demand(Request::Scrub, "do=pause");
        for wrong in ["", "yes", &meant[1..], &meant.to_uppercase()] {
            let refused = confirm(pause, own, wrong.as_bytes(), None);
            assert!(matches!(refused, Err(AdminError::NotConfirmed(_))));
        }
        let refused = confirm(pause, own, meant.as_bytes(), None);
        assert!(matches!(refused, Err(AdminError::NoAsker(_))));
        let restore = demand(Request::Restore, "");
        let refused = confirm(restore, own, b"a frame", None);
        assert!(matches!(refused, Err(AdminError::NoAsker(_))));
    }
}
