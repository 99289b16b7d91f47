//! What puts are made of: exact numbers, elements of sets, documents.

pub(in crate::merge) mod decimal;
pub(in crate::merge) mod document_json;
pub(in crate::merge) mod element;
