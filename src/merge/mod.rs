//! Merging: how puts become cells, and cells become a value.
//!
//! There is one rule by which replicas resolve conflicts: of the cells of one
//! (key, part) the last writer wins. A strategy is a pair of pure functions around
//! it. *Write* turns a put into cells: if the parts of two concurrent puts differ,
//! neither is lost. *Read* folds the cells of a key into the value that a get
//! returns. So convergence is argued once, for cells, and holds for strategies that
//! nobody has thought of yet.
//!
//! | strategy | a put writes | a get returns |
//! |---|---|---|
//! | `lww` | the key's own cell | it |
//! | [`additive`](Additive) | a cell of its own | the sum |
//! | [`set_union`](SetUnion) | a cell for each element | the elements |
//! | [`object`](Object) | a cell for each field, or more | the object |
//! | [`automerge_crdt`](AutomergeCrdt) | a cell for each change | the document |
//! | one's own | as its [`Strategy`] says | as it says |
//!
//! **Covering.** A delete is a tombstone in the key's own cell, and covers every
//! other cell of the key that is not newer; so does a value there. What is covered
//! is as if it had never been, and goes from tree and store: whatever replica has
//! the covering cell drops it, in whatever order they come. (The join of two sets
//! of cells, without what is covered, is the same whether that is dropped before or
//! after: what covers it is in both.)
//!
//! **Reading asks the cells alone.** Parts begin with a tag of the strategy that
//! wrote them: the newest cell that is not covered says how a key is read. So a
//! storage whose rules were changed still shows what was put before, until the
//! first put by the new rules; see `slot`.
//!
//! A strategy of one's own, here the greatest text. It is [registered](register) by name, and
//! then writes cells and folds them:
//!
//! ```
//! use bytes::Bytes;
//! use zenoh_backend_mst::{
//!     cell::{Cell, Content, Key, Timestamp, Value},
//!     config::MergeConfig,
//!     merge::{
//!         register, Fold, Form, InvalidPut, Merged, MergeRules, PartCell, PartWrite, Put, Reading,
//!         Strategy,
//!     },
//! };
//! use zenoh_keyexpr::{keyexpr, OwnedKeyExpr};
//!
//! struct Greatest;
//! struct Found(Bytes);
//!
//! impl Strategy for Greatest {
//!     fn write(&self, put: &Put<'_>) -> Result<Vec<PartWrite>, InvalidPut> {
//!         // A cell for each text: of two concurrent puts neither is lost.
//!         let part = put.value.payload.to_vec();
//!         let content = Content::Value(put.value.clone());
//!         Ok(vec![PartWrite { part, content }])
//!     }
//!
//!     fn check(&self, part: &[u8], cell: &Cell) -> Result<(), InvalidPut> {
//!         match cell.value() {
//!             Some(value) if value.payload == part => Ok(()),
//!             _ => Err(InvalidPut::new("the part is not the text")),
//!         }
//!     }
//!
//!     fn fold(&self, cells: &[PartCell<'_>]) -> Box<dyn Fold> {
//!         let greatest = cells.iter().map(|cell| cell.part).max();
//!         Box::new(Found(Bytes::copy_from_slice(greatest.unwrap_or_default())))
//!     }
//! }
//!
//! impl Fold for Found {
//!     fn read(&self, _: Form) -> Reading {
//!         Reading { encoding_id: None, payload: self.0.clone() }
//!     }
//!
//!     fn weight(&self) -> usize {
//!         size_of::<Self>() + self.0.len()
//!     }
//! }
//!
//! register("greatest", 1, Greatest)?;
//! let config = MergeConfig { default: "greatest".into(), ..MergeConfig::default() };
//! let rules = MergeRules::new(&config, keyexpr::new("**").expect("valid"), None)?;
//!
//! // Three puts become three cells.
//! let key = Key::from(OwnedKeyExpr::new("robots/7/name").ok());
//! let mut cells = Vec::new();
//! for (time, text) in [(1, "a"), (2, "c"), (3, "b")] {
//!     let timestamp = Timestamp { time, id: [1; 16] };
//!     let payload = text.into();
//!     let value = Value { encoding_id: 0, schema: None, attachment: None, payload };
//!     let content = Content::Value(value);
//!     for (part, content) in rules.write(&key, Cell { timestamp, content }).expect("taken") {
//!         cells.push((part, Cell { timestamp, content }));
//!     }
//! }
//! cells.sort_by(|a, b| a.0.cmp(&b.0));
//!
//! // A read folds them.
//! let parts = cells.iter().map(|(part, cell)| PartCell { part: part.as_bytes(), cell });
//! let parts: Vec<_> = parts.collect();
//! let value = Merged::fold(&parts).read(Form::Native)?.expect("there is a value");
//! assert_eq!(value.value().expect("no tombstone").payload, "c");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | `strategy` | what a strategy is, and its laws |
//! | `strategies` | those that come with the library |
//! | `part` | the bytes of parts |
//! | `values` | exact numbers, elements of sets |
//! | `rules` | which strategy merges which put; strategies by name |
//! | `lifetimes` | how long cells are kept |
//! | `lengthening` | lifetimes that become longer, which is refused |
//! | `ttl` | for how long one put is shown |
//! | `fold` | from cells to a value: the rule of reading (`slot`), and a key, read (`merged`) |
//! | [`collect`] | what need not be held any more of what is final |
//! | [`encoding`] | Zenoh's encodings |
//! | [`laws`] | checks whether a strategy keeps the laws |

pub mod collect;
pub mod encoding;
mod fold;
pub mod laws;
mod lengthening;
pub(crate) mod lifetimes;
mod part;
mod rules;
mod strategies;
mod strategy;
pub(crate) mod ttl;
mod values;

#[cfg(all(test, feature = "automerge"))]
mod nesting_tests;
#[cfg(all(test, feature = "automerge"))]
pub(crate) mod tests;

pub use fold::merged::{Merged, ReadError, check, raw};
pub use lengthening::RememberedLifetimes;
pub use lifetimes::{Lifetime, Lifetimes};
pub use part::MAX_NESTING;
pub(crate) use part::{fields_around, is_of_field};
pub use rules::{
    choice::{MAX_CELLS, MergeRules, RejectedPut},
    registry::{BUILT_IN, RegisterError, register},
};
#[cfg(feature = "automerge")]
pub use strategies::automerge::AutomergeCrdt;
pub use strategies::{additive::Additive, object::Object, set_union::SetUnion};
pub use strategy::{
    Applied, CollectedCell, Fold, Form, InvalidPut, PartCell, PartWrite, Put, Reading, Strategy,
};
pub use ttl::{InvalidTtl, shown_always, shown_for, shown_until, ttl_of};
pub use values::decimal::DIGITS;
