"""The verifier in Python accepts the proofs that the library makes, and nothing else.

The proofs are those that the library's own test pins (src/proof/tests.rs).
"""

import json
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from zenoh_mst import proof as verify_proof

_VERIFIER = REPOSITORY / "python/src/zenoh_mst/proof.py"
_VECTORS = json.loads((REPOSITORY / "tests/vectors/proofs.json").read_text())
_ACCEPTED = {vector["name"]: vector for vector in _VECTORS["accepted"]}
_REFUSED = {vector["name"]: vector for vector in _VECTORS["refused"]}


@pytest.fixture
def run(tmp_path):
    """Runs the program as a user does; takes the proof, and the value if there is one."""

    def run(root, key, proof, *value):
        files = []
        for name, content in zip(("proof", "value"), (proof, *value)):
            files.append(tmp_path / name)
            files[-1].write_bytes(content)
        command = [sys.executable, _VERIFIER, root, key or "", *files]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    return run


def holds(vector, proof):
    """Whether it accepts these bytes as the vector's proof."""
    try:
        proof = verify_proof.Proof(proof, verify_proof.canonical(vector["key"]))
    except ValueError:
        return False
    return proof.root.hex() == vector["root"]


def proof_of(vector):
    return bytes.fromhex(vector["proof"])


@pytest.mark.parametrize("name", _ACCEPTED)
def test_what_is_proven_is_printed(run, name):
    vector = _ACCEPTED[name]
    result = run(vector["root"], vector["key"], proof_of(vector))
    assert result.returncode == 0, result.stderr
    first, *lines = result.stdout.splitlines()
    assert first == f"cells of {vector['key'] or 'the strip_prefix'}: {len(lines)}"
    assert lines == [
        " ".join(
            [
                cell["timestamp"],
                cell["part"] or "own",
                "deleted" if cell["payload"] is None else f"{len(cell['payload']) // 2} bytes",
            ]
        )
        for cell in vector["cells"]
    ]


@pytest.mark.parametrize("name", _REFUSED)
def test_a_forgery_is_refused(name):
    vector = _REFUSED[name]
    assert not holds(vector, proof_of(vector))


@pytest.mark.parametrize("name", _ACCEPTED)
def test_what_is_changed_is_refused(name):
    vector = _ACCEPTED[name]
    proof = proof_of(vector)
    assert holds(vector, proof)
    for place in range(len(proof)):
        change = 1 << place % 8
        changed = proof[:place] + bytes([proof[place] ^ change]) + proof[place + 1 :]
        assert not holds(vector, changed), place
        assert not holds(vector, proof[:place]), place
    assert not holds(vector, proof + b"\0")


def test_another_root_or_key_is_refused(run):
    vector = _ACCEPTED["the only cell"]
    root, key, proof = vector["root"], vector["key"], proof_of(vector)
    other = _ACCEPTED["one of many"]
    assert run(root, key, proof).returncode == 0
    assert run(root.upper(), key, proof).returncode == 0
    for arguments in [
        (other["root"], key, proof),
        (root, other["key"], proof),
        (root, key, proof_of(other)),
        (root, "room/*", proof),
        (root, key, b""),
        ("", key, proof),
    ]:
        result = run(*arguments)
        assert result.returncode == 1
        assert result.stdout == ""
        assert "does not hold" in result.stderr


def test_a_value_is_compared(run):
    vector = _ACCEPTED["the only cell"]
    arguments = (vector["root"], vector["key"], proof_of(vector))
    assert run(*arguments, b"on").returncode == 0
    for other in (b"off", b"", b"on\n"):
        result = run(*arguments, other)
        assert result.returncode == 1
        assert "another" in result.stderr


def test_a_proof_that_is_too_deep_is_refused(run):
    proof = b"\x01\x00\x01\x00\x02"
    for depth in range(10_000):
        level = (64 << 8) - depth
        proof += level.to_bytes(2, "big") + b"\x80\x00\x00\x01\x02" + bytes(32)
    result = run("00" * 32, "", proof)
    assert result.returncode == 1
    assert "too deep" in result.stderr
