//! Reports for operators.

use std::fmt;

use super::{identity::ReplicaId, peers::Isolation, rejections::Rejections, wire::MessageError};

/// A report for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// A replica and this one exchange no data.
    Isolated(ReplicaId, Isolation),
    /// A replica with this one's identity is there.
    SameIdentity {
        /// Whether this one is the younger, and takes another name.
        is_younger: bool,
    },
    /// One with this one's identity is there again, so soon that it is not believed.
    NameClaimed {
        /// Seconds until it will be.
        pause: u64,
    },
    /// A message could not be read.
    Malformed(ReplicaId, MessageError),
    /// Cells were rejected.
    Rejected(ReplicaId, Rejections),
    /// Catching up with a replica has stopped: so many cells that it does not have would have to be set
    /// aside.
    TooMuchAside {
        /// The replica.
        peer: ReplicaId,
        /// How many.
        cells: u64,
    },
    /// A pull failed.
    Failed(ReplicaId, String),
    /// A pull is complete.
    Pulled {
        /// The peer.
        peer: ReplicaId,
        /// Cells that it brought.
        cells: u64,
    },
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolated(peer, isolation) => {
                write!(f, "no data is exchanged with replica {peer}: {isolation}")
            }
            Self::SameIdentity { is_younger: true } => f.write_str(
                "another replica has this one's identity, as after copying its folder, and is \
                 older: this one takes a new identity",
            ),
            Self::SameIdentity { is_younger: false } => f.write_str(
                "another replica has this one's identity, as after copying its folder, and is \
                 younger: it has to take a new identity",
            ),
            Self::NameClaimed { pause } => write!(
                f,
                "an announcement claims this one's identity once more: this one took a new identity \
                 a short time ago, and takes no other for {pause} s"
            ),
            Self::Malformed(peer, error) => {
                write!(f, "a message of replica {peer} was rejected: {error}")
            }
            Self::Rejected(peer, rejections) => {
                let Rejections {
                    key_expr,
                    digest,
                    clock,
                    too_large,
                    strategy,
                    malformed: _,
                } = rejections;
                write!(
                    f,
                    "cells of replica {peer} were rejected: {key_expr} outside of the key \
                     expression, {digest} damaged, {clock} too far ahead of the clock, \
                     {too_large} too large, {strategy} that no strategy here writes"
                )
            }
            Self::TooMuchAside { peer, cells } => write!(
                f,
                "it does not catch up with the horizon of replica {peer}: {cells} cells that the other \
                 does not have would have to be set aside, which is more than happens by itself"
            ),
            Self::Failed(peer, error) => write!(f, "a pull from replica {peer} failed: {error}"),
            Self::Pulled { peer, cells } => {
                let s = if *cells == 1 { "" } else { "s" };
                write!(f, "a pull from replica {peer} brought {cells} cell{s}")
            }
        }
    }
}
