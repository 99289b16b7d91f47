"""Several volumes and storages in one router keep their data apart."""

import pytest

from router import storage

pytestmark = pytest.mark.doors("volume")


def test_storages_keep_their_data_apart(start_router, tmp_path):
    second = tmp_path / "second"
    names = ["one", "two", "in_second", "in_memory"]
    router = start_router(
        {
            "one": storage("one/**", strip_prefix="one", settle="10ms"),
            "two": storage("two/**", strip_prefix="two", settle="10ms", dir="a/b/two"),
            # The same folder, below another root.
            "in_second": storage(
                "in_second/**", volume="mst2", strip_prefix="in_second", settle="10ms", dir="one"
            ),
            "in_memory": storage(
                "in_memory/**", strip_prefix="in_memory", settle="10ms", persistence="memory"
            ),
        },
        volumes={"mst": {}, "mst2": {"backend": "mst", "root": str(second)}},
    )
    client = router.client
    for name in names:
        client.put(f"{name}/shared", f"of {name}")
        client.put(f"{name}/{name}", "own")
    expected = {
        name: {f"{name}/shared": f"of {name}".encode(), f"{name}/{name}": b"own"}
        for name in names
    }
    roots = {name: router.wait_until_settled(name, keys=2)["root"] for name in names}
    assert len(set(roots.values())) == len(names)
    for name in names:
        assert client.get(f"{name}/**") == expected[name]
    assert router.volume_status("mst")["root"] == str(router.data)
    assert router.volume_status("mst2")["root"] == str(second)
    assert {path.name for path in router.data.iterdir()} == {"one", "a"}
    assert {path.name for path in second.iterdir()} == {"one"}

    client.delete("one/shared")
    del expected["one"]["one/shared"]
    client.wait_for("one/**", expected["one"])
    router.wait_until_settled("one", keys=1)
    router.restart()

    expected["in_memory"] = {}
    for name in names:
        assert router.client.get(f"{name}/**") == expected[name]
    for name in ["two", "in_second"]:
        assert router.status(name)["root"] == roots[name], name


def test_one_key_can_be_in_several_storages(start_router):
    """A whole, and a part of it with a strategy of its own."""
    router = start_router(
        {
            "whole": storage("plant/**", settle="10ms"),
            "part": storage("plant/line/**", settle="10ms"),
        }
    )
    router.client.put("plant/line/1", "both")
    router.client.put("plant/office", "one")
    assert router.wait_until_settled("whole", keys=2)
    assert router.wait_until_settled("part", keys=1)
    router.client.delete("plant/line/1")
    router.wait_until_settled("whole", keys=1, tombstones=1)
    router.wait_until_settled("part", keys=0, tombstones=1)


def test_the_backend_works_beside_the_memory_volume_of_zenoh(start_router):
    router = start_router(
        {
            "demo": storage("demo/**"),
            "plain": {"key_expr": "plain/**", "volume": "memory"},
        }
    )
    router.client.put("demo/a", "durable")
    router.client.put("plain/a", "volatile")
    router.client.wait_for("demo/**", {"demo/a": b"durable"})
    router.client.wait_for("plain/**", {"plain/a": b"volatile"})


def test_the_volume_may_be_given_by_its_name_alone(start_router):
    router = start_router({"demo": {"key_expr": "demo/**", "volume": "mst"}})
    router.client.put("demo/a", "value")
    router.client.wait_for("demo/**", {"demo/a": b"value"})
    assert (router.data / "demo").is_dir()


def test_without_a_root_the_data_is_in_zenohs_home(start_router):
    router = start_router(
        {"demo": storage("demo/**")}, environment={"ZENOH_BACKEND_MST_ROOT": None}
    )
    root = router.zenoh_home / "zenoh_backend_mst"
    assert router.volume_status("mst")["root"] == str(root)
    router.client.put("demo/a", "value")
    router.client.wait_for("demo/**", {"demo/a": b"value"})
    assert [path.name for path in root.iterdir()] == ["demo"]
    assert not router.data.exists()
