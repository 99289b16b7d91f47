#!/usr/bin/env python3
"""Puts, gets and deletes through a router that `make run` has started.

    pip install eclipse-zenoh==1.10.2
    python examples/quickstart.py [ENDPOINT]
"""

import sys
import time

import zenoh

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp/127.0.0.1:7447"

# The client stamps what it sends. So a delete has one timestamp wherever it is
# stored, and a put that follows it is the later one.
config = zenoh.Config.from_json5(
    f"""{{
        mode: "client",
        connect: {{ endpoints: ["{endpoint}"] }},
        timestamping: {{ enabled: true }},
    }}"""
)


def show(session, selector, count):
    """Shows what is stored, when there are `count` values.

    A storage takes puts and gets that come at the same time in any order, so a get
    that follows a put at once may not see it yet.
    """
    for _ in range(50):
        samples = [reply.ok for reply in session.get(selector)]
        if len(samples) == count:
            break
        time.sleep(0.1)
    print(selector)
    for sample in sorted(samples, key=lambda sample: str(sample.key_expr)):
        print(f"  {sample.key_expr}: {sample.payload.to_string()} ({sample.encoding})")


# By default a client drops what does not fit into its queue, and says nothing.
block = zenoh.CongestionControl.BLOCK

with zenoh.open(config) as session:
    session.put(
        "demo/robot/1",
        "ready",
        encoding=zenoh.Encoding.TEXT_PLAIN,
        congestion_control=block,
    )
    session.put(
        "demo/robot/2",
        '{"battery": 0.7}',
        encoding=zenoh.Encoding.APPLICATION_JSON,
        congestion_control=block,
    )
    show(session, "demo/robot/*", count=2)
    session.delete("demo/robot/1", congestion_control=block)
    show(session, "demo/robot/*", count=1)
    for reply in session.get("@/*/router/status/plugins/*/storages/demo"):
        print("status:", reply.ok.payload.to_string())
