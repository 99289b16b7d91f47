"""Every seeded fault still applies: `scripts/mutants` tries them, which takes too long for each run of the tests."""

import runpy
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.doors("volume")

_PROJECT = Path(__file__).parents[2]
_MUTANTS = runpy.run_path(str(_PROJECT / "scripts/mutants"))


def test_every_seeded_fault_applies():
    faults = _MUTANTS["faults"]()
    wrong = []
    for fault in faults:
        source = (_PROJECT / fault["file"]).read_text()
        text = _MUTANTS["mutated"](fault, source)
        if text is None or text == source:
            wrong.append((fault["file"], fault["name"]))
    assert not wrong, "their old text is not in the file once: change tests/mutants/faults.toml"
    names = Counter(fault["name"] for fault in faults)
    assert [name for name, count in names.items() if count > 1] == []
    layers = Counter(fault["layer"] for fault in faults)
    expected = {"wal", "store", "core", "mst", "merge", "proof", "sync", "backup", "config", "net"}
    assert layers.keys() == expected and len(faults) >= 60, layers
