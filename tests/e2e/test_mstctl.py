"""The command-line tool: what it prints, what its exit codes say, and what it does."""

import json
import os
import pty
import signal
import socket
import subprocess
import termios
from dataclasses import dataclass
from functools import partial

import pytest

from client import timestamp
from cluster import Cluster, chain
from conftest import REPOSITORY
from polling import PATIENCE, wait_until
from router import free_port, storage
from test_merging import merging
from test_replication import identity

#: What operators ask is answered behind the doors: each is asked once, by one door or the other.
pytestmark = pytest.mark.doors("mixed")

MSTCTL = REPOSITORY / "target/release/mstctl"

REPLICATED = {
    "demo": storage(
        "demo/**", settle="50ms", replication={"key_overrides": {"demo/count/**": "additive"}}
    )
}


@dataclass(frozen=True)
class Done:
    """What came of a command."""

    code: int
    out: bytes
    error: str

    @property
    def text(self):
        return self.out.decode()

    def json(self):
        return json.loads(self.out)

    def lines(self):
        """A document a line."""
        return [json.loads(line) for line in self.text.splitlines()]


def mstctl(*arguments, router=None, stdin="", check=None):
    """Runs it, connected to a router, if one is given; `check` is the expected code."""
    endpoint = [] if router is None else ["-e", f"tcp/127.0.0.1:{router.port}"]
    done = subprocess.run(
        [MSTCTL, *endpoint, *map(str, arguments)],
        input=stdin.encode(),
        capture_output=True,
        timeout=PATIENCE * 2,
        env={**os.environ, "NO_COLOR": "1"},
    )
    done = Done(done.returncode, done.stdout, done.stderr.decode())
    if check is not None:
        assert done.code == check, (arguments, done)
    return done


def failure(*arguments, code, **options):
    """The text of the error, which is the same as JSON."""
    error = mstctl(*arguments, check=code, **options).error
    as_json = json.loads(mstctl("--json", *arguments, check=code, **options).error)
    assert as_json["exit"] == code
    assert as_json["error"] in error
    return error


def wait_for_replicas(router, number):
    """Queryables come a moment after a storage."""
    wait_until(
        lambda: len(mstctl("--json", "status", router=router).json() or []) == number,
        f"{number} replicas answer",
    )


def relations(router):
    replicas = mstctl("--json", "replicas", router=router).json()
    return [replica["relation"] for replica in replicas]


# Looking.

VALUES = {f"demo/{n:02}": b"%d" % n for n in range(20)}


@pytest.fixture(scope="module")
def cluster(start_shared_router):
    """Two replicas that hold the same, and are not written to any more."""
    cluster = Cluster(start_shared_router, chain(2), REPLICATED, session="runtime")
    first, second = cluster.routers
    for number, (key, payload) in enumerate(VALUES.items()):
        cluster.routers[number % 2].client.put(key, payload, timestamp=timestamp(-20))
    first.client.put("demo/count/a", "5", timestamp=timestamp(-20))
    second.client.put("demo/count/a", "6", timestamp=timestamp(-19))
    first.client.put("demo/binary", b"\xff\x00", timestamp=timestamp(-20))
    first.client.put("demo/gone", "x", timestamp=timestamp(-20))
    second.client.delete("demo/gone", timestamp=timestamp(-10))
    cluster.wait_until_equal("demo", keys=22, cells=24, tombstones=1)
    wait_for_replicas(first, 2)
    wait_until(lambda: len(relations(first)) == 2, "they know each other")
    wait_until(lambda: set(relations(first)) == {"equal"}, "they know that they are equal")
    yield cluster
    cluster.close()


@pytest.fixture
def first(cluster):
    return cluster.routers[0]


@pytest.fixture
def replicas(cluster):
    return sorted(identity(router) for router in cluster.routers)


def test_the_status_is_of_all_replicas(cluster, first, replicas):
    statuses = mstctl("--json", "status", router=first, check=0).json()
    assert sorted(status["identity"] for status in statuses) == replicas
    for status in statuses:
        assert (status["keys"], status["cells"], status["tombstones"]) == (22, 24, 1)
        assert status["root"] == first.status("demo")["root"]
        assert status["base"].startswith("@mst/2/demo%2f%2a%2a/")
    text = mstctl("status", router=first, check=0).text
    for replica in replicas:
        assert f"`demo`  {replica}  ok" in text
    assert "22 keys, 24 cells, 1 of them a tombstone" in text
    assert text.count("equal") == 2
    one = mstctl("--json", "-r", replicas[0][:8], "status", router=first, check=0).json()
    assert [status["identity"] for status in one] == replicas[:1]


def test_a_replica_is_a_line(cluster, first, replicas):
    found = mstctl("--json", "replicas", router=first, check=0).json()
    # One is behind each door.
    assert sorted(replica["session"] for replica in found) == ["given", "runtime"]
    assert sorted(replica["replica"] for replica in found) == replicas
    for replica in found:
        assert replica["present"] is True
        assert replica["relation"] == "equal"
        assert (replica["key_expr"], replica["strip_prefix"]) == ("demo/**", None)
        assert replica["cells"] == 24
        assert replica["router"]["host"] == socket.gethostname()
    assert {replica["router"]["zid"] for replica in found} == {each.zid() for each in cluster.routers}
    lines = mstctl("replicas", router=first, check=0).text.splitlines()
    assert lines[0].split() == ["REPLICA", "ROOT", "CELLS", "RELATION", "SESSION", "ROUTER", "STORAGE"]
    assert sorted(line.split()[0] for line in lines[1:]) == [id[:8] for id in replicas]


def test_roots_are_compared(first, replicas):
    found = mstctl("--json", "root", router=first, check=0).json()
    assert found["equal"] is True
    [of_storage] = found["storages"]
    roots = {replica["root"] for replica in of_storage["replicas"]}
    assert roots == {first.status("demo")["root"]}
    assert sorted(replica["replica"] for replica in of_storage["replicas"]) == replicas
    assert "demo/**  all 2 are equal" in mstctl("root", router=first, check=0).text


def test_keys_are_listed(first):
    def keys(*arguments):
        found = mstctl("--json", "keys", *arguments, router=first, check=0).lines()
        return [entry["key"] for entry in found]

    shown = sorted([*VALUES, "demo/binary", "demo/count/a"])
    assert keys() == shown
    assert keys("--limit", 3) == shown[:3]
    assert keys("demo/count/*") == ["demo/count/a"]
    assert keys("demo/*", "--deleted") == sorted([*VALUES, "demo/binary", "demo/gone"])
    lines = mstctl("keys", "demo/g*", "--deleted", router=first).text.splitlines()
    assert lines == []
    [head, line] = mstctl("keys", "demo/gone", "--deleted", router=first).text.splitlines()
    assert head.split() == ["TIME", "CELLS", "STATE", "KEY"]
    assert line.split()[1:] == ["1", "deleted", "demo/gone"]


def test_a_value_is_shown_with_its_cells(first):
    text = mstctl("get", "demo/count/a", router=first, check=0).text
    assert text.splitlines()[1] == "11"
    assert text.count("additive") == 2
    found = mstctl("--json", "get", "demo/count/a", router=first, check=0).json()
    assert found["value"]["value"] == "11"
    assert [cell["timestamp"].split("/")[0] for cell in found["cells"]]
    assert len(found["cells"]) == 2
    assert mstctl("get", "demo/binary", "--value", router=first, check=0).out == b"\xff\x00"
    assert mstctl("--json", "get", "demo/binary", router=first).json()["value"]["value"] == {
        "hex": "ff00"
    }
    gone = mstctl("get", "demo/gone", router=first, check=1).text
    assert "no value" in gone and "deleted" in gone
    assert mstctl("--json", "get", "demo/never", router=first, check=1).json()["value"] is None


def test_equal_replicas_do_not_differ(first, replicas):
    found = mstctl("--json", "diff", *(id[:8] for id in replicas), router=first, check=0).json()
    assert (found["equal"], found["complete"], found["keys"]) == (True, True, [])


def test_differences_have_a_direction(start_cluster):
    """Replicas with other rules exchange nothing, so that their differences stay."""
    rules = [{}, {"key_overrides": {"demo/never/used": "additive"}}]
    cluster = start_cluster(
        chain(2),
        [{"demo": storage("demo/**", settle="50ms", replication=rule)} for rule in rules],
    )
    first, second = cluster.routers
    cluster.cut()
    same = timestamp(-60)
    for router, age, value in [(first, 50, "old"), (second, 40, "new")]:
        router.client.put("demo/both", "x", timestamp=same)
        router.client.put("demo/changed", value, timestamp=timestamp(-age))
    first.client.put("demo/first", "x")
    second.client.delete("demo/second", timestamp=timestamp(-30))
    first.wait_until_settled("demo", cells=3)
    second.wait_until_settled("demo", cells=3)
    cluster.heal()
    cluster.wait_until_linked()
    wait_for_replicas(first, 2)
    replicas = [identity(router) for router in cluster.routers]

    def differences(a, b):
        found = mstctl("--json", "diff", a, b, router=first, check=1).json()
        assert (found["a"], found["b"], found["equal"]) == (a, b, False)
        return {entry["key"]: entry["difference"] for entry in found["keys"]}

    expected = {"demo/changed": "newer_in_b", "demo/first": "only_a", "demo/second": "only_b"}
    assert differences(*replicas) == expected
    expected = {"demo/changed": "newer_in_a", "demo/first": "only_b", "demo/second": "only_a"}
    assert differences(*reversed(replicas)) == expected
    lines = mstctl("diff", *replicas, router=first, check=1).text.splitlines()
    assert "< demo/first" in lines and "> demo/second" in lines
    assert "~ demo/changed  (newer in B)" in lines
    assert "ISOLATED from 1" in mstctl("status", router=first, check=0).text
    assert "isolated" in mstctl("replicas", router=first, check=0).text
    assert mstctl("--json", "root", router=first, check=1).json()["equal"] is False


def test_replicas_that_are_isolated_are_not_called_equal(start_cluster):
    """Though both are empty, and so have the same root."""
    rules = [{"demo/x/**": "additive"}, {"demo/y/**": "additive"}]
    storages = [
        {"demo": storage("demo/**", settle="50ms", replication={"key_overrides": rule})}
        for rule in rules
    ]
    cluster = start_cluster(chain(2), storages, session="runtime")
    first, second = cluster.routers
    wait_for_replicas(first, 2)
    wait_until(lambda: relations(first) == ["isolated"] * 2, "they know of each other")
    ids = [identity(first), identity(second)]
    for wait in ["10s", "0s"]:
        found = mstctl("--json", "sync", "now", "--wait", wait, router=first, check=1).json()
        [of_storage] = found["storages"]
        assert found["equal"] is of_storage["equal"] is False
        said = {entry["replica"]: (entry["asked"], entry["isolated"]) for entry in of_storage["replicas"]}
        assert said == {ids[0]: ([], [ids[1]]), ids[1]: ([], [ids[0]])}
    text = mstctl("sync", "now", router=first, check=1).text
    assert "demo/**  ISOLATED" in text and f"isolated from {ids[1][:8]}" in text, text


def test_a_replica_that_does_not_answer_is_named(start_cluster):
    cluster = start_cluster(chain(2), REPLICATED, session="runtime")
    first, second = cluster.routers
    wait_for_replicas(first, 2)
    silent = identity(second)
    os.kill(second.pid, signal.SIGSTOP)
    try:
        done = mstctl("--json", "--timeout", "1s", "status", router=first)
    finally:
        os.kill(second.pid, signal.SIGCONT)
    assert [status["identity"] for status in done.json()] == [identity(first)]
    assert f"replica {silent[:8]}" in done.error and "did not answer within 1s" in done.error
    assert not mstctl("--json", "status", router=first).error


def test_replicas_are_had_compare_at_once(first, replicas):
    found = mstctl("--json", "sync", "now", router=first, check=0).json()
    assert found["equal"] is True
    [of_storage] = found["storages"]
    asked = {entry["replica"]: entry["asked"] for entry in of_storage["replicas"]}
    assert asked == {replicas[0]: [replicas[1]], replicas[1]: [replicas[0]]}
    assert "demo/**  equal" in mstctl("sync", "now", router=first, check=0).text


def test_watching_goes_on_until_it_is_interrupted(first, replicas):
    command = [MSTCTL, "-e", f"tcp/127.0.0.1:{first.port}", "--json", "watch", "--every", "100ms"]
    # Who runs the tests in the background has it ignored, and those that it starts, too.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=heard
    ) as watching:
        try:
            for _ in range(3):
                seen = json.loads(watching.stdout.readline())
                assert sorted(replica["replica"] for replica in seen["replicas"]) == replicas
                assert {replica["relation"] for replica in seen["replicas"]} == {"equal"}
            watching.send_signal(signal.SIGINT)
            # Which a shell shows as 130.
            assert watching.wait(PATIENCE) in (130, -signal.SIGINT)
        finally:
            watching.kill()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL], ids=lambda end: end.name)
def test_what_takes_long_ends_with_whoever_asked_for_it(start_router, tmp_path, end):
    router = start_router({"demo": storage("demo/**", settle="50ms")}, session="runtime")
    wait_for_replicas(router, 1)
    # More than fits into all that lies between the two.
    for number in range(96):
        router.client.put(f"demo/{number}", os.urandom(1 << 20))
    router.wait_until_settled("demo", keys=96)
    command = [MSTCTL, "-e", f"tcp/127.0.0.1:{router.port}", "backup", "-"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, stdout=subprocess.PIPE, preexec_fn=heard) as backing_up:
        try:
            # It has begun, and goes no further as long as nobody reads.
            assert backing_up.stdout.read(8) == b"mst1back"
            assert "going on" in mstctl("verify", router=router, check=4).error
            backing_up.send_signal(end)
            backing_up.wait(PATIENCE)
        finally:
            backing_up.kill()

    router.wait_for_log("WARN", "'demo'", "control/backup was not answered", "the client has gone")
    mstctl("backup", tmp_path / "demo.mst", router=router, check=0)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP], ids=lambda end: end.name)
def test_the_terminal_is_given_back(first, end):
    main, side = pty.openpty()
    before = termios.tcgetattr(side)
    command = [MSTCTL, "-e", f"tcp/127.0.0.1:{first.port}", "watch"]
    shown = b""
    with subprocess.Popen(command, stdin=side, stdout=side, stderr=subprocess.DEVNULL) as watching:
        try:
            while b"\x1b[?1049h" not in shown:
                shown += os.read(main, 1 << 16)
            assert termios.tcgetattr(side) != before
            watching.send_signal(end)
            while b"\x1b[?1049l" not in shown:
                shown += os.read(main, 1 << 16)
            assert watching.wait(PATIENCE) == 130
        finally:
            watching.kill()
    assert termios.tcgetattr(side) == before
    os.close(side)
    os.close(main)


# Proving and checking.


def test_a_proof_is_fetched_and_verified(first, tmp_path):
    file = tmp_path / "a.proof"
    found = mstctl("--json", "prove", "demo/01", "-o", file, router=first, check=0).json()
    assert (found["trusted"], found["absent"]) == (True, False)
    assert found["root"] == first.status("demo")["root"]
    assert len(found["vouched_by"]) == 1
    assert found["proof_bytes"] == file.stat().st_size
    root = found["root"]

    # Without any router.
    whole = ["verify", file, "--root", root, "--key", "demo/01"]
    checked = mstctl("--json", *whole, check=0).json()
    assert (checked["holds"], checked["absent"]) == (True, False)
    assert [cell["payload_hash"] for cell in checked["cells"]]
    assert "proven" in mstctl(*whole, check=0).text
    for wrong in [
        ["verify", file, "--root", root, "--key", "demo/02"],
        ["verify", file, "--root", "00" * 32, "--key", "demo/01"],
    ]:
        assert mstctl("--json", *wrong, check=1).json()["holds"] is False
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert mstctl("--json", *whole, check=1).json()["problem"]


def test_that_there_is_nothing_is_proven(first):
    for key, deleted in [("demo/never", []), ("demo/gone", [True])]:
        found = mstctl("--json", "prove", key, router=first, check=0).json()
        assert found["absent"] is True
        assert [cell["deleted"] for cell in found["cells"]] == deleted


def test_a_root_that_is_not_there_cannot_be_proven_by(first):
    error = failure("prove", "demo/01", "--root", "00" * 32, router=first, code=4)
    assert ", not the one asked for: " in error


def test_all_data_is_verified(first, replicas):
    last = mstctl("--json", "-r", replicas[0], "verify", router=first, check=0).lines()[-1]
    assert (last["done"], last["checked"], last["damaged_cells"]) == (True, 24, 0)
    text = mstctl("-r", replicas[0], "verify", router=first, check=0).text
    assert text.strip() == "24 cells checked, no damage"


def test_the_scrub_is_held_and_started(first, replicas):
    def states():
        found = mstctl("--json", "scrub", router=first, check=0).json()
        return {entry["replica"]: entry["scrub"]["state"] for entry in found}

    assert states() == dict.fromkeys(replicas, "running")
    mstctl("-r", replicas[0], "scrub", "pause", router=first, check=0)
    assert states() == {replicas[0]: "paused", replicas[1]: "running"}
    mstctl("-r", replicas[0], "scrub", "resume", router=first, check=0)
    assert states() == dict.fromkeys(replicas, "running")
    last = mstctl("--json", "-r", replicas[1], "scrub", "now", router=first, check=0).lines()[-1]
    assert (last["done"], last["checked"]) == (True, 24)
    assert "last completed" in mstctl("-r", replicas[1], "scrub", router=first, check=0).text


# Backups.


def test_a_storage_goes_to_a_file_and_back(cluster, first, start_router, tmp_path):
    file = tmp_path / "demo.mst"
    written = mstctl("--json", "backup", file, router=first, check=0).json()
    assert written["bytes"] == file.stat().st_size
    assert (written["backup"]["cells"], written["backup"]["key_expr"]) == (24, "demo/**")
    assert written["backup"]["root"] == first.status("demo")["root"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert "it is there" in failure("backup", file, router=first, code=5)
    mstctl("backup", file, "--force", router=first, check=0)
    assert [path.name for path in tmp_path.glob("demo.mst*")] == ["demo.mst"]
    checked = mstctl("--json", "verify", file, check=0).json()
    assert checked["sound"] is True
    assert checked["backup"]["root"] == first.status("demo")["root"]
    assert mstctl("backup", "-", router=first, check=0).out[:8] == b"mst1back"

    other = start_router(REPLICATED, session="runtime")
    wait_for_replicas(other, 1)
    would = mstctl("--json", "restore", "--dry-run", file, router=other, check=0).json()
    assert (would["newest"], would["dry_run"], other.status("demo")["keys"]) == (24, True, 0)
    restored = mstctl("--json", "restore", file, router=other, check=0).json()
    assert (restored["cells"], restored["newest"], restored["rejected"]) == (24, 24, 0)
    assert restored["verified"] is True
    assert other.status("demo")["root"] == first.status("demo")["root"]
    assert other.client.get("demo/*") == VALUES | {"demo/binary": b"\xff\x00"}
    again = mstctl("--json", "restore", file, router=other, check=0).json()
    assert (again["newest"], again["verified"]) == (0, None)

    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert mstctl("--json", "verify", file, check=1).json()["sound"] is False
    assert "damaged" in failure("restore", file, router=other, code=5)


def test_a_backup_of_other_keys_is_refused_unless_it_is_meant(first, start_router, tmp_path):
    file = tmp_path / "demo.mst"
    mstctl("backup", file, router=first, check=0)
    part = start_router({"count": merging("demo/count/**", "additive")}, session="runtime")
    wait_for_replicas(part, 1)
    error = failure("-s", "count", "restore", file, router=part, code=2)
    assert "--force-key-expr" in error
    options = ["--json", "-s", "count", "restore", file, "--force-key-expr"]
    restored = mstctl(*options, router=part, check=1).json()
    assert (restored["newest"], restored["rejected"]) == (2, 22)
    assert part.client.get("demo/**") == {"demo/count/a": b"11"}


def test_going_back_is_asked_for_and_done(start_cluster, tmp_path):
    cluster = start_cluster(chain(2), REPLICATED)
    router, other = cluster.routers
    values = {f"demo/{n}": b"%d" % n for n in range(10)}
    for key, payload in values.items():
        router.client.put(key, payload)
    cluster.wait_until_equal("demo", keys=10)
    wait_for_replicas(router, 2)
    file, own = tmp_path / "demo.mst", ["-r", identity(router)]
    mstctl(*own, "backup", file, router=router, check=0)
    made = mstctl("--json", *own, "snapshot", "create", "before", router=router, check=0)
    assert made.lines()[-1]["cells"] == 10
    listed = mstctl("--json", "snapshot", "list", router=router, check=0).json()
    named = {entry["replica"]: [s["name"] for s in entry["snapshots"]] for entry in listed}
    assert named == {identity(router): ["before"], identity(other): []}

    def change():
        other.client.put("demo/1", "changed")
        other.client.delete("demo/2")
        other.client.put("demo/new", "new")
        cluster.wait_until_equal("demo", keys=10)

    change()
    # Nobody is there to be asked.
    assert "--yes" in failure(*own, "rollback", file, router=router, code=2)
    assert router.client.get("demo/**") != values
    for back in [["rollback", file], ["rollback", "--snapshot", "before"]]:
        before = router.client.get("demo/**")
        would = mstctl("--json", *own, *back, "--dry-run", router=router, check=0)
        would = would.lines()[-1] if "--snapshot" in back else would.json()
        assert [would[name] for name in ("restored", "deleted", "kept")] == [2, 1, 8]
        assert router.client.get("demo/**") == before
        done = mstctl("--json", *own, *back, "--yes", router=router, check=0)
        last = done.lines()[-1] if "--snapshot" in back else done.json()
        counts = [last[name] for name in ("restored", "deleted", "kept")]
        assert counts == [2, 1, 8]
        for each in cluster.routers:
            each.client.wait_for("demo/**", values)
        change()

    content = router.data / "demo/snapshots/before.backup"
    content.write_bytes(b"nothing")
    assert "DAMAGED" in mstctl("snapshot", "list", router=router, check=1).text
    error = failure(*own, "rollback", "--snapshot", "before", "--yes", router=router, code=4)
    assert "'before' cannot be used" in error
    mstctl(*own, "snapshot", "delete", "before", router=router, check=0)
    assert "no snapshots" in mstctl("snapshot", "list", router=router, check=0).text


# Folders.


def test_a_folder_is_looked_into_and_made(start_router, tmp_path):
    router = start_router(
        {"fleet": storage("fleet/**", strip_prefix="fleet", settle="50ms")}, session="runtime"
    )
    for key, payload in [("fleet/a", b"one"), ("fleet/b", b"two"), ("fleet/c", b"gone")]:
        router.client.put(key, payload, timestamp=timestamp(-20))
    router.client.delete("fleet/c", timestamp=timestamp(-10))
    root = router.wait_until_settled("fleet", keys=2, tombstones=1)["root"]
    folder = ["--dir", router.data / "fleet"]
    assert "in use" in failure(*folder, "status", code=5)
    router.stop()

    status = mstctl("--json", *folder, "status", check=0).json()
    assert (status["root"], status["keys"], status["cells"]) == (root, 2, 3)
    assert mstctl("--json", *folder, "root", check=0).json()["root"] == root
    assert root in mstctl(*folder, "root", check=0).text
    keys = mstctl("--json", *folder, "keys", check=0).lines()
    assert [entry["key"] for entry in keys] == ["a", "b"]
    assert mstctl(*folder, "get", "a", "--value", check=0).out == b"one"
    mstctl(*folder, "get", "c", check=1)
    assert mstctl("--json", *folder, "verify", check=0).json()["checked"] == 3
    file = tmp_path / "fleet.mst"
    mstctl(*folder, "-s", "fleet/**", "backup", "--strip-prefix", "fleet", file, check=0)
    assert mstctl("--json", "verify", file).json()["backup"]["root"] == root
    assert "missing or empty" in failure(*folder, "restore", file, code=5)

    copy = tmp_path / "data/fleet"
    copy.parent.mkdir()
    made = mstctl("--json", "--dir", copy, "restore", file, check=0).json()
    assert (made["cells"], made["root"], made["verified"]) == (3, root, True)
    config = {"fleet": storage("fleet/**", strip_prefix="fleet", settle="50ms")}
    other = start_router(config, session="runtime", data=copy.parent)
    assert other.status("fleet")["root"] == root
    assert other.client.get("fleet/**") == {"fleet/a": b"one", "fleet/b": b"two"}


# Errors.


def test_nobody_answers(tmp_path):
    endpoint = f"tcp/127.0.0.1:{free_port()}"
    error = failure("-e", endpoint, "--timeout", "500ms", "status", code=3)
    assert endpoint in error


def test_what_does_not_fit_is_said(first, replicas, tmp_path):
    assert "--help" in mstctl("nonsense", check=2).error
    several = failure("verify", router=first, code=2)
    for replica in replicas:
        assert replica[:8] in several
    assert "demo/**" in failure("-r", "ffff" * 8, "status", router=first, code=3)
    assert "demo/**" in failure("-s", "other/**", "status", router=first, code=3)
    missing = tmp_path / "missing"
    assert str(missing) in failure("verify", missing, code=5)
    assert str(missing) in failure("--dir", missing, "status", code=5)
    (tmp_path / "file").write_text("neither a proof nor a backup")
    failure("verify", tmp_path / "file", code=5)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete(shell):
    script = mstctl("completions", shell, check=0).text
    for command in ["status", "backup", "rollback", "snapshot"]:
        assert command in script


def test_one_bad_answer_spoils_nothing(start_router):
    """Any client can answer as a replica does, and so can a later version."""
    router = start_router({"demo": storage("demo/**", replication={})}, session="runtime")
    wait_for_replicas(router, 1)
    identity = "5a" * 16
    false = f"@mst/2/demo%2f%2a%2a/{identity}"
    client = router.client

    def answer(query):
        what = str(query.key_expr).rsplit("/", 1)[-1]
        query.reply(f"{false}/{'root' if what == 'root' else 'status'}", b"hello")

    queryable = client._session.declare_queryable(f"{false}/*", answer)
    try:
        wait_until(
            lambda: "5a5a5a5a" in mstctl("replicas", router=router, check=0).error,
            "the false replica is told of",
        )
        for command in [["status"], ["root"], ["replicas"], ["sync", "now"]]:
            done = mstctl(*command, router=router, check=0)
            assert "demo/**" in done.text, done
    finally:
        queryable.undeclare()


def test_a_replica_that_is_absent_is_named_and_counted(start_cluster):
    cluster = start_cluster(chain(2), REPLICATED, session="runtime")
    first, second = cluster.routers
    wait_for_replicas(first, 2)
    wait_until(lambda: relations(first) == ["equal", "equal"], "they are equal")
    mstctl("root", router=first, check=0)
    mstctl("root", "--expect", "3", router=first, check=1)
    gone = identity(second)[:8]
    second.kill()
    wait_until(lambda: "absent" in relations(first), "it is missed")
    assert f"absent: {gone}" in mstctl("root", router=first, check=1).text
    assert "1 answer, expected 2" in mstctl("root", "--expect", "2", router=first, check=1).text
    mstctl("root", "--expect", "1", router=first, check=0)
    here = identity(first)
    assert "is there" in failure("members", "forget", here[:8], code=2, router=first)
    would = mstctl("--json", "members", "forget", "--dry-run", gone, router=first, check=0).json()
    assert (would["forgotten_by"], would["dry_run"]) == ([here], True)
    assert "absent" in relations(first)
    done = mstctl("members", "forget", gone, router=first, check=0).text
    assert f"replica {gone} of demo/** is forgotten by {here[:8]}" in done
    mstctl("root", router=first, check=0)
    assert gone in failure("members", "forget", gone, code=3, router=first)
