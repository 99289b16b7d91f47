"""Fixtures: where the programs are, and routers that always end.

The programs are those of the repository; others can be given:

- `MST_E2E_ZENOHD`: the zenohd to run;
- `MST_E2E_LIBS`: folders, separated by colons, with the backend and its plugins.
"""

import os
import shutil
import subprocess
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path

import pytest

from cluster import Cluster
from router import COMPANION, Programs, Router

REPOSITORY = Path(__file__).resolve().parents[2]

LIBRARIES = (
    "libzenoh_backend_mst.so",
    "libzenoh_plugin_storage_manager.so",
    "libzenoh_plugin_rest.so",
    COMPANION,
)

#: All that were started and are not ended yet, for the report of a failure.
_running = []


def _zenohd():
    given = os.environ.get("MST_E2E_ZENOHD")
    if given:
        found = [Path(given)]
    else:
        found = sorted(REPOSITORY.glob(".tools/zenohd-*/bin/zenohd"))
    if not found or not found[-1].is_file():
        pytest.exit(
            f"there is no zenohd {given or f'in {REPOSITORY}/.tools'}: "
            "run `make tools`, or set MST_E2E_ZENOHD",
            returncode=4,
        )
    return found[-1].resolve()


def _library(name):
    given = os.environ.get("MST_E2E_LIBS")
    if given:
        folders = [Path(folder) for folder in given.split(":")]
    else:
        folders = [REPOSITORY / "target/release", REPOSITORY / "target/release/examples"]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    pytest.exit(
        f"{name} is not in {' or '.join(map(str, folders))}: "
        "run `make build`, or set MST_E2E_LIBS",
        returncode=4,
    )


@pytest.fixture(scope="session")
def programs(tmp_path_factory):
    """The programs, those of the repository as they are now: they may be built anew meanwhile."""
    zenohd = _zenohd()
    folder = tmp_path_factory.mktemp("libraries")
    for name in LIBRARIES:
        shutil.copy(_library(name), folder)
    mst_router = REPOSITORY / "target/release/mst-router"
    if mst_router.is_file():
        mst_router = shutil.copy(mst_router, tmp_path_factory.mktemp("programs"))
    return Programs(zenohd, folder, Path(mst_router))


def starting(make, programs, folder):
    """Starts routers, each in a folder of its own; what the caller gives is for `make`."""
    with ExitStack() as at_the_end:

        def start(*arguments, **options):
            number = len(list(folder.glob("router-*")))
            router = make(programs, folder / f"router-{number}", *arguments, **options)
            _running.append(router)
            at_the_end.callback(_running.remove, router)
            at_the_end.callback(router.kill)
            return router.start()

        yield start


#: By which doors the storages of a test are served: "volume", the storage manager's; "plugin", the
#: plugin itself; "mixed", one and the other by turns, so that replicas behind different doors are
#: replicas of each other. A test runs by two of them, unless it or its module has the marker `doors`:
#: what is of one door, such as the options of volumes, and what is behind both and does not know them,
#: such as backups, the commands of mstctl and access control, runs once. Its module says why.
ONE_ROUTER = ("volume", "plugin")
LINKED_ROUTERS = ("volume", "mixed")


def pytest_addoption(parser):
    parser.addoption(
        "--door",
        choices=["volume", "plugin", "mixed"],
        help="runs each test with this door only",
    )


def pytest_generate_tests(metafunc):
    if "door" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("doors")
    if marker is not None:
        doors = marker.args
    elif "start_cluster" in metafunc.fixturenames:
        doors = LINKED_ROUTERS
    else:
        doors = ONE_ROUTER
    only = metafunc.config.getoption("--door")
    if only is not None:
        doors = [door for door in doors if only == door]
    metafunc.parametrize("door", doors, scope="module")


def doors_by_turns(door):
    """The doors of one router after the other."""
    return cycle(ONE_ROUTER if door == "mixed" else [door])


@pytest.fixture
def start_router(programs, tmp_path, door):
    """Starts routers: `start_router({"demo": storage("demo/**")})`. They end with the test."""
    doors = doors_by_turns(door)

    def make(*arguments, **options):
        return Router(*arguments, **{"door": next(doors), **options})

    yield from starting(make, programs, tmp_path)


@pytest.fixture(scope="module")
def start_shared_router(programs, tmp_path_factory, door):
    """Starts routers that all tests of a module share. They end with the module."""
    doors = doors_by_turns(door)

    def make(*arguments, **options):
        return Router(*arguments, **{"door": next(doors), **options})

    yield from starting(make, programs, tmp_path_factory.mktemp("shared"))


@pytest.fixture
def start_cluster(start_router):
    """Starts linked routers: `start_cluster(chain(3), storages)`. Their gets of `demo/**` are
    their own. Links and routers end with the test."""
    with ExitStack() as at_the_end:

        def start(links, storages, *, session="runtime", **options):
            cluster = Cluster(
                start_router, links, storages, own_gets="demo/**", session=session, **options
            )
            at_the_end.callback(cluster.close)
            return cluster

        yield start


@pytest.fixture(scope="session")
def disturbed(tmp_path_factory):
    """Environments of routers whose clock is off or whose disk is slow, in milliseconds:
    `disturbed(clock=-400)`, `disturbed(sync=5)`; or whose disk is stuck or broken while a folder
    says so: `disturbed(disk=folder)`."""
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = Path(__file__).with_name("shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)

    def environment(clock=0, sync=0, disk=None):
        return {
            "MST_TEST_DISK": None if disk is None else str(disk),
            "LD_PRELOAD": str(library),
            "MST_TEST_CLOCK_MS": str(clock),
            "MST_TEST_SYNC_MS": str(sync),
        }

    return environment


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Shows the routers' logs with a failure."""
    report = yield
    if report.failed:
        for router in _running:
            report.sections.append((f"log of {router.folder.name}", router.log_tail(100)))
    return report
