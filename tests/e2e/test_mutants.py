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


def test_functions_with_faults_have_a_body_for_each():
    source = """fn one(text: &'static str) -> u8 {
    let brace = '}'; // and another: }
    if text == "}" { 1 } else { 2 }
}
const fn two() -> u8 { 3 }
fn three() -> impl Fn() -> u8 { || { 4 } }
"""
    faults = {
        number: {"old": old, "new": new}
        for number, (old, new) in enumerate([("{ 1 }", "{ 9 }"), ("{ 3 }", "{ 9 }"), ("4", "9"), ("2", "8")], 1)
    }
    text, numbers = _MUTANTS["together"](source, faults)
    assert numbers == [1, 4], "neither a constant function nor one that hides its type"
    assert text.count("fn one") == 1 and text.endswith(source[source.index("const fn") :])
    bodies = text.split("=>")
    assert len(bodies) == 1 + 3 and all("let brace" in body for body in bodies[1:])
    assert "{ 9 } else { 2 }" in bodies[1] and "{ 1 } else { 8 }" in bodies[2]
    assert "{ 1 } else { 2 }" in bodies[3]
