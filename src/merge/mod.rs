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
//! first put by the new rules; see `place`.
//!
//! | part | what it is |
//! |---|---|
//! | `strategy` | what a strategy is, and its laws |
//! | `additive`, `set_union`, `object`, `automerge` | the strategies |
//! | `decimal`, `element`, `document_json` | exact numbers; elements of sets; documents as JSON |
//! | `part` | the bytes of parts |
//! | `place` | the rule of reading |
//! | `merged` | a key, read |
//! | `rules`, `specificity` | which strategy merges which put |
//! | `registry` | strategies by name |
//! | `encoding` | Zenoh's encodings |
//! | `laws` | checks whether a strategy keeps the laws |

mod additive;
mod automerge;
mod decimal;
mod document_json;
mod element;
pub mod encoding;
pub mod laws;
mod merged;
mod object;
mod part;
mod place;
mod registry;
mod rules;
mod set_union;
mod specificity;
mod strategy;

#[cfg(test)]
mod nesting_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use additive::Additive;
pub use automerge::AutomergeCrdt;
pub use decimal::DIGITS;
pub use merged::{check, raw, Merged, ReadError};
pub use object::Object;
pub use part::MAX_NESTING;
pub use registry::{register, RegisterError};
pub use rules::{MergeRules, Misfit, MAX_CELLS};
pub use set_union::SetUnion;
pub use strategy::{Applied, Fold, Form, PartCell, PartWrite, Put, Reading, Strategy, Unfit};
