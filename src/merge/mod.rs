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
//! | part | what it is |
//! |---|---|
//! | `strategy` | what a strategy is, and its laws |
//! | `strategies` | those that come with the library |
//! | `part` | the bytes of parts |
//! | `values` | exact numbers, elements of sets, documents as JSON |
//! | `rules` | which strategy merges which put; strategies by name |
//! | `fold` | from cells to a value: the rule of reading (`slot`), and a key, read (`merged`) |
//! | [`encoding`] | Zenoh's encodings |
//! | [`laws`] | checks whether a strategy keeps the laws |

pub mod encoding;
mod fold;
pub mod laws;
mod part;
mod rules;
mod strategies;
mod strategy;
mod values;

#[cfg(test)]
mod nesting_tests;
#[cfg(test)]
pub(crate) mod tests;

pub use fold::merged::{check, raw, Merged, ReadError};
pub use part::MAX_NESTING;
pub use rules::{
    choice::{MergeRules, RejectedPut, MAX_CELLS},
    registry::{register, RegisterError},
};
pub use strategies::{
    additive::Additive, automerge::AutomergeCrdt, object::Object, set_union::SetUnion,
};
pub use strategy::{Applied, Fold, Form, InvalidPut, PartCell, PartWrite, Put, Reading, Strategy};
pub use values::decimal::DIGITS;
