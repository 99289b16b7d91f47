//! Collection of what is only history: the decisions, without I/O, clocks or locks.
//!
//! A storage that collects promises to take no client's write stamped below its *floor*. What is
//! stamped below it is final then: of a key that was deleted nothing older can come, so its tombstone
//! may go. A storage without replicas needs nothing else ([`floor`]).
//!
//! A replica's *horizon* is a time below which its state is final. It rises to a floor below which no
//! member takes a client's write any more, on the evidence of equal roots. `docs/collection-argument.md`
//! has the argument; the exhaustive model in `tests/collection` takes its decisions from here.
//!
//! Times are numbers of any unit, in the product NTP64. Replicas are named by any ordered type.

pub mod adoption;
pub mod catching;
pub mod cells;
pub mod evidence;
pub mod floor;
pub mod gate;
pub mod kept;
pub mod lineage;
pub mod members;
