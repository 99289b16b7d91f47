"""What is linked in may be, by the licences of deny.toml; and the packages can say what it is."""

import importlib.machinery
import importlib.util
import json
import subprocess

import pytest

from conftest import REPOSITORY

_SCRIPT = REPOSITORY / "scripts/licences"
_loader = importlib.machinery.SourceFileLoader("licences", str(_SCRIPT))
licences = importlib.util.module_from_spec(importlib.util.spec_from_loader("licences", _loader))
_loader.exec_module(licences)


def run(command):
    done = subprocess.run(
        [_SCRIPT, command], capture_output=True, text=True, timeout=60, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_licences_are_allowed():
    run("check")


def test_a_licence_that_is_not_allowed_is_found(monkeypatch):
    others = licences.allowed() - {"0BSD"}
    monkeypatch.setattr(licences, "allowed", lambda: others)
    with pytest.raises(SystemExit, match="varint-rs .*: 0BSD"):
        licences.check()


@pytest.mark.parametrize(
    "expression, holds",
    [
        ("MIT", True),
        ("GPL-3.0", False),
        ("", False),
        ("GPL-3.0 OR MIT", True),
        ("MIT/GPL-3.0", True),
        ("MIT AND GPL-3.0", False),
        ("MIT AND ISC", True),
        ("(MIT OR GPL-3.0) AND ISC", True),
        ("GPL-3.0 AND (MIT OR ISC)", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("MIT WITH x", True),
    ],
)
def test_an_expression_is_read(expression, holds):
    assert licences.may_be_used(expression, {"MIT", "ISC", "Apache-2.0", "MIT WITH x"}) is holds


def test_what_is_linked_is_listed_with_its_texts():
    named = {(package["name"], package["version"]) for package in licences.linked()}
    names = {name for name, _ in named}
    # Of the library, of the tool, of the plugins beside it; and not of its tests.
    assert {"zenoh", "fjall", "clap", "zenoh-plugin-storage-manager"} <= names
    assert not {"proptest", "negentropy", "custom-backend"} & names

    text = run("notices")
    assert all(f"\n{name} {version}: " in text for name, version in named)
    assert "Permission is hereby granted, free of charge" in text and "TERMS AND CONDITIONS" in text

    components = json.loads(run("sbom"))["components"]
    assert {(part["name"], part["version"]) for part in components} == named
