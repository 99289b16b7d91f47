"""The root is a function of the writes, not of their order or of the router."""

import random

import zenoh

from client import timestamp
from router import storage

DEMO = {"demo": storage("demo/**", settle="100ms")}


def put(key, payload, at, **options):
    return lambda client: client.put(key, payload, timestamp=at, **options)


def delete(key, at):
    return lambda client: client.delete(key, timestamp=at)


def do(router, *writes):
    for write in writes:
        write(router.client)


def root_of(router, **fields):
    return router.wait_until_settled("demo", **fields)["root"]


def test_two_routers_with_the_same_writes_have_the_same_root(start_router):
    """Some writes replace others, some are late, some arrive as they are made."""
    order = random.Random(1)

    def lately():
        return timestamp(-0.05 * order.randrange(200))

    writes = [
        *(put(f"demo/{n % 70}", f"value {n}" * (n % 200), lately()) for n in range(150)),
        *(delete(f"demo/{n}", lately()) for n in range(0, 90, 3)),
    ]
    left, right = start_router(DEMO), start_router(DEMO)
    assert root_of(left, cells=0) == root_of(right, cells=0)
    for router in [left, right]:
        order.shuffle(writes)
        do(router, *writes)

    cells = len({n % 70 for n in range(150)} | set(range(0, 90, 3)))
    assert root_of(left, cells=cells) == root_of(right, cells=cells)
    assert left.client.get("demo/**") == right.client.get("demo/**")

    # Doing it all again changes nothing.
    do(right, *writes)
    right.wait_for_status("demo", lambda s: s["counters"]["puts"] == 300, "all came again")
    assert root_of(right, cells=cells) == root_of(left, cells=cells)


def test_the_root_follows_every_change(start_router):
    left, right = start_router(DEMO), start_router(DEMO)
    roots = [root_of(left, cells=0)]

    def both(write, **fields):
        do(left, write)
        do(right, write)
        root = root_of(left, **fields)
        assert root not in roots, "it was another before"
        assert root_of(right, **fields) == root
        roots.append(root)

    both(put("demo/a", "one", timestamp(-60)), keys=1)
    both(put("demo/b", "two", timestamp(-60)), keys=2)
    both(delete("demo/a", timestamp(-50)), keys=1, tombstones=1)
    both(put("demo/a", "one", timestamp(-40)), keys=2, tombstones=0)


def test_the_root_covers_key_payload_encoding_and_timestamp(start_router):
    at = timestamp(-60)
    variants = {
        "value": put("demo/a", "value", at),
        "payload": put("demo/a", "Value", at),
        "key": put("demo/b", "value", at),
        "encoding": put("demo/a", "value", at, encoding=zenoh.Encoding.TEXT_PLAIN),
        "schema": put(
            "demo/a", "value", at, encoding=zenoh.Encoding.TEXT_PLAIN.with_schema("utf-8")
        ),
        "time": put("demo/a", "value", timestamp(-61)),
        "writer": put("demo/a", "value", zenoh.Timestamp(at.get_time_as_ntp64(), b"\x02")),
        "delete": delete("demo/a", at),
    }
    # A storage for each; what they strip makes their keys the same.
    router = start_router(
        {
            name: storage(f"{name}/demo/**", strip_prefix=name, settle="10ms")
            for name in variants
        }
    )
    for name, write in variants.items():
        write(_Below(router.client, name))
    roots = {name: router.wait_until_settled(name, cells=1)["root"] for name in variants}
    assert len(set(roots.values())) == len(variants), roots


class _Below:
    """A client whose keys are below a prefix, as a storage that strips it sees them."""

    def __init__(self, client, prefix):
        self._client = client
        self._prefix = prefix

    def put(self, key, payload, **options):
        self._client.put(f"{self._prefix}/{key}", payload, **options)

    def delete(self, key, **options):
        self._client.delete(f"{self._prefix}/{key}", **options)


def test_different_writes_with_the_same_timestamp_end_the_same_everywhere(start_router):
    at = timestamp(-60)
    writes = [
        *(put("demo/a", value, at) for value in ["one", "two", "three"]),
        put("demo/b", "one", at),
        delete("demo/b", at),
        *(put(f"demo/c/{n}", str(value), at) for n in range(20) for value in range(2)),
    ]
    left, right = start_router(DEMO), start_router(DEMO)
    do(left, *writes)
    do(right, *reversed(writes))
    assert root_of(left, cells=22) == root_of(right, cells=22)
    assert left.client.get("demo/**") == right.client.get("demo/**")
