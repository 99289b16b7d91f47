//! The exhaustive model of collection: three replicas, and all orders in which updates, announcements,
//! pulls, adoptions and faults can happen within bounds. It takes its decisions from
//! `zenoh_backend_mst::collection`. docs/collection-argument.md says what it shows.

mod content;
mod decide;
mod explore;
mod invariants;
mod scenarios;
mod steps;
mod world;
