//! The replies to one query of an operator.

use std::{
    cell::Cell as StdCell,
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};
use zenoh::{
    Wait,
    bytes::{Encoding, ZBytes},
    query::Query as ZQuery,
};

use super::{asker::Asker, outbox::Outbox, text::one_line};
use crate::{admin::Progress, replica::Replica};

/// Bytes of a piece of a backup on its way.
const PIECE: usize = 256 << 10;

/// Where the answers to a query go.
pub(super) struct Replier<'a> {
    name: &'a str,
    query: &'a ZQuery,
    key: &'a str,
    outbox: &'a Outbox,
    replica: &'a Replica,
    /// Of whom it is seen whether they are there.
    asker: Option<Asker>,
    /// Queries of the storage that were refused.
    refused: &'a AtomicU64,
}

impl<'a> Replier<'a> {
    /// `name` is that of the storage, for the log; `key` that of the answers; `refused`
    /// counts the queries that get none.
    pub(super) fn new(
        name: &'a str,
        query: &'a ZQuery,
        key: &'a str,
        outbox: &'a Outbox,
        replica: &'a Replica,
        refused: &'a AtomicU64,
    ) -> Self {
        Self {
            refused,
            name,
            query,
            key,
            outbox,
            replica,
            asker: None,
        }
    }

    /// To one whose going ends the answer.
    pub(super) fn to(self, asker: Option<Asker>) -> Self {
        Self { asker, ..self }
    }

    /// Whether there is anybody who hears the answer, and the storage is not being closed.
    pub(super) fn goes_on(&self) -> bool {
        !self.asker.as_ref().is_some_and(Asker::is_gone) && !self.replica.is_closing()
    }

    /// False if it cannot be sent, or nobody hears it, so that more need not be tried.
    pub(super) fn send(
        &self,
        payload: Vec<u8>,
        encoding: Encoding,
        attachment: Option<&Value>,
    ) -> bool {
        if !self.goes_on() {
            return false;
        }
        let (query, key, name) = (
            self.query.clone(),
            self.key.to_owned(),
            self.name.to_owned(),
        );
        let attachment = attachment.map(|attachment| ZBytes::from(attachment.to_string()));
        let send = move || {
            let reply = query.reply(key, payload).encoding(encoding);
            let sent = reply.attachment(attachment).wait();
            if let Err(error) = &sent {
                tracing::debug!("storage '{name}': an answer was not sent: {error}");
            }
            sent.is_ok()
        };
        self.outbox.put(Box::new(send), &|| self.goes_on())
    }

    pub(super) fn json(&self, answer: &Value) -> bool {
        let text = answer.to_string().into_bytes();
        self.send(text, Encoding::APPLICATION_JSON, None)
    }

    /// Who asked, if they said.
    pub(super) fn asker(&self) -> Option<&Asker> {
        self.asker.as_ref()
    }

    /// Says why there is no answer. Anyone can ask nonsense, as fast as they like: the
    /// first refusal is in the log, the second, the fourth and so on.
    pub(super) fn error(&self, error: &str) {
        let (name, refused) = (self.name, self.refused.fetch_add(1, Ordering::Relaxed) + 1);
        let said = format!("{} was not answered: {}", self.key, one_line(error));
        match refused.is_power_of_two() {
            true => tracing::warn!("storage '{name}': {said} (refusal {refused})"),
            false => tracing::debug!("storage '{name}': {said} (refusal {refused})"),
        }
        let (query, name, error) = (self.query.clone(), name.to_owned(), error.to_owned());
        let send = move || {
            let reply = query.reply_err(error).encoding(Encoding::TEXT_PLAIN);
            let sent = reply.wait();
            if let Err(error) = &sent {
                tracing::debug!("storage '{name}': an answer was not sent: {error}");
            }
            sent.is_ok()
        };
        self.outbox.put(Box::new(send), &|| self.goes_on());
    }
}

/// Sends what is written in pieces.
pub(super) struct Pieces<'a> {
    replier: &'a Replier<'a>,
    progress: &'a StdCell<Progress>,
    buffer: Vec<u8>,
    piece: u64,
}

impl<'a> Pieces<'a> {
    /// Of something that has come as far as `progress` says.
    pub(super) fn new(replier: &'a Replier<'a>, progress: &'a StdCell<Progress>) -> Self {
        Self {
            replier,
            progress,
            buffer: Vec::with_capacity(PIECE),
            piece: 0,
        }
    }

    pub(super) fn send(&mut self, is_last: bool) -> io::Result<()> {
        let payload = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let Progress { cells, of } = self.progress.get();
        let attachment = json!({
            "piece": self.piece,
            "cells": if is_last { of } else { cells },
            "of": of,
            "last": is_last,
        });
        self.piece += 1;
        let encoding = Encoding::ZENOH_BYTES;
        match self.replier.send(payload, encoding, Some(&attachment)) {
            true => Ok(()),
            false => Err(io::Error::other("whoever asked is gone")),
        }
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.send(false)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
