"""Cells as storages show them, and whether a write is among them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .stamps import Stamp

#: A storage shows elements that nest deeper in another form.
MAX_DEPTH = 64

#: Up to this, either side of zero, whole numbers are exact as a double.
_EXACT = 2.0**53
#: What a storage takes: bytes of a key with an element or a field, chunks of a key, and elements or
#: fields of one put.
MAX_KEY_BYTES = 60_000
MAX_KEY_CHUNKS = 4_096
MAX_CELLS = 65_536

#: Whose cells each stand for an element, which the newest write of it has.
_OF_ELEMENTS = ("set_union", "automerge_crdt")
#: Which have one cell for the writes that name nothing.
_OF_EMPTY = ("set_union", "object")


def canonical(value: Any, depth: int = MAX_DEPTH) -> str:
    """A text that is equal for equal JSON values, as a set tells elements apart: 1 and 1.0 are
    one, 1 and true are two. Raises ValueError for a number that no element may have."""
    if value is None or isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int | float):
        return _canonical_number(value)
    if depth == 0:
        raise ValueError(f"an element nests more than {MAX_DEPTH} arrays and objects")
    if isinstance(value, list | tuple):
        return f"[{','.join(canonical(item, depth - 1) for item in value)}]"
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise TypeError("the names of an object's fields are text")
        names = {name: json.dumps(name, ensure_ascii=False) for name in value}
        fields = (f"{names[name]}:{canonical(value[name], depth - 1)}" for name in sorted(value))
        return f"{{{','.join(fields)}}}"
    raise TypeError(f"found {type(value).__name__}, allowed is what JSON has")


def _canonical_number(number: int | float) -> str:
    if isinstance(number, int):
        exact = -(2**63) <= number < 2**64
    else:
        exact = math.isfinite(number) and (abs(number) < _EXACT or not number.is_integer())
    if not exact:
        raise ValueError(
            f"found the number {number!r}, allowed are integers of 64 bits, and fractions that are a "
            "double"
        )
    if isinstance(number, int) or number.is_integer():
        return str(int(number))
    # Not longer than what the storage makes of it, of which the length is checked.
    return repr(number).replace("e-0", "e-")


@dataclass(frozen=True)
class Cell:
    """One cell of a key."""

    strategy: str
    stamp: Stamp
    #: What it stands for, as JSON.
    part: Any
    #: Whether it stands for anything: `part` may be null.
    has_part: bool
    deleted: bool
    covered: bool
    #: The payload; None of a tombstone.
    payload: bytes | None

    @classmethod
    def of(cls, shown: Mapping[str, Any]) -> Cell:
        """A cell in the JSON of `?raw` and of `cells`."""
        value = shown.get("value")
        if isinstance(value, Mapping):
            payload: bytes | None = bytes.fromhex(value["hex"])
        else:
            payload = None if value is None else str(value).encode()
        return cls(
            strategy=shown["strategy"],
            stamp=Stamp.parse(shown["timestamp"]),
            part=shown.get("part"),
            has_part="part" in shown,
            deleted=bool(shown.get("deleted", False)),
            covered=bool(shown.get("covered", False)),
            payload=payload,
        )


def cells(text: bytes) -> list[Cell]:
    """All that a storage shows of one key."""
    return [Cell.of(shown) for shown in json.loads(text)]


@dataclass(frozen=True)
class Write:
    """A write that was sent: a key, the stamp that identifies it, and what it names in the key."""

    key: str
    stamp: Stamp
    #: Elements of a set, in their canonical text, or hashes of changes.
    elements: frozenset[str] = frozenset()
    #: Fields of an object.
    fields: frozenset[str] = frozenset()

    def was_taken(self, shown: Iterable[Cell]) -> bool:
        """Whether a storage that shows these cells, or another one that they came from, took it.

        A storage takes all cells of a write at once: so one of them tells.
        """
        known = list(shown)
        return any(cell.stamp == self.stamp for cell in known) or self.is_in(known)

    def is_in(self, shown: Iterable[Cell]) -> bool:
        """Whether all of it is in these cells, or was replaced by what is newer."""
        known = list(shown)
        if any(_is_own(cell) and cell.stamp >= self.stamp for cell in known):
            return True
        if self.elements:
            return self.elements <= {
                canonical(cell.part)
                for cell in known
                if cell.has_part and cell.strategy in _OF_ELEMENTS and cell.stamp >= self.stamp
            }
        if self.fields:
            return self.fields <= {
                cell.part["field"] for cell in known if self._is_of_field(cell)
            }
        return any(
            cell.stamp == self.stamp
            or (cell.strategy in _OF_EMPTY and not cell.has_part and cell.stamp >= self.stamp)
            for cell in known
        )

    def _is_of_field(self, cell: Cell) -> bool:
        if not isinstance(cell.part, Mapping) or "field" not in cell.part:
            return False
        # A field that has a strategy has cells beside each other; any other one cell.
        plain = "strategy" not in cell.part
        return cell.stamp == self.stamp or (plain and cell.stamp >= self.stamp)


def _is_own(cell: Cell) -> bool:
    return cell.strategy == "lww" and not cell.has_part


def check_limits(write: Write, stored: str) -> None:
    """Raises ValueError for a write that no storage takes, as it keeps its key as `stored`.

    What an element or a field with a strategy of its own adds is not known here, and not counted.
    """
    if stored.count("/") >= MAX_KEY_CHUNKS:
        raise ValueError(f"the key has more than {MAX_KEY_CHUNKS:,} chunks")
    named = len(write.elements) + len(write.fields)
    if named > MAX_CELLS:
        raise ValueError(f"found {named:,} elements or fields, allowed are {MAX_CELLS:,} in one put")
    parts = [_bytes_of_element(element) for element in write.elements]
    # The name of a field ends with two bytes, as the key does.
    parts += [_escaped_bytes(field) + 2 for field in write.fields]
    # A byte that says there is a key; and the tag of the strategy, before what it stands for.
    needed = 1 + _escaped_bytes(stored) + 2 + (1 + max(parts) if parts else 0)
    if needed > MAX_KEY_BYTES:
        raise ValueError(
            f"the key takes {needed:,} bytes, together with its longest element or field if it has "
            f"such; allowed are {MAX_KEY_BYTES:,}"
        )


def _escaped_bytes(text: str) -> int:
    """Bytes of a text whose zero bytes take two."""
    return len(text.encode()) + text.count("\0")


def _bytes_of_element(element: str) -> int:
    """At least so many bytes stand for an element in the part of its cell: those of its kind and
    its text; numbers have a form of their own, which is short."""
    if element.startswith('"'):
        return 1 + len(json.loads(element).encode())
    if element.startswith(("[", "{")):
        return 1 + len(element.encode())
    return 1
