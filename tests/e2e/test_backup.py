"""Backups, snapshots, restoring them, and going back to what was."""

import itertools
import json
import threading
from dataclasses import dataclass
from hashlib import sha256

import pytest
import zenoh

from client import timestamp
from cluster import chain
from operators import Operator, Refused, base
from polling import PATIENCE, wait_until
from router import storage
from test_merging import OBJECT
from test_replication import check_all_have

#: What operators ask is answered behind the doors: each is asked once, by one door or the other.
pytestmark = pytest.mark.doors("mixed")

DEMO = storage("demo/**", settle="50ms")
MEMORY = storage("demo/**", settle="50ms", persistence="memory")
FLEET = storage("fleet/**", strip_prefix="fleet", settle="50ms")


@pytest.fixture
def start(start_router):
    """Starts a router with one storage, by default on disk and not replicated."""

    def start(config=DEMO, **options):
        return start_router({"demo": config}, session="runtime", **options)

    return start


@pytest.fixture
def operate():
    """Asks the storage of a router: `operate(router).ask("control/scrub")`."""
    opened = []

    def operate(router):
        opened.append(Storage(router))
        return opened[-1]

    yield operate
    for storage_of in opened:
        storage_of.close()


class Storage(Operator):
    """An operator who asks one storage."""

    def __init__(self, router):
        super().__init__(router.port)
        self._own = base(router, "demo")
        self.wait_for_answers("status", 1)

    def stream(self, verb, payload=None, timeout=PATIENCE):
        return super().stream(f"{self._own}/{verb}", payload, timeout)


# Files.


def check(place, content):
    """The check of a part at its place."""
    return sha256(b"mst1bkup" + place.to_bytes(8, "big") + content).digest()[:8]


@dataclass(frozen=True)
class Backup:
    """A file, as docs/formats.md describes it: each of its parts is checked."""

    header: dict
    frames: list
    cells: int
    root: str

    @classmethod
    def read(cls, file):
        rest = memoryview(file)

        def take(length):
            nonlocal rest
            assert len(rest) >= length, "it ends too early"
            taken, rest = rest[:length], rest[length:]
            return bytes(taken)

        def checked(place, length):
            content = take(length)
            assert take(8) == check(place, content), f"the check at {place}"
            return content

        def number(length):
            return int.from_bytes(take(length), "big")

        assert take(8) == b"mst1back"
        header = json.loads(checked(0, number(4)))
        frames = []
        while length := number(4):
            frames.append(checked(len(frames) + 1, length))
        end = checked(2**64 - 1, 48)
        assert not rest, "there is more after its end"
        frames_told, cells = (int.from_bytes(end[at : at + 8], "big") for at in (0, 8))
        assert frames_told == len(frames)
        backup = cls(header, frames, cells, end[16:].hex())
        assert (backup.cells, backup.root) == (header["cells"], header["root"])
        return backup


def take_backup(operator):
    """The pieces are in order, none is missing, and together they are a backup."""
    pieces = operator.all("control/backup")
    told = [piece.attachment for piece in pieces]
    assert [piece["piece"] for piece in told] == list(range(len(pieces)))
    assert [piece["last"] for piece in told] == [False] * (len(pieces) - 1) + [True]
    return Backup.read(b"".join(piece.payload for piece in pieces))


def restore(operator, backup):
    """Frame by frame, as `mstctl` does; the sums of what was answered."""
    sums = {"cells": 0, "newest": 0, "rejected": 0}
    for frame in backup.frames:
        restored = operator.ask("control/restore", frame)
        sums = {name: sums[name] + restored[name] for name in sums}
    assert sums["cells"] == backup.cells
    return sums


def put_all(router, values, at=None):
    for key, payload in values.items():
        router.client.put(key, payload, timestamp=timestamp(-60 if at is None else at))


# Backups.


def test_a_backup_has_all_there_is(start, operate):
    router = start()
    values = {f"demo/{n}": b"%d" % n * (n % 500) for n in range(3000)}
    put_all(router, values)
    router.client.delete("demo/0")
    status = router.wait_until_settled("demo", keys=2999, tombstones=1)

    backup = take_backup(operate(router))

    assert backup.cells == 3000
    assert backup.root == status["root"]
    assert len(backup.frames) > 1
    header = backup.header
    assert (header["key_expr"], header["strip_prefix"]) == ("demo/**", None)
    assert (header["storage"], header["replica"]) == ("demo", status["identity"])
    assert header["format"] == 2


@pytest.mark.parametrize("count", [0, 10, 12_345])
def test_pieces_tell_how_far_the_backup_is(start, operate, count):
    router = start(MEMORY)
    put_all(router, {f"demo/{n}": b"%d" % n * 20 for n in range(count)})
    router.wait_until_settled("demo", keys=count)
    told = [piece.attachment for piece in operate(router).stream("control/backup")]
    cells = [piece["cells"] for piece in told]
    assert cells == sorted(cells)
    assert cells[-1] == count
    # With the first the header may be sent before there is anything to tell.
    assert {piece["of"] for piece in told[1:] + told[-1:]} == {count}


@pytest.mark.parametrize("config", [DEMO, MEMORY], ids=["durable", "memory"])
def test_a_backup_of_nothing_has_nothing(start, operate, config):
    router = start(config)
    backup = take_backup(operate(router))
    assert (backup.cells, backup.frames) == (0, [])
    assert backup.root == router.status("demo")["root"]


def test_a_backup_is_of_one_time_while_a_client_writes(start, operate):
    """What is in it is what had been written until then: the first so many puts."""
    router, copy = start(), start(MEMORY)
    padding = b"x" * 200
    put_all(router, {f"demo/before/{n}": b"%d" % n + padding for n in range(5000)})
    router.wait_until_settled("demo", keys=5000)
    over, written = threading.Event(), 0

    def write():
        nonlocal written
        for n in itertools.count():
            if over.wait(0.0005):
                return
            router.client.put(f"demo/{n}", b"%d" % n + padding)
            router.client.put("demo/last", b"%d" % n)
            written = n + 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: written > 200, "some is written")
        backups = []
        for _ in range(3):
            backups.append(take_backup(operate(router)))
            aim = written + 20
            wait_until(lambda: written > aim, "some more is written")
    finally:
        over.set()
        writer.join()

    counts = []
    for backup in backups:
        # What is newer stays, so each can go on top of the one before.
        restore(operate(copy), backup)
        values = copy.client.get("demo/*")
        last = int(values.pop("demo/last"))
        count = len(values)
        assert values == {f"demo/{n}": b"%d" % n + padding for n in range(count)}
        assert last in (count - 1, count - 2)
        # The keys are all there before the last of the values may be.
        status = copy.wait_for_status(
            "demo", lambda status: status["root"] == backup.root, "it has the backup's root"
        )
        assert status["cells"] == backup.cells
        counts.append(count)
    assert 200 < counts[0] < counts[1] < counts[2] <= written


# Restoring.


def fill(router):
    """With all kinds of cells that there are without merging."""
    put_all(router, {f"demo/{n}": b"%d" % n * 100 for n in range(200)})
    router.client.put("demo/long", bytes(range(256)) * 4000, timestamp=timestamp(-50))
    router.client.put("demo/empty", b"", timestamp=timestamp(-50))
    schema = zenoh.Encoding.APPLICATION_PROTOBUF.with_schema("fleet.Position")
    router.client.put("demo/encoded", "x", encoding=schema, timestamp=timestamp(-50))
    for n in range(20):
        router.client.delete(f"demo/{n}", timestamp=timestamp(-40))
    return router.wait_until_settled("demo", keys=183, tombstones=20)


def samples(router):
    """All that a client sees of them."""
    return {
        key: (bytes(sample.payload), str(sample.encoding), str(sample.timestamp))
        for key, sample in router.client.samples("demo/**").items()
    }


@pytest.mark.parametrize("config", [DEMO, MEMORY], ids=["durable", "memory"])
def test_what_is_restored_is_what_was(start, operate, config):
    router, empty = start(), start(config)
    status = fill(router)
    operator = operate(empty)
    backup = take_backup(operate(router))

    restored = restore(operator, backup)

    assert restored == {"cells": 203, "newest": 203, "rejected": 0}
    after = empty.wait_until_settled("demo", keys=183, tombstones=20)
    assert after["root"] == status["root"] == backup.root
    assert samples(empty) == samples(router)
    # To do it again does no harm.
    assert restore(operator, backup) == {"cells": 203, "newest": 0, "rejected": 0}
    assert empty.status("demo")["root"] == status["root"]
    # It is committed.
    empty.kill()
    empty.start()
    kept = {} if config is MEMORY else samples(router)
    assert samples(empty) == kept


def test_what_is_newer_stays_when_a_backup_is_restored(start, operate):
    router = start()
    values = {f"demo/{n}": b"old" for n in range(10)}
    put_all(router, values)
    router.wait_until_settled("demo", keys=10)
    operator = operate(router)
    backup = take_backup(operator)
    router.client.put("demo/0", "newer")
    router.client.delete("demo/1")
    router.client.put("demo/new", "newer")
    router.wait_until_settled("demo", keys=10, tombstones=1)
    root = router.status("demo")["root"]

    assert restore(operator, backup) == {"cells": 10, "newest": 0, "rejected": 0}

    values = values | {"demo/0": b"newer", "demo/new": b"newer"}
    del values["demo/1"]
    assert router.client.get("demo/**") == values
    assert router.status("demo")["root"] == root


def test_what_is_restored_replicates(start_cluster, start, operate):
    router = start()
    fill(router)
    backup = take_backup(operate(router))
    replicated = {"demo": storage("demo/**", settle="50ms", replication={})}
    cluster = start_cluster(chain(2), replicated)
    first, second = cluster.routers
    second.client.put("demo/150", "newer")
    restored = restore(operate(first), backup)
    assert restored["rejected"] == 0
    cluster.wait_until_equal("demo", keys=183, tombstones=20)
    expected = router.client.get("demo/**") | {"demo/150": b"newer"}
    assert second.client.get("demo/**") == expected


def test_the_prefix_is_not_in_a_backup(start, operate):
    router, other = start(FLEET), start(FLEET)
    put_all(router, {"fleet": b"all", "fleet/a": b"one"})
    router.wait_until_settled("demo", keys=2)
    backup = take_backup(operate(router))
    assert (backup.header["key_expr"], backup.header["strip_prefix"]) == ("fleet/**", "fleet")
    assert restore(operate(other), backup)["newest"] == 2
    assert other.client.get("fleet/**") == {"fleet": b"all", "fleet/a": b"one"}


def test_cells_of_other_keys_are_rejected(start, operate):
    router = start()
    put_all(router, {f"demo/{n}": b"x" for n in range(5)} | {"demo/in/it": b"x"})
    router.wait_until_settled("demo", keys=6)
    backup = take_backup(operate(router))
    part = start(storage("demo/in/**", settle="50ms"))
    assert restore(operate(part), backup) == {"cells": 6, "newest": 1, "rejected": 5}
    assert part.client.get("demo/**") == {"demo/in/it": b"x"}


def change(frame, place, bits):
    return frame[:place] + bytes([frame[place] ^ bits]) + frame[place + 1 :]


def damaged(frame):
    """Frames that are not what was written, and how they came to be."""
    for place in range(0, len(frame), max(1, len(frame) // 60)):
        yield f"changed at {place}", change(frame, place, 1 << place % 8)
        yield f"cut off at {place}", frame[:place]
    yield "with more after it", frame + b"x"


@pytest.mark.parametrize("payload", [b"short", b"compressed " * 100], ids=["plain", "compressed"])
def test_what_is_damaged_in_a_frame_is_not_written(start, operate, payload):
    """As a whole; or the cells are rejected that are not what was written, one by one."""
    router, empty = start(), start(MEMORY)
    values = {f"demo/{n}": b"%d " % n + payload for n in range(5)}
    put_all(router, values)
    router.wait_until_settled("demo", keys=5)
    [frame] = take_backup(operate(router)).frames
    operator, taken = operate(empty), 0
    for how, wrong in damaged(frame):
        try:
            restored = operator.ask("control/restore", wrong)
        except Refused as refused:
            assert "cannot be read" in str(refused), how
        else:
            taken += restored["cells"] - restored["rejected"]
        found = empty.client.get("demo/**")
        assert found.items() <= values.items(), how
    assert empty.status("demo")["counters"]["merged"] == taken


def test_a_whole_file_is_not_a_frame(start, operate):
    router = start()
    fill(router)
    operator = operate(router)
    file = b"".join(piece.payload for piece in operator.all("control/backup"))
    assert "cannot be read" in operator.refusal("control/restore", file)


# One at a time.


def test_a_second_backup_at_the_same_time_is_refused(start, operate):
    """The first waits until what was written has settled."""
    router = start(storage("demo/**", settle="1s"))
    router.client.put("demo/a", "x")
    router.wait_for_counters("demo", puts=1)
    taken = []

    def take_first():
        while not taken:
            try:
                taken.append(take_backup(operate(router)))
            except Refused:
                pass  # One of those below was there first.

    first = threading.Thread(target=take_first)
    first.start()
    try:
        operator = operate(router)
        for verb in ["backup", "verify", "scrub?do=now", "snapshot?do=create;name=a"]:
            wait_until(
                lambda: is_refused_as_busy(operator, f"control/{verb}") or taken,
                "the first is being taken",
            )
            assert not taken
        # What is soon over is answered meanwhile.
        assert operator.ask("status")["name"] == "demo"
        assert operator.ask("control/snapshot") == []
        assert operator.ask("control/scrub")["state"] == "running"
    finally:
        first.join()
    assert taken[0].cells == 1
    assert take_backup(operator).cells == 1


def is_refused_as_busy(operator, verb):
    try:
        operator.all(verb)
    except Refused as refused:
        assert "is going on; wait until it is done" in str(refused)
        return True
    return False


# Snapshots.


def test_snapshots_are_taken_listed_and_deleted(start, operate):
    router = start()
    operator = operate(router)
    assert operator.ask("control/snapshot?do=list") == []
    taken = {}
    for number, name in enumerate(["b", "2026-11-24", "a.b_c-d"], start=1):
        put_all(router, {f"demo/{number}": b"x"})
        status = router.wait_until_settled("demo", keys=number)
        *progress, last = operator.all(f"control/snapshot?do=create;name={name}")
        entry = last.json()
        assert entry.pop("done") is True
        assert (entry["name"], entry["cells"], entry["root"]) == (name, number, status["root"])
        assert entry["bytes"] == (router.data / f"demo/snapshots/{name}.backup").stat().st_size
        assert entry["cut"] >= status["cut"]
        taken[name] = entry
    listed = operator.ask("control/snapshot")
    assert listed == [taken[name] for name in sorted(taken)]
    router.kill()
    router.start()
    operator = operate(router)
    assert operator.ask("control/snapshot") == listed
    assert operator.ask("control/snapshot?do=delete;name=b") == {"deleted": "b"}
    assert [entry["name"] for entry in operator.ask("control/snapshot")] == sorted(taken)[:-1]


def test_a_snapshot_is_a_backup(start, operate):
    router = start()
    status = fill(router)
    operator = operate(router)
    operator.all("control/snapshot?do=create;name=a")
    backup = Backup.read((router.data / "demo/snapshots/a.backup").read_bytes())
    assert backup.root == status["root"]
    copy = start(MEMORY)
    restore(operate(copy), backup)
    assert samples(copy) == samples(router)


def test_a_name_is_of_one_snapshot(start, operate):
    router = start()
    operator = operate(router)
    operator.all("control/snapshot?do=create;name=a")
    put_all(router, {"demo/a": b"x"})
    router.wait_until_settled("demo", keys=1)
    refusal = operator.refusal("control/snapshot?do=create;name=a")
    assert "there is a snapshot called 'a' already" in refusal
    [entry] = operator.ask("control/snapshot")
    assert entry["cells"] == 0
    for verb in ["control/snapshot?do=delete;name=b", "control/rollback?snapshot=b"]:
        assert "there is no snapshot called 'b'" in operator.refusal(verb)


def test_a_name_that_could_be_a_path_is_refused(start, operate):
    router = start()
    operator = operate(router)
    for name in ["", "../x", "..", ".", ".hidden", "a/b", "a b", "é", "x" * 101, "a\\b", "a\n"]:
        for verb in ["snapshot?do=create", "snapshot?do=delete"]:
            refusal = operator.refusal(f"control/{verb};name={name}")
            assert f"`name` cannot be '{name}'" in refusal
            assert "letters, digits" in refusal
        if name:
            assert "letters, digits" in operator.refusal(f"control/rollback?snapshot={name}")
    assert not [*router.data.glob("**/*.backup"), *router.data.glob("**/*.part")]


def test_a_storage_in_memory_has_no_snapshots(start, operate):
    operator = operate(start(MEMORY))
    for verb in ["snapshot", "snapshot?do=create;name=a", "rollback?snapshot=a"]:
        refusal = operator.refusal(f"control/{verb}")
        assert "a storage in memory has no place for snapshots" in refusal
        assert "take a backup to a file" in refusal


def test_a_snapshot_that_is_damaged_is_not_gone_back_to(start, operate):
    router = start()
    operator = operate(router)
    fill(router)
    for name in ["damaged", "sound"]:
        operator.all(f"control/snapshot?do=create;name={name}")
    file = router.data / "demo/snapshots/damaged.backup"
    content = file.read_bytes()
    router.client.delete("demo/150")
    root = router.wait_until_settled("demo", keys=182)["root"]
    for damage in [change(content, len(content) // 2, 1), content[:-1], b"", b"nothing"]:
        file.write_bytes(damage)
        assert "'damaged' cannot be used" in operator.refusal("control/rollback?snapshot=damaged")
        # It does not hide the other.
        entries = {entry["name"]: entry for entry in operator.ask("control/snapshot")}
        assert entries.keys() == {"damaged", "sound"}
        assert "problem" not in entries["sound"]
        assert len(damage) > 100 or entries["damaged"]["problem"]
    assert router.status("demo")["root"] == root
    assert operator.all("control/rollback?snapshot=sound")[-1].json()["restored"] == 1


# Going back.

RULES = {
    "key_overrides": {
        "demo/count/**": "additive",
        "demo/set/**": "set_union",
        "demo/state/**": OBJECT,
    }
}
MERGING = {"demo": storage("demo/**", settle="50ms", replication=RULES)}

#: What is put before the snapshot, and what it comes to.
BEFORE = [
    ("demo/a", "one", b"one"),
    ("demo/changed", "before", b"before"),
    ("demo/deleted", "before", b"before"),
    ("demo/long", "x" * 5000, b"x" * 5000),
    ("demo/count/kept", "1", b"1"),
    ("demo/count/more", "1", None),
    ("demo/count/more", "0.5", b"1.5"),
    ("demo/count/deleted", "7", b"7"),
    ("demo/set/a", '["a", 1]', None),
    ("demo/set/a", '{"remove": [1], "add": ["b"]}', b'["a","b"]'),
    ("demo/set/deleted", "[1]", b"[1]"),
    ("demo/state/a", '{"driver": "ann", "hours": 1, "tags": ["x"]}', None),
    ("demo/state/a", '{"hours": 2}', b'{"driver":"ann","hours":3,"tags":["x"]}'),
]
VALUES = {key: value for key, _, value in BEFORE if value is not None}

AFTER = [
    ("demo/changed", "after"),
    ("demo/deleted", None),
    ("demo/long", "short"),
    ("demo/new", "new"),
    ("demo/count/more", "10"),
    ("demo/count/deleted", None),
    ("demo/count/new", "1"),
    ("demo/set/a", '["c"]'),
    ("demo/set/deleted", None),
    ("demo/set/new", "[1]"),
    ("demo/state/a", '{"hours": 5, "driver": null, "tags": {"remove": ["x"]}}'),
    ("demo/state/new", '{"hours": 1}'),
]


def write(router, key, payload):
    """With a timestamp of now: in order."""
    if payload is None:
        router.client.delete(key)
    else:
        router.client.put(key, payload)


def roll_back(operator, name):
    """The last answer; that before it were of progress."""
    answers = operator.all(f"control/rollback?snapshot={name}")
    *progress, last = (answer.json() for answer in answers)
    assert last.pop("done") is True
    assert all("done" not in answer for answer in progress)
    cells = [answer["cells"] for answer in progress]
    assert cells == sorted(cells) and cells[-1] == progress[-1]["of"]
    assert last["keys"] == last["restored"] + last["deleted"] + last["kept"]
    return {name: last[name] for name in ["restored", "deleted", "kept"]}


@pytest.fixture
def cluster(start_cluster):
    """Two replicas that have `VALUES`. The first has a snapshot of them, called `before`;
    then there was what is in `AFTER`."""
    cluster = start_cluster(chain(2), MERGING)
    first, second = cluster.routers
    for key, payload, _ in BEFORE:
        write(first, key, payload)
    check_all_have(cluster, VALUES)
    with Storage(first) as operator:
        operator.all("control/snapshot?do=create;name=before")
    for number, (key, payload) in enumerate(AFTER):
        write(cluster.routers[number % 2], key, payload)
    # Three are deleted, and four are new.
    cluster.wait_until_equal("demo", keys=len(VALUES) + 1)
    assert second.client.get("demo/**") != VALUES
    return cluster


def test_going_back_to_a_snapshot_makes_all_replicas_what_they_were(cluster, operate):
    first, second = cluster.routers
    operator = operate(first)
    again = {"restored": 0, "deleted": 0, "kept": len(VALUES)}

    done = roll_back(operator, "before")

    changed = {key for key, _ in AFTER}
    assert done == {
        "restored": len(VALUES.keys() & changed),
        "deleted": len(changed - VALUES.keys()),
        "kept": len(VALUES.keys() - changed),
    }
    assert first.client.get("demo/**") == VALUES
    status = check_all_have(cluster, VALUES)
    assert roll_back(operator, "before") == again
    assert first.status("demo")["root"] == second.status("demo")["root"] == status["root"]

    # Counters go on from their sums, sets from their elements, objects from their fields.
    write(second, "demo/count/more", "0.25")
    write(first, "demo/count/deleted", "1")
    write(second, "demo/set/a", '{"add": ["z"], "remove": ["a"]}')
    write(first, "demo/state/a", '{"hours": 0.5, "tags": ["y"]}')
    write(second, "demo/new", "again")
    written = {
        "demo/count/more": b"1.75",
        "demo/count/deleted": b"8",
        "demo/set/a": b'["b","z"]',
        "demo/state/a": b'{"driver":"ann","hours":3.5,"tags":["x","y"]}',
        "demo/new": b"again",
    }
    check_all_have(cluster, VALUES | written)


def test_what_a_replica_wrote_alone_is_gone_back_on_too(cluster, operate):
    """A rollback is a write like others: what is newer than it stays."""
    first, second = cluster.routers
    cluster.cut()
    second.client.put("demo/alone", "before the rollback")
    second.client.put("demo/a", "before the rollback")
    second.wait_for_status("demo", lambda s: not s["queues"]["unsettled"], "it is written")
    roll_back(operate(first), "before")
    assert first.client.get("demo/**") == VALUES
    second.client.put("demo/changed", "later")
    cluster.heal()
    # The first never had the one key, and kept the other as it was.
    expected = {"demo/alone": b"before the rollback", "demo/a": b"before the rollback"}
    cluster.wait_until_linked()
    for router in cluster.routers:
        router.client.wait_for("demo/**", VALUES | expected | {"demo/changed": b"later"})


def test_an_encoding_goes_back_too(start, operate):
    schema = zenoh.Encoding.APPLICATION_JSON.with_schema("tags")
    router = start()
    router.client.put("demo/a", "[1]", encoding=schema)
    router.wait_until_settled("demo", keys=1)
    operator = operate(router)
    operator.all("control/snapshot?do=create;name=before")
    router.client.put("demo/a", "[1]", encoding=zenoh.Encoding.TEXT_PLAIN)
    router.wait_until_settled("demo", keys=1)
    assert roll_back(operator, "before") == {"restored": 1, "deleted": 0, "kept": 0}
    sample = router.client.sample("demo/a")
    assert (bytes(sample.payload), str(sample.encoding)) == (b"[1]", str(schema))


def test_a_frame_of_a_backup_can_be_gone_back_to(start, operate):
    """Of all keys: without bounds, a range has all."""
    router = start(MEMORY)
    put_all(router, {"demo/a": b"1", "demo/b": b"2"})
    router.wait_until_settled("demo", keys=2)
    operator = operate(router)
    [frame] = take_backup(operator).frames
    router.client.put("demo/a", "changed")
    router.client.delete("demo/b")
    router.client.put("demo/c", "new")
    router.wait_until_settled("demo", keys=2, tombstones=1)
    content = b"\0" + len(frame).to_bytes(4, "big") + frame
    message = content + check(2**64 - 1, content)

    for place in range(len(message)):
        assert "cannot be read" in operator.refusal(
            "control/rollback", change(message, place, 1 << place % 8)
        )
    assert router.client.get("demo/**") == {"demo/a": b"changed", "demo/c": b"new"}
    done = operator.ask("control/rollback", message)

    assert done == {"keys": 3, "restored": 2, "deleted": 1, "kept": 0, "dead": 0}
    assert router.client.get("demo/**") == {"demo/a": b"1", "demo/b": b"2"}
