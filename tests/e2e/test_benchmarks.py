"""The benchmarks of whole routers can be run: what they share with the tests is as they expect it."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHES = Path(__file__).parents[2] / "benches"


def scripts():
    return sorted(path.name for path in BENCHES.glob("*.py") if "__main__" in path.read_text())


@pytest.mark.parametrize("name", scripts())
def test_a_benchmark_says_what_it_takes(name):
    done = subprocess.run(
        [sys.executable, BENCHES / name, "--help"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "usage" in done.stdout


def test_the_harness_starts_a_router(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCHES)
    import harness
    from router import storage

    programs = harness.find_programs(tmp_path)
    with harness.starting(programs) as start:
        router = start({"bench": storage(harness.KEYS)})
        router.client.put("bench/1", b"one")
        router.client.wait_for("bench/1", {"bench/1": b"one"})
