"""What operators can ask of a storage through Zenoh, and what they are answered."""

import json

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from client import timestamp
from cluster import chain, mesh
from conftest import REPOSITORY
from operators import Operator, base, group
from polling import wait_until
from router import storage
from test_merging import merging
from test_replication import DEMO, identity, peer
from test_rest import curl
from test_verify_proof import run as run_verifier
from test_verify_proof import verify_proof

#: What operators ask is answered behind the doors: each is asked once, by one door or the other.
pytestmark = pytest.mark.doors("mixed")

STORAGES = {
    "demo": storage("demo/**", settle="50ms", replication={}),
    "fleet": storage("fleet/**", strip_prefix="fleet", settle="50ms"),
    "count": merging("count/**", "additive"),
    "memory": storage("memory/**", persistence="memory", settle="50ms", replication={}),
}

REPLICATED = ["demo", "memory"]

#: Keys that mean something in selectors, URLs or JSON, or are longer than others.
ODD = [
    "a b",
    'a"b',
    "a%",
    "a%25",
    "a%2f",
    "a&b",
    "a+b",
    "a=b",
    "a\\b",
    "é",
    "\U0001f69a",
    "a\nb",
    "x" * 1000,
    "x/" * 100 + "x",
]

WRITTEN = {
    "demo": {f"demo/{n:02}": b"%d" % n for n in range(30)}
    | {f"demo/{key}": b"odd" for key in ODD}
    | {"demo/long": bytes(5000)},
    "fleet": {f"fleet/{n:02}": b"%d" % n for n in range(12)}
    | {f"fleet/{key}": b"odd" for key in ODD}
    | {"fleet": b"all", "fleet/fleet": b"another"},
    "count": {f"count/{n}": b"3" for n in range(5)},
    "memory": {f"memory/{key}": b"odd" for key in ["a", "a;b", "a;limit=9", "b;"]},
}

#: Of each storage one is deleted.
DELETED = {name: f"{name}/deleted" for name in STORAGES}


def fill(router):
    """Writes what is in `WRITTEN`, and in `DELETED`."""
    for name, values in WRITTEN.items():
        for key, payload in values.items():
            if name == "count":
                for part in (b"1", b"2"):
                    router.client.put(key, part, timestamp=timestamp(-20))
            else:
                router.client.put(key, payload, timestamp=timestamp(-20))
        router.client.delete(DELETED[name], timestamp=timestamp(-10))
    for name, values in WRITTEN.items():
        router.wait_until_settled(name, keys=len(values), tombstones=1)


@pytest.fixture(scope="module", params=[("plugin", "runtime"), ("volume", "client")], ids="-".join)
def router(request, start_shared_router):
    """Its storages have what `fill` writes, and nobody writes any more."""
    door, session = request.param
    router = start_shared_router(STORAGES, door=door, session=session, config_is_writable=True)
    fill(router)
    return router


@pytest.fixture(scope="module")
def operator(router):
    with Operator(router.port) as operator:
        # A session of their own takes the storages a moment.
        operator.wait_for_answers("@mst/2/*/*/status", len(STORAGES))
        yield operator


@pytest.fixture(params=STORAGES)
def name(request):
    return request.param


@pytest.fixture
def own(router, name):
    return base(router, name)


# The status.


def test_each_storage_answers_with_its_status(router, operator):
    answers = operator.all("@mst/2/*/*/status")
    assert sorted(answer.json()["name"] for answer in answers) == sorted(STORAGES)
    for answer in answers:
        status = answer.json()
        name = status["name"]
        assert answer.key == f"{base(router, name)}/status"
        assert answer.encoding == "application/json"
        assert status == router.status(name)
        assert status["configuration"] == router.config_of(STORAGES[name])
        assert status["keys"] == len(WRITTEN[name])
        assert (status["replication"] is not None) == (name in REPLICATED)
        assert status["recovered"] is None
        assert status["scrub"]["state"] == "running"
        assert status["scrub"]["pass"]["of"] == status["cells"]
        assert status["scrub"]["damaged"] == status["scrub"]["quarantined"] == []


def test_a_replica_has_one_identity(router, operator, name):
    status = router.status(name)
    assert len(status["identity"]) == 32
    if name in REPLICATED:
        assert status["replication"]["replica"] == status["identity"]
        assert status["replication"]["group"] == group(STORAGES[name]["key_expr"])


def test_only_what_is_replicated_has_a_token_and_answers_replicas(router, operator):
    replicated = sorted(base(router, name) for name in REPLICATED)
    assert operator.tokens("@mst/2/*/*") == replicated
    assert sorted(answer.key for answer in operator.all("@mst/2/*/*/root")) == [
        f"{own}/root" for own in replicated
    ]
    for name in STORAGES:
        for verb in ["digest", "entries"]:
            selector = f"{base(router, name)}/{verb}"
            if name in REPLICATED:
                assert "cannot be read" in operator.refusal(selector, b"nothing")
            else:
                assert operator.all(selector, b"nothing") == []


def test_the_metrics_are_of_this_storage(router, operator, own, name):
    metrics = operator.one(f"{own}/metrics")
    assert metrics.encoding.startswith("application/openmetrics-text")
    text = metrics.payload.decode()
    assert text.endswith("# EOF\n")
    # Prometheus' own reader takes it, and what is in it is of this storage.
    families = list(text_string_to_metric_families(text))
    samples = [sample for family in families for sample in family.samples]
    assert {sample.labels["storage"] for sample in samples} == {name}
    counters = {family.name for family in families if family.type == "counter"}
    assert "zenoh_mst_dropped_messages" in counters
    [puts] = [sample for sample in samples if sample.name == "zenoh_mst_puts_total"]
    assert puts.value == router.status(name)["counters"]["puts"]


def test_prometheus_reads_all_that_there_can_be():
    """The text of a storage of which everything is known, as `src/metrics/tests.rs` has it."""
    golden = (REPOSITORY / "src/metrics/golden.txt").read_text()
    families = list(text_string_to_metric_families(golden))
    assert {"histogram", "counter", "gauge", "info", "stateset"} == {one.type for one in families}
    with pytest.raises(ValueError):
        list(text_string_to_metric_families(golden.replace("# EOF", "")))


# Keys.


def list_keys(operator, own, **parameters):
    """All keys, page by page. A key with a `;` cannot be in a parameter."""
    listed, after = [], None
    while True:
        words = ";".join(f"{name}={value}" for name, value in parameters.items())
        if after is None or ";" in after:
            page = operator.ask(f"{own}/keys?{words}", after)
        else:
            page = operator.ask(f"{own}/keys?{words};after={after}")
        listed += page["keys"]
        if page["next"] is None:
            return listed
        assert after is None or page["next"] > after, "it goes on"
        after = page["next"]


def names(listed):
    return [entry["key"] for entry in listed]


def test_all_keys_are_listed_in_order(operator, own, name):
    listed = operator.ask(f"{own}/keys")
    assert listed["next"] is None
    assert names(listed["keys"]) == sorted(WRITTEN[name])
    for entry in listed["keys"]:
        of_life = {"expires", "left_ms"}
        assert entry.keys() == {"key", "timestamp", "time", "cells", "bytes", "deleted", "rule"} | of_life
        assert entry["bytes"] is None, "it was not asked for"
        assert entry["cells"] == (2 if name == "count" else 1)
        assert entry["deleted"] is False


@pytest.mark.parametrize("limit", [1, 7, 10_000])
def test_pages_are_all_there_is(operator, own, name, limit):
    whole = operator.ask(f"{own}/keys?deleted=true")
    paged = list_keys(operator, own, deleted="true", limit=limit, match=f"{name}/*")
    assert names(paged) == [key for key in names(whole["keys"]) if key.count("/") == 1]


def test_a_page_has_as_many_as_asked_for(operator, own, name):
    keys = sorted(WRITTEN[name])
    page = operator.ask(f"{own}/keys?limit=1")
    assert (names(page["keys"]), page["next"]) == (keys[:1], keys[0])
    page = operator.ask(f"{own}/keys?limit=1;after={keys[0]}")
    assert names(page["keys"]) == keys[1:2]
    whole = operator.ask(f"{own}/keys?deleted=true;limit={len(keys) + 1}")
    assert (len(whole["keys"]), whole["next"]) == (len(keys) + 1, None)


def test_deleted_keys_are_listed_when_asked_for(operator, own, name):
    listed = operator.ask(f"{own}/keys?deleted=true")["keys"]
    [deleted] = [entry for entry in listed if entry["deleted"]]
    assert deleted["key"] == DELETED[name]
    assert names(listed) == sorted([*WRITTEN[name], DELETED[name]])


def test_keys_are_matched_with_their_prefix(router, operator):
    fleet = base(router, "fleet")
    one = operator.ask(f"{fleet}/keys?match=fleet/01")
    assert names(one["keys"]) == ["fleet/01"]
    below = [key for key in sorted(WRITTEN["fleet"]) if key.count("/") == 1]
    assert names(operator.ask(f"{fleet}/keys?match=fleet/*")["keys"]) == below
    assert names(operator.ask(f"{fleet}/keys?match=fleet")["keys"]) == ["fleet"]
    assert names(operator.ask(f"{fleet}/keys?match=**")["keys"]) == sorted(WRITTEN["fleet"])
    assert names(operator.ask(f"{fleet}/keys?match=demo/**")["keys"]) == []


def test_keys_between_cells_are_listed(router, operator):
    """The bounds are bytes of cells, as `control/diff` answers them: docs/formats.md."""
    bounds = [b"\x01demo/05\x00\x01", b"\x01demo/08\x00\x01"]
    low, high = (bound.hex() for bound in bounds)
    demo = base(router, "demo")
    listed = operator.ask(f"{demo}/keys?low={low};high={high}")
    assert names(listed["keys"]) == ["demo/06", "demo/07"]
    listed = operator.ask(f"{demo}/keys?high={low};limit=3;after=demo/01")
    assert (names(listed["keys"]), listed["next"]) == (["demo/02", "demo/03", "demo/04"], None)


# Cells and proofs.


@pytest.mark.parametrize("how", ["payload", "parameter"])
def test_the_cells_of_a_key_are_what_raw_gives(router, operator, own, name, how):
    for key in [*WRITTEN[name], DELETED[name]]:
        if how == "parameter" and ";" in key:
            continue  # It would be two parameters.
        cells = cells_of(operator, own, key, how)
        raw = router.client.get(f"{key}?raw")
        assert cells == json.loads(raw[key]), key
        assert len(cells) == (2 if name == "count" and key != DELETED[name] else 1)
        assert bool(cells[0].get("deleted")) == (key == DELETED[name])


def cells_of(operator, own, key, how="payload"):
    if how == "payload":
        return operator.ask(f"{own}/cells", key)
    return operator.ask(f"{own}/cells?key={key}")


def test_a_key_that_is_not_there_has_no_cells(operator, own, name):
    assert cells_of(operator, own, f"{name}/none") == []


def stored(name, key):
    """The key within the storage, as proofs have it."""
    prefix = STORAGES[name].get("strip_prefix")
    return key if prefix is None else key[len(prefix) + 1 :]


def test_a_key_is_proven_against_the_root_of_the_status(router, operator, own, name):
    root, cut = (router.status(name)[field] for field in ["root", "cut"])
    for key in [*WRITTEN[name], DELETED[name], f"{name}/none"]:
        answer = operator.one(f"{own}/proof?root={root}", key)
        assert answer.attachment.keys() == {"root", "cut"}
        assert answer.attachment["root"] == root
        assert answer.attachment["cut"] >= cut, "nothing was written since"
        proof = verify_proof.Proof(answer.payload, verify_proof.canonical(stored(name, key)))
        assert proof.root.hex() == root
        stamps = sorted(cell.stamp for cell in proof.cells)
        cells = cells_of(operator, own, key)
        assert stamps == sorted(cell["timestamp"] for cell in cells), key
        if name != "count" and key in WRITTEN[name]:
            [cell] = proof.cells
            length, _ = cell.payload
            assert length == len(WRITTEN[name][key])


def test_the_example_verifies_a_proof(router, operator, run_verifier):
    fleet, root = base(router, "fleet"), router.status("fleet")["root"]
    for key, value in [("fleet", b"all"), ("fleet/07", b"7")]:
        proof = operator.one(f"{fleet}/proof", key).payload
        result = run_verifier(root, stored("fleet", key), proof, value)
        assert result.returncode == 0, result.stderr
        assert run_verifier(root, stored("fleet", key), proof, b"x").returncode == 1
    result = run_verifier("00" * 32, "07", proof)
    assert result.returncode == 1


# What is refused.

_OTHER_ROOT = "00" * 32


@pytest.mark.parametrize(
    ["selector", "key", "says"],
    [
        ("proof", "", ["`key`", "a key of the storage"]),
        ("cells", None, ["`key`", "a key of the storage"]),
        ("proof", "fleet/*", ["'fleet/*'", "'fleet/**'", "without wildcards"]),
        ("proof", "fleet//a", ["'fleet//a'", "the whole key"]),
        ("proof", b"fleet/\xff", ["is not a key of the storage on 'fleet/**'"]),
        ("proof", "fleetx", ["'fleetx' is not a key of the storage on 'fleet/**'"]),
        ("proof", "other/a", ["'other/a' is not a key of the storage on 'fleet/**'"]),
        ("cells", "other/a", ["'other/a' is not a key of the storage on 'fleet/**'"]),
        ("keys?after=other/a", None, ["'other/a' is not a key of the storage"]),
        ("proof?root=12", "fleet/01", ["`root`", "'12'", "64 hexadecimal digits"]),
        (f"proof?root={_OTHER_ROOT}", "fleet/01", ["root", "ask again"]),
        ("keys?limit=many", None, ["`limit`", "'many'", "a number"]),
        ("keys?limit=-1", None, ["`limit`", "'-1'", "a number"]),
        ("keys?match=a//b", None, ["`match`", "'a//b'", "a key expression"]),
        ("keys?low=0g", None, ["`low`", "'0g'", "hexadecimal"]),
        ("keys?high=07", None, ["`high`", "'07'", "hexadecimal"]),
        ("keys?deleted=perhaps", None, ["`deleted`", "'perhaps'", "true"]),
        ("control/scrub?do=stop", None, ["`do`", "'stop'", "`pause`, `resume`, `now` and `acknowledge`"]),
        ("control/snapshot?do=take", None, ["`do`", "'take'", "`list`, `create` and `delete`"]),
        ("control/diff", None, ["`with`", "32 hexadecimal digits"]),
        ("control/diff?with=ab", None, ["`with`", "'ab'", "32 hexadecimal digits"]),
        (f"control/diff?with={'ab' * 16}", None, ["is not replicated"]),
        ("control/restore", None, ["cannot be read"]),
        ("control/rollback", None, ["cannot be read"]),
    ],
)
def test_what_cannot_be_answered_is_refused_and_said_why(router, operator, selector, key, says):
    refusal = operator.refusal(f"{base(router, 'fleet')}/{selector}", key)
    for text in says:
        assert text in refusal


@pytest.mark.parametrize("words", ["proof?key", "cells?key", "keys?after"])
def test_a_key_that_is_not_of_the_storage_is_refused_without_a_prefix_too(router, operator, words):
    refusal = operator.refusal(f"{base(router, 'demo')}/{words}=other/a")
    assert "'other/a' is not a key of the storage on 'demo/**'" in refusal


@pytest.mark.parametrize(
    ["selector", "allowed"],
    [
        ("keys?limt=5", "`limit`"),
        ("proof?key=fleet/01;roots=1", "`root`"),
        ("control/snapshot?to=list", "`do`"),
    ],
)
def test_a_parameter_that_there_is_not_is_refused(router, operator, selector, allowed):
    assert allowed in operator.refusal(f"{base(router, 'fleet')}/{selector}")


def test_a_replica_that_is_not_there_cannot_be_compared_with(router, operator):
    other = "ab" * 16
    refusal = operator.refusal(f"{base(router, 'demo')}/control/diff?with={other}")
    assert refusal == f"replica {other}: there was no answer"


def test_nobody_answers_what_there_is_not(router, operator, own):
    assert operator.all(f"{own}/control/stop") == []
    assert operator.all(f"{own}/values") == []


def test_without_peers_nobody_is_asked_to_synchronize(operator, own):
    assert operator.ask(f"{own}/control/sync") == {"asked": []}


# curl.


def values_of(router, path):
    status, body = curl("-g", f"{router.rest_url}/{path}")
    assert status == 200, body
    return {reply["key"]: reply["value"] for reply in json.loads(body)}


def test_curl_is_answered(router, operator):
    statuses = values_of(router, "@mst/2/*/*/status")
    assert {status["name"] for status in statuses.values()} == set(STORAGES)
    demo = base(router, "demo")
    path = demo.replace("%", "%25")
    assert list(values_of(router, f"{path}/status")) == [f"{demo}/status"]
    [page] = values_of(router, f"{path}/keys?limit=2;after=demo/01").values()
    assert names(page["keys"]) == ["demo/02", "demo/03"]
    [cells] = values_of(router, f"{path}/cells?key=demo/01").values()
    assert cells == cells_of(operator, demo, "demo/01")
    [scrub] = values_of(router, f"{path}/control/scrub").values()
    assert scrub == router.status("demo")["scrub"]


def test_curl_can_read_why_it_is_refused(router, operator):
    fleet = base(router, "fleet").replace("%", "%25")
    refused = values_of(router, f"{fleet}/keys?limit=many")
    assert refused == {"ERROR": "the parameter `limit` cannot be 'many': allowed is a number"}


# Storages that come and go.


def test_a_storage_that_is_removed_answers_no_more(start_router):
    router = start_router(STORAGES, session="runtime", config_is_writable=True)
    with Operator(router.port) as operator:
        operator.wait_for_answers("@mst/2/*/*/status", len(STORAGES))
        gone = {name: base(router, name) for name in ["demo", "count"]}
        for name in gone:
            router.remove_storage(name)
        operator.wait_for_answers("@mst/2/*/*/status", len(STORAGES) - len(gone))
        for own in gone.values():
            for verb in ["status", "keys", "control/scrub", "digest", "root"]:
                operator.wait_for_answers(f"{own}/{verb}", 0)
        wait_until(
            lambda: operator.tokens("@mst/2/*/*") == [base(router, "memory")],
            "the token is gone",
        )
        router.add_storage("demo", STORAGES["demo"])
        operator.wait_for_answers(f"{gone['demo']}/status", 1)
        assert base(router, "demo") == gone["demo"], "the identity is kept with the data"


def test_what_is_not_replicated_keeps_its_identity_if_it_is_on_disk(start_router):
    storages = {name: STORAGES[name] for name in ["fleet", "memory"]}
    router = start_router(storages, session="runtime")
    before = {name: base(router, name) for name in storages}
    router.restart()
    assert base(router, "fleet") == before["fleet"]
    assert base(router, "memory") != before["memory"]


# Several replicas.


def ask_of(cluster, number, verb):
    """What one of the routers of a cluster answers, asked through another."""
    routers = cluster.routers
    with Operator(routers[number - 1].port) as operator:
        own = base(routers[number], "demo")
        operator.wait_for_answers(f"{own}/status", 1)
        return operator.ask(f"{own}/{verb}")


def lacks(cluster, at, of):
    """The keys of which one router lacks something that another has, by `control/diff`,
    and the newest timestamp that it has of them.

    Digests do not tell which of two cells is newer: of a key that both have, each is said
    to lack what the other has.
    """
    there, here = cluster.routers[of], cluster.routers[at]
    with Operator(there.port) as operator:
        operator.wait_for_answers(f"{base(here, 'demo')}/status", 1)
        selector = f"{base(here, 'demo')}/control/diff?with={identity(there)}"
        found = operator.ask(selector)
        assert found["complete"] is True
        assert found["round_trips"] >= 1
        assert 0 < found["bytes"] < 100_000
        keys = {entry["key"]: entry["here"] for entry in found["differ"]}
        for bounds in found["ranges"]:
            given = {name: bound for name, bound in bounds.items() if bound is not None}
            listed = list_keys(operator, base(there, "demo"), deleted="true", **given)
            keys |= {key: None for key in names(listed)}
        return keys


def stamp_of(router, key):
    with Operator(router.port) as operator:
        [cell] = operator.ask(f"{base(router, 'demo')}/cells", key)
        return cell["timestamp"]


@pytest.mark.parametrize("session", ["runtime", "client"])
def test_equal_replicas_have_no_differences(start_cluster, session):
    cluster = start_cluster(mesh(3), DEMO, session=session)
    for n in range(100):
        cluster.routers[n % 3].client.put(f"demo/{n}", "x")
    cluster.wait_until_equal("demo", keys=100)
    others = sorted(identity(router) for router in cluster.routers[1:])
    assert sorted(ask_of(cluster, 0, "control/sync")["asked"]) == others
    for at, of in [(0, 1), (1, 2), (2, 0)]:
        assert lacks(cluster, at, of) == {}


def test_a_replica_whose_link_is_cut_is_not_asked(start_cluster):
    cluster = start_cluster(chain(2), DEMO)
    first, second = cluster.routers
    first.client.put("demo/a", "x")
    cluster.wait_until_equal("demo", keys=1)
    cluster.cut()
    first.wait_for_status("demo", lambda status: not peer(status)["present"], "it is alone")
    with Operator(first.port) as operator:
        own = base(first, "demo")
        assert operator.ask(f"{own}/control/sync") == {"asked": []}
        refusal = operator.refusal(f"{own}/control/diff?with={identity(second)}")
        assert refusal == f"replica {identity(second)}: there was no answer"


def test_a_synchronization_is_made_when_it_is_asked_for(start_cluster):
    """Not only when it is due, which here is in a day."""
    rarely = {"demo": storage("demo/**", settle="50ms", replication={"sync_interval": "24h"})}
    cluster = start_cluster(chain(2), rarely)
    first, second = cluster.routers
    first.client.put("demo/a", "x")
    cluster.wait_until_equal("demo", keys=1)
    first.wait_for_status("demo", lambda s: peer(s)["relation"] == "equal", "it is equal")
    before = peer(first.status("demo"))["last_equal"]
    wait_until(
        lambda: ask_of(cluster, 0, "control/sync") == {"asked": [identity(second)]}
        and peer(first.status("demo"))["last_equal"] > before,
        "they are compared again",
    )


#: Replicas with different rules exchange nothing, so that their differences stay.
ISOLATED = [
    {"demo": storage("demo/**", settle="50ms", replication=rules)}
    for rules in [{}, {"key_overrides": {"demo/never/used": "additive"}}]
]


def test_differences_are_found_both_ways(start_cluster):
    cluster = start_cluster(chain(2), ISOLATED)
    first, second = cluster.routers
    cluster.cut()
    for n in range(300):
        at = timestamp(-60)
        for router in cluster.routers:
            router.client.put(f"demo/both/{n}", "x", timestamp=at)
    first.client.put("demo/changed", "old", timestamp=timestamp(-50))
    second.client.put("demo/changed", "new", timestamp=timestamp(-40))
    first.client.delete("demo/both/17", timestamp=timestamp(-40))
    second.client.put("demo/second", "x", timestamp=timestamp(-40))
    second.client.delete("demo/second/deleted", timestamp=timestamp(-40))
    for n in range(200):
        first.client.put(f"demo/first/{n}", "x", timestamp=timestamp(-40))
    first.client.delete("demo/first/deleted", timestamp=timestamp(-40))
    first.wait_until_settled("demo", cells=300 + 1 + 200 + 1)
    second.wait_until_settled("demo", cells=300 + 1 + 2)
    cluster.heal()
    cluster.wait_until_linked()

    def other(router):
        return {key: stamp_of(router, key) for key in ["demo/changed", "demo/both/17"]}

    assert lacks(cluster, at=0, of=1) == other(first) | {
        "demo/second": None,
        "demo/second/deleted": None,
    }
    assert lacks(cluster, at=1, of=0) == other(second) | {
        "demo/first/deleted": None,
        **{f"demo/first/{n}": None for n in range(200)},
    }
