"""Storages are added, changed and removed while the router runs."""

import threading

import pytest

from polling import wait_until
from router import storage

DEMO = storage("demo/**", settle="10ms")
ADDED = storage("added/**", settle="10ms")


@pytest.fixture
def router(start_router):
    return start_router({"demo": DEMO}, config_is_writable=True)


def remove(router, name):
    """Removes a storage, and waits until it has closed its folder."""
    router.remove_storage(name)
    wait_until(lambda: not router.has_open(router.data / name), f"{name} is closed")


def test_a_storage_is_added_removed_and_added_again(router):
    assert router.status("added") is None
    router.add_storage("added", ADDED)
    router.client.put("added/a", "value")
    before = router.wait_until_settled("added", keys=1)
    assert router.client.get("added/**") == {"added/a": b"value"}

    remove(router, "added")
    assert router.client.get("added/**") == {}
    assert router.status("added") is None
    router.client.put("added/nobody", "takes it")

    router.add_storage("added", ADDED)
    assert router.status("added")["root"] == before["root"]
    assert router.client.get("added/**") == {"added/a": b"value"}


def test_what_was_not_committed_is_when_the_storage_is_removed(router):
    unhurried = storage("added/**", sync_every="60s", settle="60s")
    router.add_storage("added", unhurried)
    values = {f"added/{n}": str(n).encode() for n in range(100)}
    for key, payload in values.items():
        router.client.put(key, payload)
    status = router.wait_for_counters("added", puts=100)
    assert status["queues"]["uncommitted"] == 100, "they were not committed before"

    router.remove_storage("added")
    router.add_storage("added", unhurried)

    assert router.client.get("added/**") == values


def test_a_storage_is_added_again_while_it_is_still_closing(router):
    """The storage manager does not wait for what it removes."""
    expected = {}
    for n in range(10):
        router.add_storage("added", ADDED)
        assert router.client.get("added/**") == expected, f"in round {n}"
        expected[f"added/{n}"] = b"x" * 10_000
        router.client.put(f"added/{n}", expected[f"added/{n}"])
        router.wait_for_counters("added", puts=1)
        router.remove_storage("added")
    router.add_storage("added", ADDED)
    assert router.client.get("added/**") == expected


def test_adding_and_removing_leaves_no_files_or_threads_behind(router):
    def cycle():
        router.add_storage("added", ADDED)
        router.client.put("added/a", "value")
        router.client.wait_for("added/**", {"added/a": b"value"})
        remove(router, "added")

    def of_the_storage():
        return [name for name in router.thread_names() if name == "mst added"]

    cycle()  # Threads and sockets that are made once are there now.
    files = len(router.open_files())
    for _ in range(10):
        cycle()
    wait_until(
        lambda: len(router.open_files()) <= files + 2,
        lambda: f"about {files} files are open: {router.open_files()}",
    )
    wait_until(lambda: not of_the_storage(), "the storage's threads have ended")
    assert router.is_alive()


def test_the_configuration_of_a_storage_is_changed(router):
    router.client.put("demo/a", "value")
    before = router.wait_until_settled("demo", keys=1)
    changed = storage("demo/**", settle="20ms", durability="always")
    router.add_storage("demo", changed)
    assert router.status("demo")["root"] == before["root"]
    assert router.client.get("demo/**") == {"demo/a": b"value"}
    router.client.put("demo/b", "value")
    router.client.wait_for("demo/**", {"demo/a": b"value", "demo/b": b"value"})


def test_a_storage_keeps_its_data_under_a_wider_key_expression_and_no_other(router):
    """What is stored are keys without the prefix: by another prefix they would be other keys."""
    narrow = storage("old/a/**", strip_prefix="old", settle="10ms")
    router.add_storage("added", narrow)
    router.client.put("old/a/b", "value")
    router.wait_until_settled("added", keys=1)
    wide = storage("old/**", strip_prefix="old", settle="10ms")
    router.add_storage("added", wide)
    assert router.client.get("old/**") == {"old/a/b": b"value"}
    router.configure("storages/added", storage("new/**", strip_prefix="new", settle="10ms"))
    router.wait_for_log("ERROR", "'added'", "old/**", "adopt")
    assert router.client.get("new/**") == {}
    router.remove_storage("added")
    router.add_storage("added", wide)
    assert router.client.get("old/**") == {"old/a/b": b"value"}


def test_a_wrong_configuration_is_refused_and_a_right_one_then_taken(router):
    router.configure("storages/added", storage("added/**", settel="10ms"))
    router.wait_for_log("ERROR", "'added'", "`settel`", "`settle`")
    assert router.status("added") is None
    router.client.put("demo/a", "value")
    router.client.wait_for("demo/**", {"demo/a": b"value"})
    router.add_storage("added", ADDED)
    router.client.put("added/a", "value")
    router.client.wait_for("added/**", {"added/a": b"value"})


def test_others_work_while_a_storage_waits_for_its_folder(router):
    """A folder that is not given free is waited for, and then refused."""
    router.client.put("demo/a", "value")
    router.client.wait_for("demo/**", {"demo/a": b"value"})
    request = threading.Thread(
        target=router.configure, args=["storages/twin", storage("twin/**", dir="demo")]
    )
    request.start()
    rounds = 0
    while request.is_alive():
        rounds += 1
        payload = f"round {rounds}".encode()
        router.client.put("demo/a", payload)
        router.client.wait_for("demo/**", {"demo/a": payload})
        request.join(timeout=0.05)
    assert rounds >= 3, "the storage went on while the other was waited for"
    line = router.wait_for_log("ERROR", "'twin'")
    assert "/demo is in use" in line, line
    assert router.status("twin") is None
    assert router.is_alive()


@pytest.mark.doors("volume")
def test_a_volume_is_added_with_a_storage(router, tmp_path):
    root = tmp_path / "another root"
    router.configure("volumes/mst2", {"backend": "mst", "root": str(root)})
    router.add_storage("added", storage("added/**", volume="mst2"))
    assert router.volume_status("mst2")["root"] == str(root)
    router.client.put("added/a", "value")
    router.client.wait_for("added/**", {"added/a": b"value"})
    assert (root / "added").is_dir()
