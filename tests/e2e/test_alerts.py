"""Each alert of config/alerts.yml fires when its cause is there, and none when all is well.

The samples are those of real routers whose storages have been brought into that state. Their times
are virtual: a state that an alert waits for is scraped once and lasts as long as the rule asks for.
"""

import http.client
import itertools
import random
import re
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cluster import chain
from client import timestamp
from conftest import REPOSITORY
from operators import Operator, base, group
from polling import wait_until
from promql import Expression, History, alerts, labels, seconds
from router import storage
from test_integrity import blobs, close, flip, put_all, verify

#: What storages measure does not depend on the door: once, with a replica behind each.
pytestmark = pytest.mark.doors("mixed")

RULES = REPOSITORY / "config/alerts.yml"

#: A second between two announcements.
SOON = {"demo": storage("demo/**", settle="100ms", replication={"sync_interval": "1s"})}
ALONE = {"demo": storage("demo/**", settle="50ms")}
GONE = "0" * 32


class Prometheus:
    """Scrapes targets, the metrics of storages, and says which alerts fire at last."""

    def __init__(self, *targets, step=60):
        self._targets = targets
        self._history = History(step)
        self._began = None

    def scrape(self, lasting="0s"):
        """Scrapes all targets; after that nothing changes while it `lasts`."""
        samples = {}
        for target in self._targets:
            samples |= self._rebased(target.scrape())
        self._history.add(samples, lasting)

    def _rebased(self, samples):
        """Points in time count from the first scrape, as those of a history do."""
        if self._began is None:
            self._began = self._targets[0].now()
        return {
            of: value - self._began if dict(of)["__name__"].endswith("_timestamp_seconds") else value
            for of, value in samples.items()
        }

    def firing(self):
        """How many of each alert fire at the last scrape."""
        firing = {alert.name: len(alert.firing(self._history)) for alert in alerts(RULES)}
        firing = {name: number for name, number in firing.items() if number}
        if shutil.which("promtool"):
            self._compare(firing)
        return set(firing)

    def _compare(self, firing):
        """That promtool says the same."""
        step, last = self._history.step, len(self._history.scrapes) - 1
        expected = [
            {"labels": f'{{alertname="{name}"}}', "value": number}
            for name, number in firing.items()
        ]
        test = {
            "interval": f"{step}s",
            "input_series": [
                {"series": _written(of), "values": self._values(of)}
                for of in sorted(set().union(*self._history.scrapes), key=sorted)
                if re.search(rf"\b{dict(of)['__name__']}\b", RULES.read_text())
            ],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": f"{last * step}s",
                    "exp_samples": expected,
                }
            ],
        }
        file = {
            "rule_files": [str(RULES)],
            "evaluation_interval": f"{step}s",
            "tests": [test],
        }
        done = subprocess.run(
            ["promtool", "test", "rules", "/dev/stdin"],
            input=yaml.safe_dump(file),
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{firing}\n{done.stdout}{done.stderr}"

    def _values(self, of):
        """A series as promtool reads it: equal samples that follow each other as one word."""
        words, was_there = [], False
        for value, run in itertools.groupby(scrape.get(of) for scrape in self._history.scrapes):
            number = len(list(run))
            if value is not None:
                text = repr(value).replace("inf", "Inf").replace("nan", "NaN")
                words.append(f"{text}x{number - 1}")
            else:
                words += ["stale"] if was_there else ["_"]
                words += [f"_x{number - 1}"] if number > 1 else []
            was_there = value is not None
        return " ".join(words)


def _written(of):
    pairs = dict(of)
    name = pairs.pop("__name__")
    inner = ",".join(f'{label}="{value}"' for label, value in sorted(pairs.items()))
    return f"{name}{{{inner}}}"


class Target:
    """What Prometheus scrapes: the metrics of one replica, by the REST plugin of its router."""

    def __init__(self, router, name="demo", identity=None):
        self._router = router
        configuration = router.status(name)["configuration"]
        self.identity = identity or router.status(name)["identity"]
        # The path as docs/metrics.md has it, which Prometheus escapes.
        chunk = group(configuration["key_expr"]).replace("%", "%25")
        self._path = f"@mst/2/{chunk}/{self.identity}/metrics?_raw=true"

    def now(self):
        """The time by the clock of this machine, which is that of the routers."""
        return time.time()

    def wait(self):
        """Waits until there is an answer: its session takes a storage a moment."""
        wait_until(lambda: len(self.scrape()) > 2, f"{self._path} is answered")

    def scrape(self):
        """The samples, and those that Prometheus adds, by name and labels."""
        own = {"job": "zenoh-mst", "instance": self.identity[:8]}
        is_up, found = True, {}
        try:
            body = self._router.request("GET", self._path).body.decode()
        except (OSError, http.client.HTTPException):
            is_up, body = False, ""
        for family in text_string_to_metric_families(body) if body else []:
            for sample in family.samples:
                of = labels(__name__=sample.name, **sample.labels, **own)
                found[of] = float(sample.value)
        added = {"up": float(is_up), "scrape_samples_scraped": float(len(found))}
        return found | {labels(__name__=name, **own): value for name, value in added.items()}


def check(prometheus, *names):
    """That these alerts fire now, others or not."""
    assert set(names) <= prometheus.firing()


@pytest.fixture
def start(start_router):
    """Starts routers that have no others."""
    return partial(start_router, session="runtime")


@pytest.fixture
def pair(start_cluster):
    """Two replicas that are equal, and a Prometheus that has scraped both."""
    cluster = start_cluster(chain(2), SOON)
    cluster.routers[0].client.put("demo/a", b"1")
    cluster.wait_until_equal("demo", keys=1)
    for router, other in [cluster.routers, cluster.routers[::-1]]:
        wait_for_peer(router, other, relation="equal")
    return cluster


def wait_for_peer(router, other, **fields):
    """Waits until a router says so of another, by its storage's name."""
    identity = other if isinstance(other, str) else other.status("demo")["identity"]
    router.wait_for_status(
        "demo",
        lambda status: any(
            {"replica": identity, **fields}.items() <= peer.items()
            for peer in status["replication"]["peers"]
        ),
        f"its peer {identity} is {fields}",
    )


def scraping(*routers, step=60):
    """A Prometheus that has scraped these once, and nothing fires."""
    targets = [Target(router) for router in routers]
    for target in targets:
        target.wait()
    prometheus = Prometheus(*targets, step=step)
    prometheus.scrape()
    assert prometheus.firing() == set()
    return prometheus


# All is well.


def test_nothing_fires_while_all_is_well(pair):
    prometheus = scraping(*pair.routers, step=120)
    prometheus.scrape("1h")
    for number, router in enumerate(pair.routers):
        # Reads, writes, deletes and scrubs are of the usual.
        for key in range(20):
            router.client.put(f"demo/{number}/{key}", b"1")
        router.client.delete(f"demo/{number}/0")
        with Operator(router.port) as operator:
            operator.wait_for_answers(f"{base(router, 'demo')}/control/scrub", 1)
            operator.all(f"{base(router, 'demo')}/control/scrub?do=now")
    pair.wait_until_equal("demo", keys=39)
    for router in pair.routers:
        router.wait_until_settled("demo", keys=39)
    for router, other in [pair.routers, pair.routers[::-1]]:
        wait_for_peer(router, other, relation="equal")
    prometheus.scrape("1d")
    prometheus.scrape("1h")
    assert prometheus.firing() == set()


# The router and its storage.


def test_no_answer(start):
    router = start(ALONE)
    prometheus = scraping(router)
    router.stop()
    prometheus.scrape("2m")
    check(prometheus, "ZenohMstNoAnswer")
    router.start()
    Target(router).wait()
    prometheus.scrape()
    assert prometheus.firing() == set()
    # Something answers, and has no such replica.
    prometheus = Prometheus(Target(router, identity=GONE))
    prometheus.scrape("2m")
    check(prometheus, "ZenohMstNoAnswer")


@pytest.mark.parametrize("served_by", ["volume", "plugin"])
def test_a_storage_that_failed(start, disturbed, tmp_path, served_by):
    router = start(ALONE, environment=disturbed(disk=tmp_path), door=served_by)
    prometheus = scraping(router)
    router.client.put("demo/before", b"1")
    router.wait_until_settled("demo", keys=1)
    (tmp_path / "broken").touch()
    router.client.put("demo/a", b"1")
    router.wait_for_status("demo", lambda status: status["failure"], "it fails")
    prometheus.scrape()
    check(prometheus, "ZenohMstStorageFailed")
    # It still answers, as docs/operators.md promises.
    assert router.client.get("demo/before") == {"demo/before": b"1"}


def test_damage(start):
    router = start(ALONE, config_is_writable=True)
    prometheus = scraping(router)
    put_all(router, {"demo/a": random.Random(9).randbytes(6000), "demo/b": b"short"})
    router.wait_until_settled("demo", keys=2)
    close(router)
    flip(blobs(router), 3000)
    router.start()
    assert verify(router)[1]
    Target(router).wait()
    prometheus.scrape()
    check(prometheus, "ZenohMstDamaged")


def test_refused_writes(start):
    router = start(ALONE)
    prometheus = scraping(router)
    for number in range(1, 7):
        # No router stamps deletes anew.
        router.client.delete("demo/a", timestamp=timestamp(3600))
        router.wait_for_counters("demo", refused=number)
        prometheus.scrape("1m")
    check(prometheus, "ZenohMstRefusedWrites")


def test_a_disk_that_does_not_keep_up(start, disturbed, tmp_path):
    # The storage manager would wait for the disk before it says anything.
    router = start(ALONE, environment=disturbed(disk=tmp_path), door="plugin")
    prometheus = scraping(router)
    (tmp_path / "stuck").touch()
    value = bytes(1_000_000)
    # As many as the queue takes, and no more: the next would wait.
    for number in range(62):
        router.client.put(f"demo/{number}", value)
    router.wait_for_status(
        "demo", lambda status: status["queues"]["uncommitted_bytes"] > 60e6, "the queue is full"
    )
    prometheus.scrape("1m")
    check(prometheus, "ZenohMstDiskBehind")
    # And it goes on for an hour.
    (tmp_path / "later").touch()
    prometheus.scrape("5m")
    check(prometheus, "ZenohMstDiskBehind", "ZenohMstCutBehind")
    (tmp_path / "stuck").unlink()
    router.wait_until_settled("demo", keys=62)
    prometheus.scrape()
    assert prometheus.firing() == set()


def test_slow_writes(start, disturbed):
    slow = {"demo": storage("demo/**", settle="50ms", durability="always")}
    router = start(slow, environment=disturbed(sync=150))
    prometheus = scraping(router)
    for number in range(16):
        router.client.put(f"demo/{number}", b"1")
        router.wait_for_counters("demo", puts=number + 1)
        prometheus.scrape()
    check(prometheus, "ZenohMstSlowWrites")


# The scrub.


def test_a_scrub_that_is_paused_or_long_ago(start):
    router = start(ALONE)
    # The first round comes a minute after the storage was opened.
    early, never = scraping(router, step=240), scraping(router, step=240)
    early.scrape("13d")
    never.scrape("14d")
    assert early.firing() == set()
    check(never, "ZenohMstNeverScrubbed")
    paused = scraping(router, step=240)
    with Operator(router.port) as operator:
        scrub = f"{base(router, 'demo')}/control/scrub"
        operator.wait_for_answers(scrub, 1)
        operator.ask(f"{scrub}?do=pause")
        paused.scrape("1d")
        check(paused, "ZenohMstNotScrubbed")
        operator.ask(f"{scrub}?do=resume")
        operator.all(f"{scrub}?do=now")
        # Of a day, two weeks after the last pass.
        long_ago = scraping(router, step=240)
        long_ago.scrape("14d")
        assert long_ago.firing() == set()
        long_ago.scrape("1d")
        long_ago.scrape()
        check(long_ago, "ZenohMstNotScrubbed")


# Replicas and clocks.


def test_isolation(start_cluster):
    other = storage("demo/**", settle="100ms", lifetimes={"demo/pose/**": "3s"}, replication={})
    cluster = start_cluster(chain(2), [SOON, {"demo": other}])
    for router, peer in [cluster.routers, cluster.routers[::-1]]:
        wait_for_peer(router, peer, relation="isolated")
    prometheus = scraping(*cluster.routers)
    prometheus.scrape("1m")
    check(prometheus, "ZenohMstIsolated")


def test_a_peer_that_has_what_is_rejected(start_cluster, disturbed):
    environments = [None, disturbed(clock=3_600_000)]
    cluster = start_cluster(chain(2), SOON, environments=environments)
    router, ahead = cluster.routers
    cluster.cut()
    ahead.client.put("demo/a", "of the future")
    ahead.wait_until_settled("demo", keys=1)
    prometheus = scraping(router)
    cluster.heal()
    wait_for_peer(router, ahead, relation="divergent")
    router.wait_for_status(
        "demo", lambda status: status["replication"]["rejected"]["clock"] > 0, "it is rejected"
    )
    prometheus.scrape("5m")
    check(prometheus, "ZenohMstDivergent", "ZenohMstRejections", "ZenohMstClockOffset")


def test_a_peer_that_says_nothing(pair):
    router = pair.routers[0]
    prometheus = scraping(*pair.routers)
    own = base(router, "demo").rsplit("/", 1)[0]
    with Operator(router.port) as silent:
        silent.declare(f"{own}/{'5' * 32}")
        wait_for_peer(router, "5" * 32, present=True, relation="unknown")
        prometheus.scrape("10m")
        check(prometheus, "ZenohMstNotCompared")


def test_a_peer_that_is_gone(pair):
    router, other = pair.routers
    identity = other.status("demo")["identity"]
    prometheus = scraping(router)
    pair.end(1)
    wait_for_peer(router, identity, present=False)
    prometheus.scrape("5m")
    check(prometheus, "ZenohMstPeerGone")
    # A loss that is old is no news.
    prometheus.scrape("1h")
    assert prometheus.firing() == set()


def test_pulls_that_break_off(start_cluster):
    # Nobody may ask for cells.
    rule = {
        "id": "cells",
        "messages": ["query"],
        "flows": ["ingress", "egress"],
        "permission": "deny",
        "key_exprs": ["@mst/2/*/*/entries", "@mst/2/*/*/digest"],
    }
    zenoh = {
        "access_control": {
            "enabled": True,
            "default_permission": "allow",
            "rules": [rule],
            "subjects": [{"id": "all"}],
            "policies": [{"rules": ["cells"], "subjects": ["all"]}],
        }
    }
    cluster = start_cluster(chain(2), SOON, zenoh=zenoh)
    full, router = cluster.routers
    cluster.cut()
    full.client.put("demo/a", b"1")
    full.wait_until_settled("demo", keys=1)
    prometheus = scraping(router)
    cluster.heal()
    router.wait_for_status(
        "demo", lambda status: status["replication"]["pulls"]["failed"] > 3, "pulls break off"
    )
    prometheus.scrape()
    check(prometheus, "ZenohMstPullsFail")


def test_a_clock_that_leaps(start, disturbed):
    lives = {"demo": storage("demo/**", settle="50ms", lifetimes={"demo/pose/**": "1h"})}
    router = start(lives)
    router.client.put("demo/pose/1", b"1")
    router.wait_until_settled("demo", keys=1)
    prometheus = scraping(router)
    router.stop()
    router._environment |= disturbed(clock=86_400_000)
    router.start()
    router.wait_for_status(
        "demo", lambda status: status["lifetimes"]["held_seconds"] > 0, "deaths are held"
    )
    Target(router).wait()
    prometheus.scrape("1m")
    check(prometheus, "ZenohMstClockLeap")


#: What is deleted goes after an hour, and then nothing older is taken.
COLLECTED = {"demo": storage("demo/**", settle="50ms", collect={"after": "1h"})}


def test_a_clock_that_leaps_and_what_was_deleted(start, disturbed):
    router = start(COLLECTED)
    router.client.put("demo/1", b"1")
    router.client.delete("demo/1")
    router.wait_until_settled("demo", tombstones=1)
    prometheus = scraping(router)
    router.stop()
    router._environment |= disturbed(clock=86_400_000)
    router.start()
    router.wait_for_status(
        "demo", lambda status: status["collection"]["held_seconds"] > 3600, "the floor is held"
    )
    Target(router).wait()
    prometheus.scrape("1m")
    check(prometheus, "ZenohMstFloorHeld")


def test_writes_that_are_older_than_what_was_collected(start):
    router = start(COLLECTED)
    router.client.put("demo/1", b"1", timestamp=timestamp(-9000))
    router.client.delete("demo/1", timestamp=timestamp(-8000))
    router.wait_for_status(
        "demo",
        lambda status: status["collection"]["collected_tombstones"] == 1,
        "the delete is collected",
    )
    prometheus = scraping(router)
    router.client.put("demo/1", b"late", timestamp=timestamp(-8500))
    router.wait_for_status(
        "demo", lambda status: status["collection"]["refused_late"] == 1, "it is refused"
    )
    prometheus.scrape()
    check(prometheus, "ZenohMstRefusedLate")


# The tests themselves.


def test_each_alert_is_tested_and_documented():
    names = {alert.name for alert in alerts(RULES)}
    tested = set(re.findall(r'"(ZenohMst\w+)"', _source_of_checks()))
    documented = re.findall(
        r"^\| `(ZenohMst\w+)` \|", (REPOSITORY / "docs/metrics.md").read_text(), re.MULTILINE
    )
    assert tested == names == set(documented)
    assert len(documented) == len(names)


def _source_of_checks():
    return "\n".join(re.findall(r"^ +check\((.*)\)$", Path(__file__).read_text(), re.MULTILINE))


def test_expressions_are_evaluated_as_prometheus_does():
    history = History(60)
    for value in [0, 10, 5, 20]:
        of_one = {
            labels(__name__="a_total", at="1"): float(value),
            labels(__name__="b", at="1", of="x"): 3.0,
            labels(__name__="b", at="1", of="y"): 4.0,
        }
        history.add(of_one)

    def at_last(text):
        return Expression(text).at(history, 3)

    # In the span are 5 and 20: 15 in a minute, and 20 s before that it was 0.
    assert at_last("increase(a_total[2m])") == {labels(at="1"): pytest.approx(20)}
    # In the longer one are 10 before the reset, too.
    assert at_last("increase(a_total[3m])") == {labels(at="1"): pytest.approx(30)}
    assert at_last("max_over_time(a_total[1h]) > 19") == {labels(at="1"): 20.0}
    assert at_last("max_over_time(a_total[1h]) > 20") == {}
    assert at_last("sum by (at) (b)") == {labels(at="1"): 7.0}
    assert at_last("max without (of) (b) == 4") == {labels(at="1"): 4.0}
    assert at_last('b{of!="x"} unless b{of="x"}') == {labels(__name__="b", at="1", of="y"): 4.0}
    assert at_last("time() - 2 * 60") == 60.0
    assert seconds("2d") == 172_800
