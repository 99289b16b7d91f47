"""The page that a storage answers with: what is served, and what a browser makes of it.

The browser is a real one: see `browser.py`. Only if none is on the machine and none can be fetched are the tests that
need it skipped, with the reason.
"""

import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

from browser import Browser, NoBrowser, find
from client import timestamp
from conftest import REPOSITORY
from operators import Operator, base
from polling import wait_until
from router import storage
from test_rest import curl

#: The page is asked for behind the doors: once is enough.
pytestmark = pytest.mark.doors("mixed")

STORAGES = {
    "demo": storage("demo/**", settle="50ms", replication={"sync_interval": "1s"}),
    "fleet": storage("fleet/**", strip_prefix="fleet", settle="50ms", persistence="memory"),
}

#: The proofs, and forgeries, that the library's own test pins (src/proof/tests.rs).
_VECTORS = json.loads((REPOSITORY / "tests/vectors/proofs.json").read_text())
_ACCEPTED = {vector["name"]: vector for vector in _VECTORS["accepted"]}
_REFUSED = {vector["name"]: vector for vector in _VECTORS["refused"]}

#: If it ever got into the page as anything but text, the page would tell.
EVIL = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
#: A key has no empty chunks.
EVIL_KEY = "demo/evil <script>window.hacked = 3<|script> <img src=x onerror='window.hacked = 4'>"

#: A picture of one pixel.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154"
    "789c63f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)

NUMBERED = 300


@pytest.fixture(scope="module")
def routers(start_shared_router):
    """Two linked routers with the same data, which nobody changes any more."""
    first = start_shared_router(STORAGES, session="runtime")
    second = start_shared_router({"demo": STORAGES["demo"]}, connect=[first.endpoint], session="runtime")
    written = {f"demo/n/{n:04}": b"%d" % n for n in range(NUMBERED)}
    for key, payload in written.items():
        first.client.put(key, payload, timestamp=timestamp(-20))
    first.client.put(EVIL_KEY, EVIL, encoding="text/html", timestamp=timestamp(-20))
    first.client.put("demo/json", '{"a":[1,12345678901234567890]}', encoding="application/json")
    first.client.put("demo/pixel", PNG, encoding="image/png")
    first.client.put("demo/gone", "x", timestamp=timestamp(-20))
    first.client.delete("demo/gone", timestamp=timestamp(-10))
    first.client.put("fleet/a", "of the fleet")
    for router in (first, second):
        router.wait_until_settled("demo", keys=len(written) + 3, tombstones=1)
    first.wait_until_settled("fleet", keys=1)
    return first, second


@pytest.fixture(scope="module")
def operator(routers):
    with Operator(routers[0].port) as operator:
        operator.wait_for_answers("@mst/2/*/*/status", 3)
        yield operator


@pytest.fixture(scope="module")
def program():
    try:
        return find()
    except NoBrowser as none:
        pytest.skip(f"NO BROWSER: the page was not tried in one: {none}")


def address(router, name, what="ui"):
    """Where REST has what a replica answers: it decodes a path once."""
    path = base(router, name).replace("%", "%25")
    return f"{router.rest_url}/{path}/{what}?_raw=true"


@pytest.fixture
def page(program, tmp_path, routers):
    """The page of the first router's replica of `demo`, open in a browser."""
    with Browser(program, tmp_path / "browser") as browser:
        browser.open(address(routers[0], "demo"))
        browser.wait_for("document.querySelectorAll('#replicas tr').length >= 3")
        yield browser
        assert browser.complaints == []
        assert browser.run("window.hacked") is None
        outside = [url for url in browser.asked if not url.startswith(routers[0].rest_url)]
        assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []


# What is served.


def test_the_page_is_one_file_without_anything_from_outside(routers):
    status, text = curl("-i", address(routers[0], "demo"))
    assert status == 200
    head, _, body = text.replace("\r\n", "\n").partition("\n\n")
    assert "content-type: text/html;charset=utf-8" in head.lower()
    assert body.startswith("<!doctype html>")
    assert body.rstrip().endswith("</html>")
    assert not re.search(r"https?://|\bsrc=[\"']?\w|@import|url\(", body)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', body)[1]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='(;|$)", policy)


def test_a_storage_that_answers_nobody_has_no_page(start_router):
    demo = storage("demo/**", replication={}, operators="none")
    fleet = storage("fleet/**", replication={})
    router = start_router({"demo": demo, "fleet": fleet}, session="runtime")
    with Operator(router.port) as operator:
        operator.wait_for_answers("@mst/2/*/*/ui", 1)
        assert operator.all(f"{base(router, 'demo')}/ui") == []
        assert operator.all(f"{base(router, 'demo')}/tree") == []


def test_wrong_parameters_are_refused(operator, routers):
    own = base(routers[0], "demo")
    assert "there is no parameter `x` here" in operator.refusal(f"{own}/ui?x=1")
    assert "the parameter `low` cannot be 'zz'" in operator.refusal(f"{own}/tree?low=zz")
    assert "the parameter `prefix` cannot be 'f'" in operator.refusal(f"{own}/keys?prefix=f")


# The tree.


def opened(operator, own, low=None, high=None):
    """All keys between two bounds, by opening one node after the other."""
    bounds = [("low", low), ("high", high)]
    parameters = ";".join(f"{name}={bound}" for name, bound in bounds if bound)
    node = operator.ask(f"{own}/tree?{parameters}")["node"]
    keys, hashes = [], {child["place"]: child for child in node["children"]}
    for place in range(node["count"] + 1):
        child = hashes.get(place)
        if child:
            below, hash = opened(operator, own, child["low"], child["high"])
            assert (len(below), hash) == (child["cells"], child["hash"])
            assert child["all"] is True
            keys += below
        if place < node["count"]:
            keys.append(node["entries"][place]["key"])
    return keys, node["hash"]


def test_all_keys_are_found_by_opening_the_tree(operator, routers):
    own = base(routers[0], "demo")
    answer = operator.ask(f"{own}/tree")
    keys, hash = opened(operator, own)
    listed = operator.ask(f"{own}/keys?deleted=true")["keys"]
    assert keys == [listed["key"] for listed in listed]
    assert hash == answer["root"] == routers[0].status("demo")["root"]
    assert operator.ask(f"{base(routers[0], 'fleet')}/tree")["node"]["entries"][0]["key"] == "fleet/a"


def test_keys_are_listed_by_prefix(operator, routers):
    own = base(routers[0], "demo")
    for prefix, number in (("demo/n/00", 100), ("demo/n/", NUMBERED), ("demo/n/0007", 1), ("x", 0)):
        listed = operator.ask(f"{own}/keys?prefix={prefix.encode().hex()}")
        assert len(listed["keys"]) == number, prefix
        assert all(key["key"].startswith(prefix) for key in listed["keys"])
        assert listed["next"] is None


# In a browser.


def test_replicas_are_listed_with_what_they_make_of_each_other(page, routers):
    for router in routers:
        page.wait_for(f"document.body.innerText.includes({router.status('demo')['identity'][:8]!r})")
    page.wait_for("document.querySelectorAll('#replicas td.equal').length === 1")
    root = routers[0].status("demo")["root"][:8]
    roots = "[...document.querySelectorAll('#replicas code')].map(code => code.textContent)"
    page.wait_for(f"{roots}.filter(root => root === {root!r}).length === 2")
    assert page.run("document.getElementById('summary').textContent").startswith("3 replicas, 2 groups")
    # Plots of what comes.
    page.click("[data-part=plots]")
    page.wait_for("document.querySelectorAll('figure path')[1].getAttribute('d').includes('L')")


def test_an_address_with_a_wildcard_begins_with_any_replica(page, routers):
    own = address(routers[0], "demo")
    page.open(own.replace(routers[0].status("demo")["identity"], "*"))
    page.wait_for("location.pathname.includes('*') && document.getElementById('details')?.innerText.includes('Root')")


def test_announcements_come_as_they_are_made(page, routers):
    """The page hears of a root that it was not told of by a status."""
    router = routers[1]
    name, root = router.status("demo")["identity"], router.status("demo")["root"]
    found = f"[...replicas.values()].find(replica => replica.name === {name!r})"
    page.wait_for(f"{found}?.root === {root!r}")
    page.run(f"askAround = async () => {{}}; {found}.root = undefined; listen(true)")
    page.wait_for(f"{found}.root === {root!r}")
    page.run("listen(false)")
    assert page.run("source") is None


def test_a_script_that_was_stored_is_shown_as_text(page):
    page.click("[data-part=keys]")
    page.wait_for("document.querySelectorAll('#listed li').length > 0")
    listed = page.run("[...document.querySelectorAll('#listed button')].map(b => b.textContent)")
    assert EVIL_KEY in listed
    place = listed.index(EVIL_KEY)
    page.run(f"document.querySelectorAll('#listed button')[{place}].click()")
    page.wait_for("document.querySelectorAll('#value pre, #cells pre').length === 2")
    assert page.run("document.querySelector('#value pre').textContent") == EVIL
    assert EVIL.split("'")[0] in page.run("document.querySelector('#cells pre').textContent")
    assert page.run("document.querySelector('#opened h2').textContent") == EVIL_KEY
    assert page.run("document.querySelectorAll('#opened script, #opened img, #listed img').length") == 0
    page.click("[data-part=tree]")
    page.wait_for("document.querySelectorAll('.node .key').length > 0")


def test_values_are_shown_as_what_they_are(page):
    def open_key(key):
        page.run(f"document.getElementById('prefix').value = {key!r}; search()")
        listed = "[...document.querySelectorAll('#listed button')].map(button => button.textContent)"
        page.wait_for(f"{listed}.join() === {key!r}")
        page.click("#listed button")

    page.click("[data-part=keys]")
    open_key("demo/json")
    page.wait_for("document.querySelector('#value pre')?.textContent.includes('12345678901234567890')")
    assert json.loads(page.run("document.querySelector('#value pre').textContent"))["a"][0] == 1
    open_key("demo/pixel")
    page.wait_for("document.querySelector('#value img')?.naturalWidth === 1")


def test_the_last_list_of_keys_that_was_asked_for_is_shown(page):
    page.click("[data-part=keys]")
    listed = "document.querySelectorAll('#listed li').length"
    page.wait_for(f"{listed} > 1")
    # The answer to the first question comes after that to the second.
    page.run(
        "{ const asked = ask; ask = async (...question) => {"
        " const answer = await asked(...question);"
        " if (!window.release) await new Promise((done) => { window.release = done; });"
        " return answer; }; }"
    )
    page.run("void search()")
    page.wait_for("window.release !== undefined")
    page.run("document.getElementById('prefix').value = 'demo/n/0007'; void search()")
    page.wait_for(f"{listed} === 1")
    page.run("window.release()")
    page.wait_for(f"{listed} === 1")
    assert page.run(listed) == 1


def test_a_proof_holds_and_another_root_is_refused(page, routers):
    page.click("[data-part=keys]")
    page.run("document.getElementById('prefix').value = 'demo/n/0007'; search()")
    page.wait_for("document.querySelectorAll('#listed li').length === 1")
    page.click("#listed button")
    page.wait_for("document.getElementById('verdict')?.className === 'good'")
    page.wait_for("document.querySelector('#proof li')?.textContent.includes('the value that is shown above')")
    root = routers[0].status("demo")["root"]
    page.run(f"document.getElementById('root').value = {root!r}")
    page.click("#check")
    page.wait_for("document.getElementById('verdict').textContent.includes('the root that you trust')")
    other = ("0" if root[0] != "0" else "1") + root[1:]
    page.run(f"document.getElementById('root').value = {other!r}")
    page.click("#check")
    page.wait_for("document.getElementById('verdict').className === 'bad'")
    assert f"it is against the root {root}" in page.run("document.getElementById('verdict').textContent")


#: Runs the verifier of the page over vectors: the names of those that it accepts.
ACCEPTS = """(async (vectors, subtle) => {
  if (!subtle) sha256 = async (bytes) => ownSha256(bytes);
  const accepted = [];
  for (const { name, key, proof, root, cells } of vectors) {
    try {
      const proven = await verifyProof(bytesOfHex(proof), canonicalKey(key), root);
      const found = proven.cells.map(({ part, timestamp }) => [part, timestamp]);
      const wanted = (cells ?? []).map(({ part, timestamp }) => [part, timestamp]);
      if (cells && JSON.stringify(found) !== JSON.stringify(wanted)) throw new Error("other cells");
      accepted.push(name);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
    }
  }
  return accepted;
})"""


@pytest.mark.parametrize("subtle", [True, False], ids=["WebCrypto", "without"])
def test_the_verifier_accepts_what_the_library_makes_and_nothing_else(page, subtle):
    assert page.run("!!crypto.subtle")
    changed = []
    for vector in _ACCEPTED.values():
        proof = bytes.fromhex(vector["proof"])
        # Every byte of the short ones, some of the others.
        for place in range(0, len(proof), max(1, len(proof) // 60)):
            other = proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :]
            changed.append({**vector, "proof": other.hex(), "cells": None})
    # The same cell, said in another way.
    other = _ACCEPTED["before the only cell"]
    common, less = "000600066c616d700001", "000500072f6c616d700001"
    assert common in other["proof"]
    changed.append({**other, "proof": other["proof"].replace(common, less), "cells": None})
    flag = json.dumps(subtle)
    accepted = page.run(f"{ACCEPTS}({json.dumps(list(_ACCEPTED.values()))}, {flag})")
    assert accepted == list(_ACCEPTED)
    assert page.run(f"{ACCEPTS}({json.dumps(list(_REFUSED.values()))}, {flag})") == []
    assert len(changed) > 200
    assert page.run(f"{ACCEPTS}({json.dumps(changed)}, {flag})") == []


def test_two_trees_stand_beside_each_other_and_what_differs_is_lit(page, routers):
    page.wait_for("document.querySelectorAll('#beside option').length === 2")
    page.click("[data-part=tree]")
    page.run("""{
      const choice = document.getElementById("beside");
      choice.selectedIndex = 1;
      choice.dispatchEvent(new Event("change"));
    }""")
    page.wait_for("document.querySelectorAll('.trees > div > .node.same').length === 2")
    assert page.run("document.querySelectorAll('.differs').length") == 1  # the legend's
    page.click(".child")
    page.wait_for("document.querySelectorAll('.below .node.same').length === 2")
    # What one of the two has, and the other has not. Counted at once: the trees may be read anew.
    differing = page.run("""(() => {
      const [side] = branches.get("-").sides;
      // One of 256 begins with 00 by itself.
      const another = (hash) => (hash.startsWith("00") ? "01" : "00") + hash.slice(2);
      side.node.hash = another(side.node.hash);
      side.node.entries[0].digest = another(side.node.entries[0].digest);
      drawTrees();
      const drawn = (what) => document.querySelectorAll(what).length;
      return [drawn(".trees .key.differs"), drawn(".node.other")];
    })()""")
    assert differing == [2, 2]


def test_the_page_is_used_by_keyboard_and_on_a_phone(page):
    page.press("Tab")
    assert page.run("document.activeElement.className") == "skip"
    for _ in range(2):
        page.press("Tab")
    assert page.run("document.activeElement.textContent") == "Plots"
    page.press("Enter")
    page.wait_for("!document.getElementById('plots').hidden && document.getElementById('fleet').hidden")
    unnamed = """[...document.querySelectorAll("button, input, select")].filter(
      (one) => !one.textContent.trim() && !one.labels?.length && !one.getAttribute("aria-label"))"""
    assert page.run(f"{unnamed}.length") == 0
    page.call("Emulation.setDeviceMetricsOverride", width=360, height=640, deviceScaleFactor=2, mobile=True)
    for part in ("fleet", "plots", "tree", "keys"):
        page.click(f"[data-part={part}]")
        page.wait_for(f"!document.getElementById('{part}').hidden")
        assert page.run("document.documentElement.scrollWidth <= 360"), part
    schemes = set()
    for scheme in ("light", "dark"):
        page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        schemes.add(page.run("getComputedStyle(document.body).backgroundColor"))
    assert len(schemes) == 2


#: Has the page show replicas that are not there.
CROWD = """
  askAround = async () => {};
  for (let n = 0; n < 100; n++) {
    const name = n.toString(16).padStart(32, "0");
    const replica = replicaOf("crowd%2f%2a%2a", name);
    take(replica, { ...chosen.status, name: `r${n}`, replication: { ...chosen.status.replication,
      peers: Array.from({ length: 99 }, (_, m) => ({ replica: (m + (m >= n)).toString(16).padStart(32, "0"),
        present: true, relation: "equal", root: chosen.status.root, cut: chosen.status.cut, cells: 1,
        since: chosen.status.cut, last_equal: chosen.status.cut })) } });
  }
  draw();
  document.querySelectorAll("#replicas tr").length
"""


def test_a_hundred_replicas_have_a_row_each(page):
    page.wait_for("chosen?.status !== undefined")
    assert page.run(CROWD) == 103


CROWD_SIZE = 100
CROWD_GROUP = "crowd%2f%2a%2a"


def name_of(number):
    return f"{number:032x}"


def crowd_status(template, number):
    """What one of many replicas says of itself and of the others, two of which are gone."""
    others = (other for other in range(CROWD_SIZE) if other != number)
    peer = {"relation": "equal", "reason": None, "cells": 1, "clock_offset_ms": 0, "refused_cells": 0}
    times = {"cut": template["cut"], "since": template["cut"], "last_equal": template["cut"]}
    peers = [
        {"replica": name_of(other), "present": other > 1, "root": template["root"], **peer, **times}
        for other in others
    ]
    refused = [
        {"key": f"bad/{n}", "timestamp": "1/1", "at": template["cut"], "reason": f"reason {n}"}
        for n in range(16)
    ]
    lifetimes = {"patterns": 3, "cells": 1234, "expired": 56, "dead": 7, "held_seconds": 7200}
    return {
        **template,
        "name": f"r{number}",
        "identity": name_of(number),
        "refused": refused,
        "counters": {**template["counters"], "refused": 99},
        "lifetimes": lifetimes,
        "replication": {**template["replication"], "replica": name_of(number), "peers": peers},
    }


@contextmanager
def crowd(page, template):
    """A REST plugin in front of many replicas, which answers nothing but the page before it is let to;
    its address, what was asked, and what lets it."""
    asked, may_answer = [], threading.Event()

    class Rest(BaseHTTPRequestHandler):
        def do_GET(self):
            path = unquote(self.path).partition("?")[0]
            kind, body = "text/html", page
            if not path.endswith("/ui"):
                asked.append(path)
                may_answer.wait(60)
                kind, body = "application/json", json.dumps(self.answers(path)).encode()
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def answers(self, path):
            what = path.split("/", 5)[-1]
            if what == "control/scrub":
                return [
                    {"key": f"@mst/2/{CROWD_GROUP}/{name_of(number)}/{what}", "value": {}}
                    for number in range(CROWD_SIZE)
                ]
            number = int(path.split("/")[4], 16)
            return [{"key": path[1:], "value": crowd_status(template, number)}]

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Rest)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    group = CROWD_GROUP.replace("%", "%25")
    try:
        address = f"http://127.0.0.1:{server.server_address[1]}/@mst/2/{group}/{name_of(7)}/ui"
        yield address, asked, may_answer
    finally:
        may_answer.set()
        server.shutdown()
        thread.join()
        server.server_close()


FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"


def test_the_page_is_painted_before_any_of_a_hundred_replicas_has_answered(program, tmp_path, routers):
    _, text = curl(address(routers[0], "demo"))
    with (
        crowd(text.encode(), routers[0].status("demo")) as (url, asked, may_answer),
        Browser(program, tmp_path / "browser") as browser,
    ):
        browser.open(url)
        browser.wait_for(f"{FIRST_PAINT} > 0")
        wait_until(lambda: len(asked) >= 2, "the page asks")
        assert not may_answer.is_set() and browser.run("document.querySelectorAll('#replicas tr').length") <= 1
        may_answer.set()
        browser.wait_for(f"document.querySelectorAll('#replicas tr').length === {CROWD_SIZE}")
        print(f"first paint after {browser.run(FIRST_PAINT):.0f} ms")
        details = "Object.fromEntries([...document.querySelectorAll('#details dt')].map(dt => [dt.textContent, dt.nextSibling.textContent]))"
        browser.wait_for("document.querySelectorAll('#details dt').length > 10")
        told = browser.run(details)
        # The newest first, and not all.
        refused = re.findall(r"bad/\d+, .*? ago: reason (\d+)", told["Refused writes"])
        assert told["Refused writes"].startswith("99, the last: ")
        assert refused == ["15", "14", "13", "12", "11"]
        assert "3 key expressions" in told["Lifetimes"] and "56 gone" in told["Lifetimes"]
        assert "held back" in told["Lifetimes"]
        assert told["Absent members"].count("last equal") == 2
        forget = f"mstctl -s 'crowd/**' members forget {name_of(0)}"
        assert told["Absent members"].endswith(forget)
        assert browser.complaints == []
