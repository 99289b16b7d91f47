"""The key that is nothing: what is left of a key that equals the `strip_prefix`.

The storage manager hands it over as `None`.
"""

from router import storage

FLEET = storage("fleet/**", strip_prefix="fleet", settle="10ms")


def test_the_prefix_itself_is_a_key_like_others(start_router):
    router = start_router({"fleet": FLEET})
    client = router.client
    client.put("fleet", "all of it")
    client.put("fleet/a", "one")
    client.wait_for("fleet/**", {"fleet": b"all of it", "fleet/a": b"one"})
    assert client.get("fleet") == {"fleet": b"all of it"}
    assert client.get("fleet/a") == {"fleet/a": b"one"}
    assert client.get("fleet/*") == {"fleet/a": b"one"}
    client.put("fleet", "replaced")
    client.wait_for("fleet", {"fleet": b"replaced"})
    client.delete("fleet")
    client.wait_for("fleet/**", {"fleet/a": b"one"})


def test_the_prefix_itself_survives_a_restart(start_router):
    router = start_router({"fleet": FLEET})
    router.client.put("fleet", "all of it")
    router.client.put("fleet/a", "one")
    before = router.wait_until_settled("fleet", keys=2)
    router.restart()
    client = router.client
    assert client.get("fleet/**") == {"fleet": b"all of it", "fleet/a": b"one"}
    assert router.status("fleet")["root"] == before["root"]

    client.delete("fleet")
    router.wait_until_settled("fleet", keys=1, tombstones=1)
    router.restart()
    assert router.client.get("fleet/**") == {"fleet/a": b"one"}


def test_a_wildcard_delete_reaches_the_prefix_itself(start_router):
    router = start_router({"fleet": FLEET})
    router.client.put("fleet", "all of it")
    router.client.put("fleet/a", "one")
    router.wait_for_counters("fleet", puts=2)
    router.client.delete("fleet/**")
    router.wait_for_counters("fleet", deletes=2)
    assert router.client.get("fleet/**") == {}
