#!/usr/bin/env python3
"""Says what a proof proves of a key to whoever trusts a root. docs/formats.md says why.

This file needs nothing but Python, and is a program, too:

    proof.py ROOT KEY PROOF_FILE [VALUE_FILE]

ROOT is in hexadecimal; KEY is relative to the storage's strip_prefix, and empty for the
strip_prefix itself; VALUE_FILE has what should be the payload of one of the cells.
Ends with 0 if all of it holds, else with 1.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO

MAX_BYTES, MAX_DEPTH = 16 << 20, 256


@dataclass(frozen=True)
class Shown:
    """A cell of the key, as a proof shows it."""

    #: What tells it from the other cells of the key; empty of the key's own.
    part: bytes
    #: Its timestamp, `TIME/ID`.
    stamp: str
    #: The number of its encoding, and the schema; None of a tombstone, or if there is no schema.
    encoding: int | None
    schema: bytes | None
    #: Length and hash of the payload; None of a tombstone.
    payload: tuple[int, bytes] | None


def check(holds: object, why: str) -> None:
    if not holds:
        raise ValueError(why)


def hash_of(tag: bytes, *pieces: bytes) -> bytes:
    return sha256(tag + b"".join(pieces)).digest()


def outline_of(payload: bytes) -> tuple[int, bytes]:
    """What a proof has of a payload."""
    return len(payload), hash_of(b"mst1load", payload)


def canonical(key: str) -> bytes:
    """The bytes of a key, relative to the strip_prefix; of that itself it is empty."""
    if not key:
        return b"\x00"
    check(all(key.split("/")) and not set(key) & set("*$#?"), "KEY is no key")
    return b"\x01" + key.encode().replace(b"\0", b"\0\xff") + b"\0\x01"


class Proof:
    """A proof that holds: of the key with these canonical bytes `cells` are all that there are in
    the tree whose hash is `root`. Any other bytes raise ValueError."""

    def __init__(self, data: bytes, key: bytes) -> None:
        check(len(data) <= MAX_BYTES, "it has too many bytes")
        self.data, self.key, self.key_bytes = BytesIO(data), key, 0
        self.cells: list[Shown] = []
        # What is in the tree, in order: "h" hidden, "<" a cell below the key, "o" the key's
        # own cell, "p" another one of it, ">" a cell above.
        self.order: list[str] = []
        check(self.number(1) == 1, "it is of another version")
        check(self.take(self.number(2, 60_000)) == key, "it is of another key")
        try:
            self.root = self.child(self.number(1), (65, 0), 0)[1:] or hash_of(b"mst1none")
        except RecursionError:
            # A tree that is so deep was made so by the choice of its keys.
            raise ValueError("it is too deep for sys.getrecursionlimit()") from None
        check(not self.data.read(1), "there are bytes after its end")
        # Nothing is hidden where the key could have a cell.
        order = re.fullmatch("(h*<p*|h*op*|p*)(>h*)?", "".join(self.order))
        check(order, "it hides what could be the key's, or shows more than it has to")
        ascend = all(a.part < b.part for a, b in zip(self.cells, self.cells[1:]))
        check(ascend, "its cells do not ascend")

    def take(self, length: int) -> bytes:
        piece = self.data.read(length)
        check(len(piece) == length, "it ends too early")
        return piece

    def number(self, length: int, most: int = 2**64) -> int:
        number = int.from_bytes(self.take(length), "big")
        check(number <= most, "a number is too large")
        return number

    def hidden(self) -> bytes:
        self.order.append("h")
        return self.take(32)

    def child(self, what: int, above: tuple[int, ...], depth: int) -> bytes:
        """What a node's hash covers of a child, whose level is below `above`."""
        check(what <= 2, "unknown flags")
        if what == 0:
            return b"\x00"
        return b"\x01" + (self.hidden() if what == 1 else self.node(above, depth + 1))

    def node(self, above: tuple[int, ...], depth: int) -> bytes:
        start, level, entries = len(self.order), tuple(self.take(2)), self.number(1, 128)
        check(level < above and depth <= MAX_DEPTH, "a node is on a wrong level, or too deep")
        head = bytes(level) + entries.to_bytes(4, "big")
        head += self.child(self.number(1), level, depth)
        first, count, groups = self.number(1), self.number(1), (entries + 3) // 4
        check(entries and first + count <= groups and (count or not first), "groups are missing")

        def fork(at: int, room: int) -> bytes:
            """The hash of the groups from `at` on, as many as have room."""
            if at >= first + count or at + room <= first:
                return self.hidden()
            if room == 1:
                return self.group(min(4, entries - 4 * at), level, depth)
            parts = range(at, min(at + room, groups), room // 4)
            return hash_of(b"mst1fork", *[fork(part, room // 4) for part in parts])

        top = fork(0, min(room for room in (1, 4, 16, 64) if room >= groups))
        check(set(self.order[start:]) - {"h"}, "a node is open for nothing")
        return hash_of(b"mst1node", head, top)

    def group(self, entries: int, level: tuple[int, ...], depth: int) -> bytes:
        start, items = len(self.order), b""
        for _ in range(entries):
            flags = self.number(1)
            items += self.cell(level[0]) if flags & 4 else self.hidden()
            items += self.child(flags & ~4, level, depth)
        check(set(self.order[start:]) - {"h"}, "a group is open for nothing")
        return hash_of(b"mst1grup", items)

    def cell(self, digit: int) -> bytes:
        common, further = self.number(2, len(self.key)), self.take(self.number(2))
        key, start, value = self.key[:common] + further, self.data.tell(), None
        encoding = schema = None
        time, id = self.number(8), self.take(16)
        if self.number(1, 1):
            encoding = self.number(2)
            parts = self.number(1, 3)
            schema = self.take(self.number(4)) if parts & 1 else None
            if parts & 2:
                self.take(self.number(4))  # the attachment
            value = (self.number(8), self.take(32))
        outline = self.data.getvalue()[start:self.data.tell()]
        self.key_bytes += len(key)
        check(any(id) and self.key_bytes <= MAX_BYTES, "a stamp without an ID, or too long keys")
        if common == len(self.key):
            self.order.append("p" if further else "o")
            stamp = f"{time}/{int.from_bytes(id, 'little'):x}"
            self.cells.append(Shown(further, stamp, encoding, schema, value))
        else:
            check(further[:1] != self.key[common:common + 1], "a key has more in common")
            self.order.append("<" if key < self.key else ">")
        position = hash_of(b"mst1posn", key).hex()
        check(len(position) - len(position.lstrip("0")) == digit, "a cell is on a wrong level")
        return hash_of(b"mst1cell", len(key).to_bytes(4, "big"), key, outline)


def main(root: str, key: str, proof_file: str, value_file: str | None = None) -> None:
    with open(proof_file, "rb") as file:
        proof = Proof(file.read(MAX_BYTES + 1), canonical(key))
    check(proof.root.hex() == root.lower(), f"it is against the root {proof.root.hex()}")
    print(f"cells of {key or 'the strip_prefix'}: {len(proof.cells)}")
    for cell in proof.cells:
        what = f"{cell.payload[0]} bytes" if cell.payload else "deleted"
        print(cell.stamp, cell.part.hex() or "own", what)
    if value_file:
        with open(value_file, "rb") as file:
            payload = file.read()
        outlines = [cell.payload for cell in proof.cells]
        check(outline_of(payload) in outlines, "the value is another one")


if __name__ == "__main__":
    if not 4 <= len(sys.argv) <= 5:
        sys.exit(__doc__)
    sys.setrecursionlimit(20 * MAX_DEPTH)
    try:
        main(*sys.argv[1:])
    except (ValueError, OSError) as why:
        sys.exit(f"The proof does not hold: {why}")
