"""Who may have a storage do what: the option `operators`, and what every change needs."""

import pytest

from operators import Operator, base
from router import storage

#: What operators ask is answered behind the doors: each is asked once, by one door or the other.
pytestmark = pytest.mark.doors("mixed")


def demo(operators, **options):
    chosen = {} if operators is None else {"operators": operators}
    return storage("demo/**", settle="50ms", **{"operators": None, **chosen}, **options)


#: What changes or fills something, with the parameters of each.
CHANGES = [
    ("control/snapshot", "do=create;name=a"),
    ("control/snapshot", "do=delete;name=a"),
    ("control/scrub", "do=pause"),
    ("control/scrub", "do=resume"),
    ("control/collect", "do=now"),
    ("control/sync", ""),
    ("control/forget", f"member={'ab' * 16}"),
    ("control/restore", ""),
    ("control/rollback", ""),
    ("control/rollback", "snapshot=a"),
]

#: What takes long, and changes nothing.
WORK = [("control/verify", ""), ("control/scrub", "do=now"), ("control/backup", "")]

EVERYBODY = "@mst/2/*/*"


@pytest.fixture
def start(start_router):
    def start(operators, **options):
        config = demo(operators, **options)
        return start_router({"demo": config}, session="runtime")

    return start


@pytest.mark.parametrize("verb, parameters", CHANGES + WORK)
def test_a_wildcard_has_nobody_do_anything(start, verb, parameters):
    router = start("all")
    router.client.put("demo/k", "v")
    with Operator(router.port) as operator:
        own = base(router, "demo")
        operator.wait_for_answers(f"{EVERYBODY}/status", 1)
        for everybody in [EVERYBODY, f"{own.rsplit('/', 1)[0]}/*"]:
            refusal = operator.refusal(f"{everybody}/{verb}?{parameters}", b"x" * 32)
            assert "wildcard" in refusal and "one replica" in refusal, refusal
        assert operator.ask(f"{own}/control/snapshot") == []
        assert operator.ask(f"{own}/control/scrub")["state"] == "running"
        assert operator.ask(f"{own}/control/scrub")["last_completed"] is None
    assert router.client.get("demo/k") == {"demo/k": b"v"}


def ask_for(operator, own, verb, parameters, payload=None):
    """The reason why it is refused."""
    return operator.refusal(f"{own}/{verb}?{parameters}", payload)


@pytest.mark.parametrize("verb, parameters", CHANGES)
def test_by_default_a_storage_is_looked_at_and_not_changed(start, verb, parameters):
    router = start(None)
    router.client.put("demo/k", "v")
    with Operator(router.port) as operator:
        own = base(router, "demo")
        operator.wait_for_answers(f"{EVERYBODY}/status", 1)
        refusal = ask_for(operator, own, verb, parameters)
        assert verb in refusal and '`operators: "all"`' in refusal and '"read"' in refusal
        assert operator.ask(f"{own}/control/snapshot") == []
        assert operator.ask(f"{own}/control/scrub")["state"] == "running"
        assert operator.all(f"{own}/control/verify")[-1].json()["done"] is True
        assert len(operator.all(f"{own}/control/backup")) > 0
    assert router.client.get("demo/k") == {"demo/k": b"v"}


@pytest.mark.parametrize("replicated", [False, True])
def test_with_none_no_query_is_answered(start, replicated):
    options = {"replication": {}} if replicated else {}
    router = start("none", **options)
    assert router.status("demo")["name"] == "demo", "the admin space says how it is"
    with Operator(router.port) as operator:
        own = base(router, "demo")
        if replicated:
            # Other replicas are answered all the same.
            operator.wait_for_answers(f"{own}/root", 1)
        for what in ["status", "metrics", "keys", "cells?key=demo/k", "proof?key=demo/k"]:
            assert operator.all(f"{own}/{what}") == []
            assert operator.all(f"{EVERYBODY}/{what}") == []
        for verb, parameters in CHANGES + WORK:
            assert operator.all(f"{own}/{verb}?{parameters}") == []


def test_what_is_changed_is_meant(start):
    router = start("all")
    own = base(router, "demo")
    identity = own.rsplit("/", 1)[-1]
    pause = f"{own}/control/scrub?do=pause"
    with Operator(router.port, is_there=False) as operator:
        operator.wait_for_answers(f"{own}/status", 1)
        for payload in [None, "", "yes", identity[1:], identity.upper()]:
            refusal = operator.refusal(pause, payload)
            assert "payload" in refusal and "identity" in refusal, refusal
        assert "`asker`" in operator.refusal(pause, identity)
        # A session that is not there.
        assert "`asker`" in operator.refusal(f"{pause};asker={'ab' * 16}", identity)
        operator.be_there(own)
        assert "`asker`" in operator.refusal(pause, identity)
        named = f"{pause};asker={operator.id}"
        assert operator.ask(named, identity)["state"] == "paused"
        line = router.wait_for_log("WARN", "'demo'", "control/scrub", "do=pause", operator.id)
        assert "asked for by" in line


def test_somebody_who_has_gone_has_nothing_done(start):
    """A query that comes when its asker is gone: the token went, and the name is known."""
    router = start("all")
    own = base(router, "demo")
    identity = own.rsplit("/", 1)[-1]
    with Operator(router.port) as gone:
        gone.wait_for_answers(f"{own}/status", 1)
        gone.be_there(own)
        name = gone.id
    with Operator(router.port, is_there=False) as late:
        refusal = late.refusal(f"{own}/control/scrub?do=pause;asker={name}", identity)
        assert "`asker`" in refusal
        assert late.ask(f"{own}/control/scrub")["state"] == "running"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_in_a_browser_changes_nothing_through_rest(start, method):
    """REST makes a query of both, with the body as its payload; a token it cannot declare."""
    router = start("all")
    own = base(router, "demo").replace("%", "%25")
    identity = own.rsplit("/", 1)[-1]
    with Operator(router.port) as operator:
        operator.wait_for_answers(f"{EVERYBODY}/status", 1)
        for path in [own, "@mst/2/*/*"]:
            for body in [None, identity]:
                answer = router.request(method, f"{path}/control/scrub?do=pause", body)
                assert b"ERROR" in answer.body, answer
        assert operator.ask(f"{base(router, 'demo')}/control/scrub")["state"] == "running"


def test_nonsense_does_not_flood_the_log_nor_write_lines_of_its_own(start):
    router = start("read")
    own = base(router, "demo")
    with Operator(router.port) as operator:
        operator.wait_for_answers(f"{own}/status", 1)
        forged = "stop\n2026-01-01T00:00:00Z ERROR all is lost"
        for _ in range(100):
            assert "`do`" in operator.refusal(f"{own}/control/scrub?do={forged}")
    lines = [line for line in router.log().splitlines() if "was not answered" in line]
    assert 1 <= len(lines) <= 8, lines
    assert not any(line.startswith("2026-01-01T00") for line in router.log().splitlines())


def test_a_payload_that_is_too_long_is_refused(start):
    router = start("read")
    with Operator(router.port) as operator:
        own = base(router, "demo")
        operator.wait_for_answers(f"{own}/status", 1)
        refusal = operator.refusal(f"{own}/cells", b"x" * (129 << 10))
        assert "131072 at the most" in refusal, refusal


def test_snapshots_are_the_owners_and_have_an_end(start):
    router = start("all")
    router.client.put("demo/k", "v")
    snapshots = router.data / "demo" / "snapshots"
    with Operator(router.port) as operator:
        own = base(router, "demo")
        operator.wait_for_answers(f"{own}/status", 1)
        create = f"{own}/control/snapshot?do=create;name="
        for number in range(32):
            operator.all(f"{create}s{number}")
        assert snapshots.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in snapshots.iterdir()} == {0o600}
        refusal = operator.refusal(f"{create}more")
        assert "32 snapshots" in refusal and "delete one first" in refusal, refusal
        operator.ask(f"{own}/control/snapshot?do=delete;name=s0")
        operator.all(f"{create}more")
