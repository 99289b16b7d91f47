"""What becomes of a storage whose files are damaged, and how that is found."""

import hashlib
import random
import shutil

import pytest

from cluster import Cluster, chain
from operators import Operator, base
from polling import wait_until
from router import storage
from test_mstctl import mstctl

ALONE = storage("demo/**", settle="50ms")
REPLICATED = storage("demo/**", settle="50ms", replication={"sync_interval": "1s"})
OTHER = storage("other/**", settle="50ms")


def some_values(order, count=300):
    """Of all sizes that are kept in different ways: in a row, beside it, in a file of blobs."""
    sizes = [10, 100, 300, 1100, 6000]
    return {f"demo/{n}": order.randbytes(order.choice(sizes)) for n in range(count)}


def put_all(router, values):
    for key, payload in values.items():
        router.client.put(key, payload)


def close(router):
    """Ends the router, with all of the storage in tables: that a router ends is for storages
    a kill, but one that is removed writes out what it has."""
    router.remove_storage("demo")
    wait_until(lambda: not router.has_open(router.data / "demo"), "the storage is closed")
    router.stop()


def close_second(cluster):
    """When it returns the first knows."""
    close(cluster.routers[1])
    cluster.end(1)


def engine(router):
    """The folder of the storage engine."""
    return router.data / "demo/cells"


def rows(router):
    """The file with most of the rows."""
    return max(engine(router).glob("keyspaces/*/tables/*"), key=lambda file: file.stat().st_size)


def blobs(router):
    """The file with the long payloads."""
    (file,) = engine(router).glob("keyspaces/*/blobs/*")
    return file


def zero(file, offset=4096):
    """A block that was never written, or is lost."""
    content = bytearray(file.read_bytes())
    lost = content[offset : offset + 4096]
    assert any(lost), f"there is something in {file} at {offset}"
    content[offset : offset + 4096] = bytes(len(lost))
    file.write_bytes(content)


def flip(file, offset):
    content = bytearray(file.read_bytes())
    content[offset] ^= 0x10
    file.write_bytes(content)


def truncate(file, length):
    with file.open("r+b") as opened:
        opened.truncate(length)


def damage_at_random(router, order):
    """Damages a file of the engine somehow, and says how."""
    files = sorted(file for file in engine(router).glob("**/*") if file.stat().st_size > 0)
    files = [file for file in files if file.is_file() and file.name != "version"]
    # Most of the data is in these.
    data = [file for file in files if file.parent.name in ("tables", "blobs")]
    file = order.choice(data if order.random() < 0.7 else files)
    used = len(file.read_bytes().rstrip(b"\0"))
    at = order.randrange(used)
    how = order.choice(["bits are flipped", "a block is zeroed", "it is cut off", "it is gone"])
    match how:
        case "bits are flipped":
            for _ in range(order.randrange(1, 8)):
                flip(file, order.randrange(used))
        case "a block is zeroed":
            zero(file, at - at % 4096)
        case "it is cut off":
            truncate(file, at)
        case "it is gone":
            file.unlink()
    return f"{file.relative_to(router.data)}, of {used} bytes: {how}"


def check_values(router, values, what):
    """That no value is another one; true if all are there."""
    found = router.client.get_undamaged("demo/**")
    wrong = {key for key, payload in found.items() if values.get(key) != payload}
    assert not wrong, f"{what}: wrong values of {sorted(wrong)[:5]}"
    return len(found) == len(values)


def verify(router):
    """The last answer of `control/verify`, and all damages that it told of."""
    with Operator(router.port) as operator:
        own = base(router, "demo")
        operator.wait_for_answers(f"{own}/status", 1)
        answers = [answer.json() for answer in operator.stream(f"{own}/control/verify")]
    damaged = [entry for answer in answers for entry in answer["damaged"]]
    assert all("done" not in answer for answer in answers[:-1])
    assert answers[-1]["done"] is True
    assert answers[-1]["damaged_cells"] == len(damaged)
    return answers[-1], damaged


def check_is_whole(cluster, values, what):
    """Waits until the second replica has all from the first, and verifies it."""
    _, second = cluster.routers
    check_values(second, values, what)
    # Finds what nobody has read.
    verify(second)
    wait_until(lambda: check_values(second, values, what), f"{what}: all values are there")
    cluster.wait_until_equal("demo", keys=len(values))
    second.wait_for_status("demo", lambda s: s["scrub"]["quarantined"] == [], "all is replaced")
    last, damaged = verify(second)
    assert (last["checked"], damaged, last["tree"]) == (len(values), [], None), what
    assert check_values(second, values, what), what
    return second.status("demo")


@pytest.fixture
def cluster(start_router):
    """Two replicas, which can be removed at run time. Their gets are their own."""
    options = {"own_gets": "demo/**", "session": "runtime", "config_is_writable": True}
    cluster = Cluster(start_router, chain(2), {"demo": REPLICATED}, **options)
    yield cluster
    cluster.close()


@pytest.fixture
def alone(start_router):
    """A router with a storage that has no replica, and another one."""
    return start_router(
        {"demo": ALONE, "other": OTHER},
        expected=["other"],
        session="runtime",
        config_is_writable=True,
    )


def fill(router, values):
    wait_until(lambda: router.status("demo"), "the storage is there")
    put_all(router, values)
    return router.wait_until_settled("demo", keys=len(values))


# With a replica.


def test_whatever_is_damaged_comes_back_from_the_other_replica(cluster):
    """And no wrong value is ever read."""
    order = random.Random(20)
    first, second = cluster.routers
    values = some_values(order)
    put_all(first, values)
    cluster.wait_until_equal("demo", keys=len(values))
    for number in range(10):
        close_second(cluster)
        what = f"round {number}: {damage_at_random(second, order)}"
        values[f"demo/round/{number}"] = order.randbytes(2000)
        first.client.put(f"demo/round/{number}", values[f"demo/round/{number}"])
        second.start()
        check_is_whole(cluster, values, what)


def test_what_cannot_be_opened_is_moved_aside(cluster):
    order = random.Random(1)
    first, second = cluster.routers
    values = some_values(order)
    put_all(first, values)
    cluster.wait_until_equal("demo", keys=len(values))
    for number in [1, 2]:
        close_second(cluster)
        zero(rows(second))
        aside = second.data / f"demo.damaged-{number}"
        assert not aside.exists()

        second.start()

        second.wait_for_log("ERROR", "'demo'", "cannot be opened", str(second.data / "demo"))
        second.wait_for_log("ERROR", "'demo'", str(aside))
        status = check_is_whole(cluster, values, "a block of rows is zeroed")
        assert status["recovered"] == str(aside)
        assert status["failure"] is None
        assert (aside / "FORMAT").is_file()
        assert list(aside.glob("cells/keyspaces/*/tables/*"))
        pulled = status["replication"]["pulls"]["cells_received"]
        assert 0 < pulled < len(values), "what can be read is saved"
    # What was moved aside is told of until somebody acknowledges it.
    cluster.end(1)
    second.start()
    assert second.status("demo")["recovered"] == str(aside)
    with Operator(second.port) as operator:
        scrub = f"{base(second, 'demo')}/control/scrub"
        operator.wait_for_answers(scrub, 1)
        assert operator.ask(f"{scrub}?do=acknowledge") == {"acknowledged": str(aside)}
        assert operator.ask(f"{scrub}?do=acknowledge") == {"acknowledged": None}
    assert second.status("demo")["recovered"] is None
    cluster.end(1)
    second.start()
    assert second.status("demo")["recovered"] is None
    assert check_values(second, values, "as it was")


def test_the_snapshots_stay_with_a_storage_that_is_moved_aside(cluster):
    first, second = cluster.routers
    values = some_values(random.Random(2))
    put_all(first, values)
    cluster.wait_until_equal("demo", keys=len(values))
    with Operator(second.port) as operator:
        snapshots = f"{base(second, 'demo')}/control/snapshot"
        operator.wait_for_answers(snapshots, 1)
        taken = operator.all(f"{snapshots}?do=create;name=before")[-1].json()
    close_second(cluster)
    zero(rows(second))
    second.start()
    assert second.status("demo")["recovered"]
    with Operator(second.port) as operator:
        snapshots = f"{base(second, 'demo')}/control/snapshot"
        operator.wait_for_answers(snapshots, 1)
        [kept] = operator.ask(snapshots)
        assert kept["root"] == taken["root"]


def test_a_damaged_value_is_replaced_when_it_is_found(cluster):
    """The storage can be opened: long values are not looked at then."""
    first, second = cluster.routers
    values = some_values(random.Random(3))
    put_all(first, values)
    cluster.wait_until_equal("demo", keys=len(values))
    close_second(cluster)
    file = blobs(second)
    for at in range(1, 6):
        flip(file, file.stat().st_size // 6 * at)
    second.start()
    status = second.status("demo")
    assert status["recovered"] is None
    assert status["scrub"]["damaged_cells"] == 0, "nobody has looked yet"

    last, damaged = verify(second)

    assert 1 <= len(damaged) <= 5
    assert last["checked"] == last["of"] == len(values)
    for damage in damaged:
        second.wait_for_log("ERROR", "'demo'", "damaged", damage["key"])
    assert {damage["key"] for damage in damaged} <= values.keys()
    status = check_is_whole(cluster, values, "blobs are damaged")
    assert status["scrub"]["damaged_cells"] == len(damaged)
    assert status["scrub"]["repaired_cells"] == len(damaged)
    assert [entry["key"] for entry in status["scrub"]["damaged"]] == [
        damage["key"] for damage in damaged
    ]
    assert status["replication"]["pulls"]["cells_received"] == len(damaged)


def test_an_engine_that_has_lost_its_version_is_moved_aside_too(cluster):
    first, second = cluster.routers
    put_all(first, {"demo/a": b"x"})
    cluster.wait_until_equal("demo", keys=1)
    close_second(cluster)
    (engine(second) / "version").unlink()
    second.start()
    status = check_is_whole(cluster, {"demo/a": b"x"}, "the version is gone")
    assert status["recovered"]


# Without.


def data_of(folder):
    """What is in the files that hold data. The engine may tidy up others."""
    files = [*folder.glob("**/tables/*"), *folder.glob("**/blobs/*")]
    return {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def check_is_refused(router):
    """With a line in the log that names the folder and says what to do."""
    folder = router.data / "demo"
    before = data_of(folder)
    # When it is up, all storages have been tried.
    router.start()
    assert router.status("demo") is None, "it is refused"
    line = router.wait_for_log("ERROR", "'demo'", str(folder))
    assert "left as it is" in line
    assert "mstctl" in line
    assert data_of(folder) == before
    assert [path.name for path in router.data.glob("demo*")] == ["demo"]
    router.client.put("other/a", "value")
    router.client.wait_for("other/**", {"other/a": b"value"})
    router.stop()


def test_without_replicas_what_cannot_be_opened_is_left_as_it_is(alone):
    values = some_values(random.Random(4))
    fill(alone, values)
    close(alone)
    sound = rows(alone).read_bytes()
    zero(rows(alone))
    for _ in range(2):
        check_is_refused(alone)
    # What can be read is saved elsewhere.
    saved = alone.data / "saved"
    folder = alone.data / "demo"
    done = mstctl("--json", "--dir", folder, "salvage", "--to", saved, check=1).json()
    assert 0 < done["saved"] < len(values) and done["lost_parts"] == len(done["lost"]) > 0
    assert done["lost"][0].keys() == {"after", "before", "reason"}
    told = mstctl("--json", "--dir", saved, "status", check=0).json()
    assert (told["cells"], told["recovered"]) == (done["saved"], str(folder))
    mstctl("--dir", folder, "salvage", "--to", saved, check=5)
    shutil.rmtree(saved)
    # Nothing that was sound has been lost.
    rows(alone).write_bytes(sound)
    alone.start()
    assert alone.client.get("demo/**") == values
    assert alone.status("demo")["recovered"] is None


def test_a_damaged_value_does_not_stop_a_backup(alone, tmp_path):
    values = some_values(random.Random(14))
    fill(alone, values)
    close(alone)
    file = blobs(alone)
    for at in range(1, 6):
        flip(file, file.stat().st_size // 6 * at)
    folder = alone.data / "demo"
    offline, live = tmp_path / "offline.mst", tmp_path / "live.mst"
    done = mstctl("--json", "--dir", folder, "backup", offline, check=0).json()["backup"]
    assert 1 <= len(done["missing"]) <= 5 and set(done["missing"]) <= values.keys()
    assert done["cells"] == len(values) - len(done["missing"])
    alone.start()
    alone.wait_until_settled("demo", keys=len(values))

    made = mstctl("--json", "-s", "demo/**", "backup", live, router=alone, check=0)

    assert "ask again" in made.error
    assert made.json()["backup"]["missing"] == done["missing"]
    assert made.json()["backup"]["cells"] == done["cells"]
    text = mstctl("verify", live, check=0).text
    assert all(key in text for key in done["missing"])


@pytest.mark.parametrize(
    "file",
    ["version", "lock", "keyspaces/0/current", "keyspaces/1/current", "keyspaces/2/current"],
)
def test_a_storage_that_has_lost_a_file_is_not_taken_for_a_new_one(alone, file):
    fill(alone, some_values(random.Random(5)))
    close(alone)
    (engine(alone) / file).unlink()
    check_is_refused(alone)


def test_a_file_that_names_nothing_is_not_taken_for_an_empty_storage(alone):
    fill(alone, some_values(random.Random(6)))
    close(alone)
    current = engine(alone) / "keyspaces/0/current"
    current.write_bytes(bytes(current.stat().st_size))
    check_is_refused(alone)


def test_without_replicas_a_damaged_value_is_not_read_until_it_is_written_anew(alone):
    values = {f"demo/{n}": random.Random(n).randbytes(6000) for n in range(10)}
    root = fill(alone, values)["root"]
    close(alone)
    file = blobs(alone)
    flip(file, file.stat().st_size // 2)
    alone.start()
    assert alone.status("demo")["root"] == root, "nobody has looked yet"

    last, [damage] = verify(alone)

    assert last["checked"] == 10
    lost = damage["key"]
    rest = {key: payload for key, payload in values.items() if key != lost}
    status = alone.wait_for_status(
        "demo", lambda status: status["scrub"]["quarantined"], "it is in quarantine"
    )
    assert status["scrub"]["quarantined"] == [{"key": lost, "timestamp": damage["timestamp"]}]
    alone.wait_for_status("demo", lambda status: status["root"] != root, "the root tells of it")
    assert alone.client.get_undamaged("demo/**") == rest
    alone.restart()
    status = alone.status("demo")
    assert [entry["key"] for entry in status["scrub"]["quarantined"]] == [lost]
    assert alone.client.get_undamaged("demo/**") == rest
    assert alone.client.get_undamaged(lost) == {}
    alone.wait_for_log(f"the value of '{lost}'", "in quarantine")

    alone.client.put(lost, "anew")

    alone.client.wait_for("demo/**", {**rest, lost: b"anew"})
    alone.wait_for_status("demo", lambda s: s["scrub"]["quarantined"] == [], "it is replaced")
    alone.wait_until_settled("demo", keys=10)
    last, damaged = verify(alone)
    assert (last["checked"], damaged) == (10, [])


@pytest.fixture
def quarantine(alone):
    """A router in whose storage the only long value is damaged, and in quarantine."""
    fill(alone, {"demo/a": random.Random(10).randbytes(6000), "demo/b": b"sound"})
    close(alone)
    flip(blobs(alone), 3000)
    alone.start()
    verify(alone)
    alone.wait_for_status("demo", lambda s: s["scrub"]["quarantined"], "it is in quarantine")
    return alone


@pytest.mark.parametrize("selector", ["demo/a", "demo/a?raw", "demo/**"])
def test_that_a_value_is_missing_is_said_when_it_is_read(quarantine, selector):
    """It is not that there is none."""
    assert "demo/a" not in quarantine.client.get_undamaged(selector)
    # The storage manager says it in its words, the plugin in its own.
    said = ("raised an error on query", "a get of < demo/a > failed")
    wait_until(
        lambda: any(line in quarantine.log() for line in said), "the log tells of it", timeout=2
    )


@pytest.mark.parametrize("verb", ["cells", "proof"])
def test_that_a_value_is_missing_is_said_when_it_is_asked_for(quarantine, verb):
    with Operator(quarantine.port) as operator:
        own = base(quarantine, "demo")
        assert "damaged" in operator.refusal(f"{own}/{verb}", "demo/a")
        assert operator.one(f"{own}/{verb}", "demo/b").payload


# Verification, and the scrub.


@pytest.mark.parametrize("persistence", ["durable", "memory"])
def test_a_sound_storage_is_verified(start_router, persistence):
    demo = storage("demo/**", settle="50ms", persistence=persistence)
    router = start_router({"demo": demo}, session="runtime")
    values = some_values(random.Random(7), 1000)
    put_all(router, values)
    router.client.delete("demo/0")
    status = router.wait_until_settled("demo", keys=999, tombstones=1)
    assert status["scrub"]["last_completed"] is None

    last, damaged = verify(router)

    assert last == {
        "checked": 1000,
        "of": 1000,
        "damaged_cells": 0,
        "damaged": [],
        "tree": None,
        "done": True,
    }
    assert damaged == []
    scrub = router.status("demo")["scrub"]
    assert scrub["last_completed"] is not None
    assert (scrub["checked_cells"], scrub["damaged_cells"]) == (1000, 0)


def test_a_scrub_now_is_a_verification(alone):
    fill(alone, some_values(random.Random(8), 20))
    with Operator(alone.port) as operator:
        own = base(alone, "demo")
        last = operator.all(f"{own}/control/scrub?do=now")[-1].json()
        assert last["done"] and last["checked"] == 20
        state = operator.ask(f"{own}/control/scrub")
    assert state == alone.status("demo")["scrub"]
    assert state["last_completed"] is not None


def test_a_scrub_that_is_paused_stays_so(start_router):
    router = start_router(
        {"demo": ALONE, "off": storage("off/**", scrub={"enabled": False})}, session="runtime"
    )

    def ask(verb="", name="demo"):
        with Operator(router.port) as operator:
            operator.wait_for_answers(f"{base(router, name)}/control/scrub", 1)
            state = operator.ask(f"{base(router, name)}/control/scrub{verb}")
        assert state == router.status(name)["scrub"]
        return state["state"]

    assert ask() == "running"
    assert ask("?do=pause") == "paused"
    assert ask("?do=pause") == "paused"
    router.restart()
    assert ask() == "paused"
    assert ask("?do=resume") == "running"
    router.restart()
    assert ask() == "running"
    assert ask(name="off") == ask("?do=pause", "off") == ask("?do=resume", "off") == "off"


def test_the_scrub_finds_what_nobody_reads(start_router):
    """By itself: of a few cells it looks at one about every second."""
    often = storage("demo/**", settle="50ms", scrub={"interval": "60s"})
    router = start_router({"demo": often}, session="runtime", config_is_writable=True)
    values = {"demo/a": random.Random(9).randbytes(6000), "demo/b": b"short"}
    put_all(router, values)
    router.wait_until_settled("demo", keys=2)
    completed = router.wait_for_status(
        "demo", lambda status: status["scrub"]["last_completed"], "a pass is made"
    )["scrub"]
    assert (completed["checked_cells"], completed["damaged_cells"]) == (2, 0)
    close(router)
    flip(blobs(router), 3000)
    router.start()
    assert router.status("demo")["scrub"]["last_completed"] >= completed["last_completed"]
    status = router.wait_for_status(
        "demo", lambda status: status["scrub"]["quarantined"], "it is found"
    )
    [damage] = status["scrub"]["damaged"]
    assert damage["key"] == "demo/a"
    assert damage["reason"]
    assert router.client.get_undamaged("demo/**") == {"demo/b": b"short"}
