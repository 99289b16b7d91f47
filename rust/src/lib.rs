//! A client for storages of zenoh-backend-mst: writes that are confirmed and safe to retry, values that
//! merge, reads that are proven, and changes that pub/sub did not bring.
//!
//! ```no_run
//! use zenoh::Wait;
//! use zenoh_mst::{Counter, Store, client_config};
//!
//! let session = zenoh::open(client_config(["tcp/127.0.0.1:7447"])?).wait()?;
//! // The storage's key_expr; and its strip_prefix, if it has one.
//! let store = Store::new(&session, "demo/**", None)?;
//!
//! let write = store.put("demo/robot/1", "ready", "text/plain")?;
//! assert_eq!(store.get("demo/robot/1")?.expect("there").text()?, "ready");
//! store.replicated(&write, 2)?;
//!
//! let doors = Counter::new(&store, "demo/count/doors");
//! let stamp = store.stamp()?;
//! doors.add_at(2, stamp)?;
//! doors.add_at(2, stamp)?; // a retry: it counts once
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```
//!
//! Calls block until they have their answer, for [`Store::with_timeout`] at the most, which is ten
//! seconds if nothing is said: make them on threads that may block. Keys are whole keys.
//!
//! | part | what it is |
//! |---|---|
//! | `store` | a storage, and its replicas, as a client sees them |
//! | `values` | counters, sets, objects |
//! | `document` | Automerge documents, with the feature `documents` |
//! | `number` | exact decimal numbers |
//! | `elements` | elements of sets, each with one text |
//! | `limits` | what no storage takes |
//! | `cells` | cells as storages show them, and whether a write is among them |
//! | `verified` | what a proof and the payloads beside it say of a key |
//! | `watch` | changes as a stream |
//! | `waiting` | the only place that waits |

#![warn(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
#![forbid(unsafe_code)]

mod cells;
#[cfg(feature = "documents")]
mod document;
mod elements;
mod error;
mod limits;
mod number;
mod store;
mod values;
mod verified;
mod waiting;
mod watch;

/// What the document shows compiles.
#[cfg(all(doctest, feature = "documents"))]
#[doc = include_str!("../../docs/client.md")]
struct Documentation;

pub use cells::{Cell, Write};
#[cfg(feature = "documents")]
pub use document::Document;
pub use error::{Error, Unshown};
pub use number::Number;
pub use store::{Root, Store, Value, client_config};
pub use values::{Counter, Object, Set};
pub use verified::{ProvenCell, Verified};
pub use watch::{Change, MAX_REMEMBERED, MAX_WAITING, Watch};
/// When a write was made, and by whose clock. Its text and `parse` are inverse: keep the text, and a
/// write can be repeated after a crash.
pub use zenoh::time::Timestamp as Stamp;
