"""A storage's folder: whose it is, and what the options say of it."""

import json

import pytest

from polling import wait_until
from router import storage
from test_mstctl import failure, mstctl

#: Each test runs by both.
DOORS = ("volume", "plugin")


def fill(router, values):
    """Puts, and waits until all of it is in the root."""
    for key, value in values.items():
        router.client.put(key, value)
    router.wait_until_settled("demo", keys=len(values))


def at(start_router, door, config, data, **options):
    """A router whose only storage is `demo`, at this door, with its folder below `data`."""
    return start_router({"demo": config}, data=data, door=door, **options)


def refusal(router):
    """What the log says of the storage that is not there."""
    assert router.status("demo") is None

    def errors():
        lines = router.log().splitlines()
        return [line for line in lines if " ERROR " in line and "storage 'demo': " in line]

    return wait_until(errors, router.log_tail)[0]


def test_a_folder_of_another_storage_is_refused_until_it_is_adopted(start_router, tmp_path, door):
    wide = storage("kv/**", settle="50ms", dir="d")
    narrow = storage("kv/a/**", settle="50ms", dir="d")
    data, folder = tmp_path / "data", tmp_path / "data/d"
    other_door = DOORS[1 - DOORS.index(door)]
    router = at(start_router, other_door, wide, data)
    fill(router, {"kv/a/1": b"1", "kv/a/2": b"2", "kv/b/1": b"3"})
    router.stop()
    before = (folder / "OWNER").read_bytes()
    assert json.loads(before) == {"key_expr": "kv/**", "strip_prefix": None}

    # Not its own: refused at either door, with the way out.
    refused = at(start_router, door, narrow, data, expected=())
    command = f"mstctl --dir {folder} -s 'kv/a/**' adopt"
    assert command in refusal(refused)
    refused.stop()
    assert (folder / "OWNER").read_bytes() == before

    adopt = ("--dir", folder, "-s", "kv/a/**", "adopt")
    error = failure(*adopt, code=5)
    assert "1 of its 3 keys" in error and "kv/b/1" in error and "--drop" in error
    error = failure(*adopt, "--drop", code=2)
    assert "2 keys" in error and "1 key is outside" in error and "--yes" in error
    assert (folder / "OWNER").read_bytes() == before
    done = mstctl("--json", *adopt, "--drop", "--yes", check=0).json()
    assert (done["keys"], done["dropped"]) == (2, 1)

    router = at(start_router, door, narrow, data)
    router.client.wait_for("kv/**", {"kv/a/1": b"1", "kv/a/2": b"2"})
    router.stop()
    # One that is wider has all of it, and is recorded.
    router = at(start_router, door, wide, data)
    router.client.wait_for("kv/**", {"kv/a/1": b"1", "kv/a/2": b"2"})
    assert json.loads((folder / "OWNER").read_bytes())["key_expr"] == "kv/**"


def test_keys_are_not_called_otherwise_by_another_prefix(start_router, tmp_path):
    data, folder = tmp_path / "data", tmp_path / "data/demo"
    router = at(start_router, "volume", storage("fleet/**", settle="50ms"), data)
    fill(router, {"fleet/robot": b"1"})
    router.stop()
    stripped = storage("fleet/**", strip_prefix="fleet", settle="50ms")
    refused = at(start_router, "volume", stripped, data, expected=())
    line = refusal(refused)
    assert f"is of a storage on 'fleet/**', and this storage is on 'fleet/**' (strip_prefix 'fleet')" in line
    refused.stop()
    error = failure("--dir", folder, "-s", "fleet/**", "adopt", "--strip-prefix", "fleet", code=2)
    assert "what is `fleet/robot` in the folder is `fleet/fleet/robot`" in error
    # A backup needs not be told whose it is, and what is restored from it is the same storage's.
    backup, other = tmp_path / "f.mst", tmp_path / "other"
    mstctl("--dir", folder, "backup", backup, check=0)
    mstctl("--dir", other / "demo", "restore", backup, check=0)
    router = at(start_router, "plugin", storage("fleet/**", settle="50ms"), other)
    router.client.wait_for("fleet/**", {"fleet/robot": b"1"})


@pytest.mark.doors("volume")  # and the plugin beside it
def test_folders_are_not_inside_each_other(start_router):
    router = start_router(
        {"outer": storage("a/**", dir="one"), "inner": storage("b/**", dir="one/two")},
        served={"other": storage("c/**", dir="one/three")},
        expected=(),
    )
    refused = (" one inside the other", " is left as it is")

    def is_decided():
        up = [name for name in ("outer", "inner", "other") if router.status(name) is not None]
        errors = [line for line in router.log().splitlines() if any(text in line for text in refused)]
        return up in (["outer"], ["inner", "other"]) and len(errors) == 3 - len(up)

    wait_until(is_decided, router.log_tail)


def test_a_storage_that_has_to_be_there_is_not_made(start_router, tmp_path, door):
    data = tmp_path / "data"
    there = storage("demo/**", settle="50ms", create=False)
    refused = at(start_router, door, there, data, expected=())
    assert f"{data}/demo holds no storage, and with `create: false` or" in refusal(refused)
    assert not (data / "demo").exists()
    refused.stop()
    router = at(start_router, door, storage("demo/**", settle="50ms"), data)
    fill(router, {"demo/a": b"1"})
    router.stop()
    router = at(start_router, door, there, data)
    router.client.wait_for("demo/**", {"demo/a": b"1"})


def test_a_folder_is_deleted_with_its_storage_if_that_is_wanted(start_router, tmp_path, door):
    data = tmp_path / "data"
    passing = storage("demo/**", settle="50ms", on_closure="destroy")
    router = at(start_router, door, passing, data, config_is_writable=True)
    fill(router, {"demo/a": b"1"})
    # The end of the router is none of the storage.
    router.stop()
    router.start()
    router.client.wait_for("demo/**", {"demo/a": b"1"})
    router.remove_storage("demo")
    wait_until(lambda: not (data / "demo").exists(), router.log_tail)
    router.add_storage("demo", passing)
    fill(router, {"demo/b": b"2"})
    (data / "demo/notes.txt").write_text("mine")
    router.remove_storage("demo")
    wait_until(lambda: "there is something else in it" in router.log(), router.log_tail)
    assert [path.name for path in (data / "demo").iterdir()] == ["notes.txt"]


def test_a_change_of_a_storage_deletes_nothing_be_it_refused(start_router, tmp_path):
    data = tmp_path / "data"
    passing = storage("demo/**", settle="50ms", on_closure="destroy")
    kept = storage("keep/**", settle="50ms")
    both = {"demo": passing, "keep": kept}
    router = start_router(both, data=data, door="plugin", config_is_writable=True)
    fill(router, {"demo/a": b"1"})
    refused = [
        # Seen only when it is opened: another storage has the folder; a lifetime of no key.
        {**passing, "volume": {**passing["volume"], "dir": "keep"}},
        {**passing, "volume": {**passing["volume"], "lifetimes": {"other/**": "1h"}}},
    ]
    for config in refused:
        errors = router.log().count("ERROR")
        router.configure("storages/demo", config)
        wait_until(lambda: router.log().count("ERROR") > errors, router.log_tail)
        router.client.wait_for("demo/**", {"demo/a": b"1"})
    # Somebody who thinks better of it.
    router.add_storage("demo", storage("demo/**", settle="50ms"))
    router.client.wait_for("demo/**", {"demo/a": b"1"})


def test_a_storage_that_is_only_read_changes_nothing(start_router, tmp_path, door):
    data, folder = tmp_path / "data", tmp_path / "data/demo"
    read_only = storage("demo/**", settle="50ms", read_only=True, operators="read")
    refused = at(start_router, door, read_only, data, expected=())
    assert "or `read_only: true` none is made" in refusal(refused)
    assert not folder.exists()
    refused.stop()
    router = at(start_router, door, storage("demo/**", settle="50ms"), data)
    fill(router, {"demo/a": b"1", "demo/b": b"2" * 5000})
    # So that there is something in the log.
    router.kill()
    before = contents(folder)
    router = at(start_router, door, read_only, data)
    router.client.wait_for("demo/**", {"demo/a": b"1", "demo/b": b"2" * 5000})
    router.client.put("demo/a", b"3")
    router.client.delete("demo/b")
    router.wait_for_log("the storage has `read_only: true`, and takes no writes")
    wait_until(lambda: router.status("demo")["counters"]["refused"] == 2, router.log_tail)
    router.client.wait_for("demo/**", {"demo/a": b"1", "demo/b": b"2" * 5000})
    router.stop()
    assert contents(folder) == before


def contents(folder):
    """All that is in it, with the times of the last changes."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


def test_options_of_other_backends_are_refused_with_ours(start_router, tmp_path):
    config = storage("demo/**", create_db=True)
    refused = at(start_router, "volume", config, tmp_path / "data", expected=())
    assert "option `create_db`: it is not of this backend; use `create`" in refusal(refused)
