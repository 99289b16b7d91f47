"""A storage whose configuration is wrong is refused with a reason; nothing else suffers."""

import os
import tempfile
from pathlib import Path

import pytest

from polling import wait_until
from router import storage

pytestmark = pytest.mark.doors("volume")

#: The manager's own replication, for which this backend is not made.
MANAGER_REPLICATION = {
    "interval": 3.0,
    "sub_intervals": 5,
    "hot": 6,
    "warm": 24,
    "propagation_delay": 10,
}

ABSOLUTE = f"{tempfile.gettempdir()}/mst-absolute-{os.getpid()}"



def nested_rule(objects):
    """The rule of so many objects within each other."""
    rule = "object"
    for _ in range(1, objects):
        rule = {"strategy": "object", "fields": {"f": rule}}
    return rule


def nested(levels):
    """So many arrays within each other."""
    value = []
    for _ in range(1, levels):
        value = [value]
    return value


#: For each storage its configuration, and what the log has to say beside its name: the option
#: or folder, what was found, and what is allowed.
REFUSED = {
    "unknown_option": (
        storage("bad/**", settel="1s"),
        ["`settel`", "`settle`", "`persistence`", "`dir`", "`durability`", "`sync_every`"],
    ),
    "wrong_type": (storage("bad/**", settle=5), ["`settle`", "integer `5`", "ms, s, m, h"]),
    "wrong_unit": (
        storage("bad/**", sync_every="3 parsecs"),
        ["`sync_every`", "3 parsecs", "ms, s, m, h"],
    ),
    "wrong_size": (storage("bad/**", cache_size="1 lot"), ["`cache_size`", "1 lot", "MiB"]),
    "collect_of_replicas": (
        storage("bad/**", collect={}, replication={}),
        ["`collect`", "a replicated storage does not collect", "`collect: { enabled: false }`"],
    ),
    "wrong_word": (
        storage("bad/**", durability="sometimes"),
        ["`durability`", "`sometimes`", "`always`", "`interval`", "`none`"],
    ),
    "wrong_persistence": (
        storage("bad/**", persistence="tape"),
        ["`persistence`", "`tape`", "`memory`", "`durable`"],
    ),
    "too_much": (storage("bad/**", settle="2h"), ["`settle`", 'found "2h"', 'to "1m"']),
    "too_large": (
        storage("bad/**", cache_size="1MiB"),
        ["`cache_size`", 'found "1MiB"', '"4MiB" to "1024GiB"'],
    ),
    "no_object": (storage("bad/**", replication=True), ["`replication`", "`true`", "`{}`"]),
    "scrub_no_object": (storage("bad/**", scrub=False), ["`scrub`", "`{ enabled: false }`"]),
    "too_little": (storage("bad/**", sync_every="1ms"), ["`sync_every`", 'found "1ms"', '"10ms"']),
    "rule_too_deep": (
        storage("bad/**", replication={"default_strategy": nested_rule(17)}),
        [
            "`replication.default_strategy" + 16 * ".fields.f" + "`",
            "within 16 others",
            "allowed are 16",
        ],
    ),
    "options_too_deep": (
        storage("bad/**", scrub=nested(70)),
        ["`scrub`", "more than 64", "allowed are 64"],
    ),
    "dir_above": (storage("bad/**", dir="../above"), ["`dir`", "../above", "relative"]),
    "dir_winding": (storage("bad/**", dir="a/../../above"), ["`dir`", "a/../../above", "`..`"]),
    "dir_absolute": (storage("bad/**", dir=ABSOLUTE), ["`dir`", ABSOLUTE, "relative"]),
    "dir_empty": (storage("bad/**", dir=""), ["`dir`", '""', "relative"]),
    "dir_number": (storage("bad/**", dir=7), ["`dir`", "integer `7`", "string"]),
    "foreign": (storage("bad/**"), ["/foreign", "precious.txt", "not of this backend", "`dir`"]),
    "newer": (storage("bad/**"), ["/newer", "version 99", "knows 3"]),
    "robbed": (storage("bad/**"), ["/robbed/cells", "missing"]),
    "a_file": (storage("bad/**"), ["/a_file"]),
    "below_a_file": (storage("bad/**", volume="on_a_file"), ["/file", "directory"]),
    "managers_replication": (
        {**storage("bad/**"), "replication": MANAGER_REPLICATION},
        ["Replication"],
    ),
    "volume_refused": (storage("bad/**", volume="misspelt"), ["'misspelt'"]),
    "volume_of_wrong_type": (storage("bad/**", volume="mistyped"), ["'mistyped'"]),
}

#: In whatever order the manager starts them, some come before and some after the others.
GOOD = {f"{letter}_good": storage(f"good/{letter}/**") for letter in "amz"}

#: Of two storages with one folder, one is taken.
TWINS = {name: storage(f"{name}/**", dir="twins") for name in ["twin_1", "twin_2"]}


def contents(folder):
    """All files below a folder, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def make_foreign_files(data):
    for name, files in {
        "foreign": {"precious.txt": "not to be lost", "cells/0.jnl": "of someone else"},
        "newer": {"FORMAT": "zenoh-backend-mst storage\nformat 99\n", "cells/x": "of tomorrow"},
        "robbed": {
            "FORMAT": "zenoh-backend-mst storage\nformat 3\n",
            "OWNER": '{"key_expr":"bad/**","strip_prefix":null}\n',
        },
        ".": {"a_file": "a file, where a folder is expected", "file": "another"},
    }.items():
        for file, text in files.items():
            path = data / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad") / "data"
    folder.mkdir()
    make_foreign_files(folder)
    return folder


@pytest.fixture(scope="module")
def foreign_files(data):
    """What was there before the router was started."""
    return contents(data)


@pytest.fixture(scope="module")
def router(start_shared_router, data, foreign_files):
    refused = {name: config for name, (config, _) in REFUSED.items()}
    return start_shared_router(
        {**GOOD, **refused, **TWINS},
        volumes={
            "mst": {},
            "on_a_file": {"backend": "mst", "root": str(data / "file")},
            "misspelt": {"backend": "mst", "rooot": str(data)},
            "mistyped": {"backend": "mst", "root": 7},
        },
        expected=GOOD,
        data=data,
    )


@pytest.mark.parametrize("name", REFUSED)
def test_the_log_names_the_storage_and_what_is_wrong(router, name):
    line = router.wait_for_log("ERROR", f"'{name}'")
    _, fragments = REFUSED[name]
    missing = [fragment for fragment in fragments if fragment not in line]
    assert not missing, f"not said: {missing}\n{line}"


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_storage_is_not_there(router, name):
    assert router.status(name) is None


@pytest.mark.parametrize(
    "name, fragments",
    {
        "misspelt": ["`rooot`", "`root`"],
        "mistyped": ["`root`", "integer `7`", "string"],
    }.items(),
)
def test_the_log_names_the_volume_and_what_is_wrong(router, name, fragments):
    line = router.wait_for_log("ERROR", f"volume '{name}'")
    missing = [fragment for fragment in fragments if fragment not in line]
    assert not missing, f"not said: {missing}\n{line}"
    assert router.volume_status(name) is None


def test_of_two_storages_with_one_folder_one_is_refused(router):
    refused = [name for name in TWINS if router.status(name) is None]
    assert len(refused) == 1, f"one of them is there; refused: {refused}"
    [name] = refused
    line = router.wait_for_log("ERROR", f"'{name}'")
    assert "/twins is in use" in line and "`dir`" in line, line
    [other] = TWINS.keys() - refused
    router.client.put(f"{other}/a", "value")
    router.client.wait_for(f"{other}/**", {f"{other}/a": b"value"})


@pytest.mark.parametrize("name", GOOD)
def test_other_storages_work(router, name):
    key = f"good/{name[0]}/key"
    router.client.put(key, "value")
    router.client.wait_for(key, {key: b"value"})


def test_files_of_others_are_left_as_they_are(router, data, foreign_files):
    assert router.is_alive()
    now = contents(data)
    assert {path: now.get(path) for path in foreign_files} == foreign_files
    made = {path.split("/")[0] for path in now.keys() - foreign_files.keys()}
    assert made <= {*GOOD, "twins", "managers_replication"}, "nothing else was made"


def test_no_folder_is_made_outside_of_the_root(router, data):
    assert router.is_alive()
    assert [path.name for path in data.parent.iterdir()] == ["data"]
    assert not Path(ABSOLUTE).exists()


def test_a_refused_storage_holds_nothing_open(router, data):
    for name in REFUSED:
        wait_until(
            lambda name=name: not router.has_open(data / name), f"{name} has no file open"
        )


def test_a_folder_under_two_names_is_one_folder(start_router, tmp_path):
    """As when two volumes reach it by different paths."""
    data = tmp_path / "data"
    data.mkdir()
    link = tmp_path / "link"
    link.symlink_to(data)
    router = start_router(
        {
            "here": storage("here/**", dir="shared"),
            "there": storage("there/**", volume="linked", dir="shared"),
        },
        volumes={"mst": {"root": str(data)}, "linked": {"backend": "mst", "root": str(link)}},
        expected=[],
    )
    refused = [name for name in ["here", "there"] if router.status(name) is None]
    assert len(refused) == 1, f"one of them is there; refused: {refused}"
    line = router.wait_for_log("ERROR", f"'{refused[0]}'")
    assert "is in use" in line, line


@pytest.mark.doors("volume", "plugin")
def test_a_folder_that_another_router_has_open_is_refused(start_router):
    first = start_router({"demo": storage("demo/**")})
    first.client.put("demo/a", "value")
    first.wait_until_settled("demo", keys=1)

    second = start_router(
        {"demo": storage("demo/**"), "own": storage("own/**")}, expected=["own"], data=first.data
    )
    line = second.wait_for_log("ERROR", "'demo'")
    assert f"{first.data}/demo is in use" in line, line
    assert second.status("demo") is None
    second.client.put("own/a", "value")
    second.client.wait_for("own/**", {"own/a": b"value"})

    assert first.client.get("demo/**") == {"demo/a": b"value"}
    first.stop()
    second.restart()
    wait_until(lambda: second.status("demo"), "the folder is free")
    assert second.client.get("demo/**") == {"demo/a": b"value"}
