"""`make build FOR=ZENOHD` takes the compiler that zenohd was built with, or says how to get it; and a
zenohd that was built otherwise says so in one line, and goes on."""

import os
import re
import shutil
import subprocess

import pytest

from conftest import REPOSITORY
from router import Programs, Router, storage

STABLE = "rustc 1.97.1 (8bab26f4f 2026-07-14)"
OTHER = "rustc 1.95.0 (59807616e 2026-04-14)"
ZENOH = "1.10.2"


@pytest.fixture
def build_for(tmp_path):
    """Runs the script where only these programs are: what each says, and what was run."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "sed", "dirname", "head", "grep", "date", "cat", "uname"):
        (programs / name).symlink_to(shutil.which(name))
    ran = tmp_path / "ran"

    def program(folder, name, text):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def build_for(version, *, rustc=None, toolchains=None):
        """`toolchains` are those of rustup, None if there is no rustup."""
        zenohd = program(tmp_path, "zenohd", version)
        if rustc is not None:
            program(programs, "rustc", f"echo '{rustc}'")
        program(programs, "cargo", f'echo "cargo $*" >> {ran}')
        if toolchains is not None:
            cases = " ".join(f"{name}) echo '{said}';;" for name, said in toolchains.items())
            program(
                programs,
                "rustup",
                'toolchain=$2; shift 2\n'
                f'if [ "$1" = rustc ]; then case $toolchain in {cases} *) exit 1;; esac\n'
                f'else echo "$toolchain: $*" >> {ran}; fi',
            )
        done = subprocess.run(
            [REPOSITORY / "scripts/build-for", zenohd],
            env={"PATH": str(programs)},
            capture_output=True,
            text=True,
            timeout=30,
        )
        return done, ran.read_text() if ran.exists() else ""

    return build_for


def says(zenoh=ZENOH, rustc=STABLE):
    return f"echo 'zenohd v{zenoh} built with {rustc}'"


BUILD = "build --release --locked --lib --bins --examples"


@pytest.mark.parametrize("zenoh", [ZENOH, f"{ZENOH}-4-g0123456"])
def test_the_compiler_that_is_there_is_used(build_for, zenoh):
    done, ran = build_for(says(zenoh), rustc=STABLE)
    assert done.returncode == 0, done
    assert ran == f"cargo {BUILD}\n"
    assert "target/release/libzenoh_backend_mst.so" in done.stdout


def test_a_toolchain_that_rustup_has_is_used(build_for):
    done, ran = build_for(says(), rustc=OTHER, toolchains={"1.97.1": STABLE})
    assert done.returncode == 0, done
    assert ran == f"1.97.1: cargo {BUILD} --target-dir target/for-1.97.1\n"
    assert STABLE in done.stdout and OTHER in done.stdout
    assert "target/for-1.97.1/release/libzenoh_backend_mst.so" in done.stdout


@pytest.mark.parametrize(
    "version, rustc, toolchain",
    [
        ("1.99.0-nightly", "rustc 1.99.0-nightly (0123abc 2026-10-31)", "nightly-2026-11-01"),
        ("1.98.0-beta.2", "rustc 1.98.0-beta.2 (0123abc 2026-08-09)", "beta-2026-08-10"),
    ],
)
def test_toolchains_of_a_day_are_named_by_the_next(build_for, version, rustc, toolchain):
    done, ran = build_for(says(rustc=rustc), rustc=OTHER, toolchains={toolchain: rustc})
    assert done.returncode == 0, done
    assert ran.startswith(f"{toolchain}: cargo build")


@pytest.mark.parametrize(
    "version, options, said",
    [
        # What is to be typed.
        (says(), {"rustc": OTHER, "toolchains": {}}, "rustup toolchain install 1.97.1 "),
        (says(), {"rustc": OTHER}, "https://rustup.rs"),
        (says(), {}, "here is no rustc"),
        # A toolchain of this name that is another one: a distribution's.
        (says(), {"rustc": OTHER, "toolchains": {"1.97.1": OTHER}}, "rustup toolchain install"),
        (says("1.9.0"), {"rustc": STABLE}, f"cargo install zenohd --version {ZENOH} --locked"),
        (says("1.10.20"), {"rustc": STABLE}, "is of Zenoh 1.10.20"),
        (says() + "; : /lib/ld-musl-x86_64.so.1", {"rustc": STABLE}, "unknown-linux-musl"),
        ("echo zenohd", {"rustc": STABLE}, "it says: zenohd"),
        ("echo no way; exit 3", {"rustc": STABLE}, "it says: no way"),
        (says(rustc="rustc 1.97.1-dev (0123abc 2026-08-09)"), {"rustc": STABLE}, "no toolchain of"),
    ],
)
def test_what_is_missing_is_said_and_nothing_is_built(build_for, version, options, said):
    done, ran = build_for(version, **options)
    assert done.returncode == 1 and ran == "", done
    assert said in done.stderr, done.stderr


def test_a_program_that_is_not_there_is_named():
    for path in ("/none/zenohd", "/tmp"):
        done = subprocess.run(
            ["make", "build", f"FOR={path}"],
            cwd=REPOSITORY,
            env={**os.environ, "LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode != 0 and f"There is no program {path}" in done.stderr, done


def test_make_builds_for_the_zenohd_here(programs):
    """Without building: it is the one that this repository builds for."""
    done = subprocess.run(
        ["make", "--dry-run", "build", f"FOR={programs.zenohd}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert f"scripts/build-for {programs.zenohd}" in done.stdout.replace('"', "")
    said = subprocess.run(
        [programs.zenohd, "--version"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    rustc = subprocess.run(
        ["rustc", "--version"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert f"v{ZENOH} built with {rustc}" in said


def test_a_zenohd_of_another_compiler_says_so_in_a_line(programs, tmp_path):
    """As far as it can be made here: what the zenohd says of itself is changed in its file."""
    said = subprocess.run(
        [programs.zenohd, "--version"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    commit = re.search(r"rustc \S+ \((\w+) ", said)[1]
    text = programs.zenohd.read_bytes()
    assert commit.encode() in text
    other = tmp_path / "zenohd"
    other.write_bytes(text.replace(commit.encode(), b"0" * len(commit)))
    other.chmod(0o755)
    router = Router(
        Programs(other, programs.libraries, programs.mst_router),
        tmp_path / "router",
        {"demo": storage("demo/**")},
        expected=[],
        door="plugin",
    )
    try:
        router.start()
        # Of the plugin that it was told to load, and of REST.
        router.wait_for_log("libzenoh_plugin_mst.so: Plugin compatibility mismatch")
        router.wait_for_log("Incompatible rustc versions")
        assert router.is_running and "panicked" not in router.log()
    finally:
        router.kill()
