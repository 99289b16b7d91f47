"""Automerge documents. Needs `automerge`: pip install zenoh-mst[documents]."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from automerge.core import Document as Automerge

from .asking import TIMEOUT
from .cells import Write, canonical
from .stamps import Stamp
from .values import _Merged


class Document(_Merged):
    """A document that several edit at once (`automerge_crdt`)."""

    def load(self, *, timeout: float = TIMEOUT) -> Automerge:
        """The document as the storage has it, with an actor of its own; a new one if there is none."""
        value = self._get(None, timeout)
        return Automerge() if value is None else Automerge.load(value.payload)

    def put(
        self,
        document: Automerge,
        known: list[bytes] | None = None,
        *,
        stamp: Stamp | None = None,
        timeout: float = TIMEOUT,
    ) -> Write | None:
        """Puts the changes since the heads that are `known` to be in the storage, or all of them.
        None if there are none."""
        changes = document.get_changes(known or [])
        if not changes:
            return None
        return self.store.write(
            self.key,
            b"".join(change.bytes for change in changes),
            "application/octet-stream",
            stamp=stamp,
            timeout=timeout,
            elements=[canonical(change.hash.hex()) for change in changes],
        )

    @contextmanager
    def edit(self, *, timeout: float = TIMEOUT) -> Iterator[Automerge]:
        """Loads the document, and puts the changes that are made to it in the block."""
        document = self.load(timeout=timeout)
        known = document.get_heads()
        yield document
        self.put(document, known, timeout=timeout)

    def json(self, *, timeout: float = TIMEOUT) -> Any:
        """The document as JSON; None if there is none."""
        value = self.store.get(f"{self.key}?json", timeout=timeout)
        return None if value is None else value.json
