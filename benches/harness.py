"""What the benchmarks of whole routers share: starting them, reading from them, reporting.

To import it makes the modules of the end-to-end tests importable, too.
"""

import shutil
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT / "tests/e2e"))

from client import Client  # noqa: E402
from cluster import Cluster  # noqa: E402
from router import COMPANION, Programs, Router  # noqa: E402

PATIENCE = 120.0

#: What is asked of a router about these keys is not to pass a link.
KEYS = "bench/**"

LIBRARIES = (
    "libzenoh_backend_mst.so",
    "examples/libzenoh_plugin_storage_manager.so",
    "examples/libzenoh_plugin_rest.so",
    f"examples/{COMPANION}",
)


def find_programs(folder, libraries=LIBRARIES):
    """The programs of the repository, the libraries as they are now."""
    for name in libraries:
        shutil.copy(PROJECT / "target/release" / name, folder)
    zenohd = sorted(PROJECT.glob(".tools/zenohd-*/bin/zenohd"))
    return Programs(zenohd[-1], Path(folder), PROJECT / "target/release/mst-router")


@contextmanager
def starting(programs):
    """Gives what starts routers; they end, and their data with them."""
    with ExitStack() as at_the_end:
        folder = at_the_end.enter_context(tempfile.TemporaryDirectory(prefix="mst-bench-"))
        routers = []

        def start(storages, **options):
            folder_of_one = Path(folder) / f"router-{len(routers)}"
            router = Router(programs, folder_of_one, storages, **options)
            routers.append(router)
            at_the_end.callback(router.kill)
            return router.start()

        yield start


@contextmanager
def linked(programs, links, config, *, session="runtime"):
    """Linked routers, each with a storage `bench` of this configuration."""
    with starting(programs) as start, ExitStack() as at_the_end:
        cluster = Cluster(start, links, {"bench": config}, session=session, own_gets=KEYS)
        at_the_end.callback(cluster.close)
        yield cluster


class Reader(Client):
    """Asks one router for many keys at once."""

    def missing(self, keys):
        """Those of `keys` for which there is no answer."""
        found = set()
        for start in range(0, len(keys), 200):
            some = keys[start : start + 200]
            for replies in [self._session.get(name) for name in some]:
                found |= {str(reply.ok.key_expr) for reply in replies if reply.ok is not None}
        return [name for name in keys if name not in found]

    def wait_for_keys(self, keys):
        """Returns the moment at which all are there."""
        missing = list(keys)
        deadline = time.monotonic() + PATIENCE
        while missing:
            assert time.monotonic() < deadline, f"{len(missing)} keys are missing"
            # As long as the next are missing, the others need not be asked for.
            if self.missing(missing[:5]):
                time.sleep(0.005)
            else:
                missing = self.missing(missing[5:])
        return time.monotonic()


@contextmanager
def reader(router):
    client = Reader(router.port)
    try:
        yield client
    finally:
        client.close()


def bytes_until_quiet(links, before):
    """What is sent after the last update came is a part of the exchange, too."""
    for _ in range(10):
        passed = bytes_of(links)
        time.sleep(0.2)
        if bytes_of(links) == passed:
            break
    return bytes_of(links) - before


def bytes_of(links):
    """What has passed all of them, both ways."""
    return sum(link.bytes for link in links)


def print_table(columns, figures):
    """Medians, and in brackets their ratios to the first of the `columns`.

    `columns` are titles by names; `figures` are lists of values by row and column.
    """
    print(f"{'':44}" + "".join(f"{title:>22}" for title in columns.values()))
    for row in dict.fromkeys(row for row, _ in figures):
        cells = [figures.get((row, name)) for name in columns]
        medians = [None if of_cell is None else median(of_cell) for of_cell in cells]
        first = medians[0]
        print(f"{row:44}" + "".join(f"{written(value, first):>22}" for value in medians))


def written(value, first):
    if value is None:
        return "-"
    ratio = f" ({value / first:.3f})" if first and value is not first else " " * 8
    return f"{value:,.0f}{ratio}" if value >= 1000 else f"{value:,.3g}{ratio}"
