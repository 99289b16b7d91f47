"""What a proof and the payloads beside it say of a key, all of it checked against a root."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal

from .cells import Cell
from .proof import Proof, Shown, canonical, outline_of
from .stamps import Stamp

#: Of the parts of `additive`.
_INCREMENT = b"\x01"
#: Sums have as many digits as they need.
_EXACT = Context(prec=10_000)


@dataclass(frozen=True)
class ProvenCell:
    """A cell that is in the tree under the root, with its payload."""

    #: What tells it from the other cells of the key; empty of the key's own.
    part: bytes
    stamp: Stamp
    #: The number of the encoding, and the schema.
    encoding: int | None
    schema: bytes | None
    #: None of a tombstone.
    payload: bytes | None


@dataclass(frozen=True)
class Verified:
    """All cells of a key under a root, and no others. A proof is as old as its root."""

    key: str
    #: 64 hexadecimal digits.
    root: str
    cells: tuple[ProvenCell, ...]

    @property
    def payload(self) -> bytes | None:
        """The value of a key whose last writer wins; None if there is none.

        Raises ValueError if the key is merged: then `cells` are what is proven.
        """
        if any(cell.part for cell in self.cells):
            raise ValueError(f"{self.key} is merged: its cells are proven, and no single value")
        return self.cells[0].payload if self.cells else None

    @property
    def sum(self) -> Decimal | None:
        """The value of a counter; None if there is none."""
        own = self.cells[0] if self.cells and not self.cells[0].part else None
        others = [cell for cell in self.cells if cell.part]
        if any(cell.part[:1] != _INCREMENT for cell in others):
            raise ValueError(f"{self.key} is no counter")
        # A delete, and a put that replaced all, cover what is not newer.
        counted = [cell for cell in others if own is None or cell.stamp > own.stamp]
        first = own.payload if own else None
        numbers = [first, *(cell.payload for cell in counted)]
        if not counted and first is None:
            return None
        total = Decimal(0)
        for number in numbers:
            if number is not None:
                total = _EXACT.add(total, Decimal(number.decode()))
        return total


def verify(key: str, relative: str, root: str, proof: bytes, shown: Iterable[Cell]) -> Verified:
    """Checks a proof of a key, and the payloads of what a storage shows of it, against a root.

    `relative` is the key without the strip_prefix. Raises ValueError if anything does not hold.
    """
    proven = Proof(proof, canonical(relative))
    if proven.root.hex() != root.lower():
        raise ValueError(f"the proof is against the root {proven.root.hex()}")
    # Other cells are no harm: a payload is known by its hash.
    payloads = {outline_of(cell.payload): cell.payload for cell in shown if cell.payload is not None}
    return Verified(key, root.lower(), tuple(_with_payload(cell, payloads) for cell in proven.cells))


def _with_payload(cell: Shown, payloads: dict[tuple[int, bytes], bytes]) -> ProvenCell:
    payload = None
    if cell.payload is not None:
        payload = b"" if cell.payload == outline_of(b"") else payloads.get(cell.payload)
        if payload is None:
            raise ValueError(f"the payload of the cell of {cell.stamp} is not shown")
    return ProvenCell(cell.part, Stamp.parse(cell.stamp), cell.encoding, cell.schema, payload)
