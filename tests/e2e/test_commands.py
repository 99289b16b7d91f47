"""What README.md and docs/ tell a reader to type works as it stands there, with the outputs shown.

Each page is followed from its beginning to its end with a router of its own, started from
`config/zenohd.json5` as `make run` does. Of a block in `sh` each command has to end with 0, and REST
has to answer with success; a block in `python` has to run, on what the blocks before it left behind.
Only ports, folders, and identities of replicas are not those of the page. A command, or a line that
prints, whose comment begins like a value has to print that value. A put may be taken a moment after
it was sent, as the pages say: so such a line is repeated until it prints what it should.

In blocks in `text` the lines after `$ mstctl` are sessions at some replica in some trouble, which
tests of their own bring about. Here the tool has to know the commands.
"""

import ast
import contextlib
import io
import json
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.parse
from dataclasses import dataclass

import pytest
import zenoh

from conftest import LIBRARIES, REPOSITORY
from polling import PATIENCE, wait_until
from router import SHIPPED_LIBRARIES, Programs, Router, replace_all

pytestmark = pytest.mark.doors("plugin")

_PAGES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))]
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)

#: Commands that are not run here, by their page and how they begin, and why.
_NOT_RUN = {
    ("README.md", "make"): "the first builds and runs, as test_shipped_files.py; the second is this",
    ("README.md", "target/release/mstctl watch"): "goes on until it is interrupted: test_mstctl.py",
    ("mstctl.md", "cargo build"): "`make build` does it",
    ("mstctl.md", "mstctl --dir"): "of a closed folder: test_mstctl.py",
    ("operators.md", "target/release/mst-router"): "goes on until it is stopped: test_mst_router.py",
    ("operators.md", "rustup target add"): "another toolchain, and as long as a first build",
    ("operators.md", "CARGO_TARGET"): "the same",
    ("operators.md", "cargo build"): "the same",
    ("operators.md", "storages="): "of the volume, and writable: test_runtime_changes.py",
    ("operators.md", "curl -X PUT $storages"): "the same",
    ("operators.md", "curl -X DELETE $storages"): "the same",
    ("operators.md", "mstctl --dir"): "of a closed folder: test_backup.py",
    ("incidents.md", "date"): "a clock, and a program that need not be there",
    ("metrics.md", "curl -sf"): "what it writes is looked at by test_metrics_targets",
    ("security.md", "mstctl -c"): "with certificates: test_security.py",
    ("client.md", "pip install ./python"): "needs the internet: the package is there as it is",
}

#: A comment that is what comes out.
_OUTPUT = re.compile(r"^(?P<command>.*?\S)\s+# (?P<output>[-\d\[{(\"'b].*|ready|hello|demo/.*)$")


@dataclass
class Place:
    """Where a page is followed: a folder like the clone of a reader, and a router."""

    folder: object
    router: Router
    identity: str

    def here(self, text):
        """The text with what is different here."""
        for shipped, ours in {
            "127.0.0.1:8000": f"127.0.0.1:{self.router.rest_port}",
            "tcp/127.0.0.1:7447": self.router.endpoint,
            SHIPPED_LIBRARIES: str(self.folder / "installed"),
            "0123456789abcdef0123456789abcdef": self.identity,
            "fleet/**": "demo/**",
        }.items():
            text = text.replace(shipped, ours)
        return re.sub(r"-r [0-9a-f]{4}\b", f"-r {self.identity}", text)


@pytest.fixture
def place(start_router, tmp_path):
    router = start_router(
        {"demo": None}, config_file=REPOSITORY / "config/zenohd.json5", door="plugin"
    )
    folder = tmp_path / "clone"
    for path in ("target/release", "config", "examples", "python"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).symlink_to(REPOSITORY / path)
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "mstctl").symlink_to(REPOSITORY / "target/release/mstctl")
    (commands / "pip").write_text(
        f'#!/bin/sh\nexec {sys.executable} -m pip --disable-pip-version-check "$@" --no-index\n'
    )
    (commands / "pip").chmod(0o755)
    return Place(folder, router, router.status("demo")["identity"])


def blocks(page, language):
    """The blocks of a page, in order, without the indentation of a list."""
    for indent, of, text in _BLOCK.findall(page.read_text()):
        if of == language:
            lines = text.splitlines()
            yield "\n".join(line.removeprefix(indent) for line in lines)


def commands_of(block):
    """The commands of a block in `sh`; after a backslash, and within quotes, a line goes on."""
    command = ""
    for line in block.replace("\\\n", " ").splitlines():
        command = f"{command}\n{line}".strip()
        try:
            shlex.split(command, comments=True)
        except ValueError:
            continue
        if command and not command.startswith("#"):
            yield command
        command = ""
    assert not command, f"it does not end: {command}"


def reason_not_to_run(page, command):
    for (name, beginning), reason in _NOT_RUN.items():
        if page.name == name and command.startswith(beginning):
            return reason
    return None


def run_sh(place, script):
    """Runs commands; of curl an error of the server is one."""
    before = 'curl() { command curl --fail --silent --show-error "$@"; }\n'
    environment = {
        **os.environ,
        "PATH": f"{place.folder.parent / 'commands'}:{os.environ['PATH']}",
        "MSTCTL_CONNECT": place.router.endpoint,
        "NO_COLOR": "1",
        "replica": place.identity,
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", before + script],
        cwd=place.folder,
        env=environment,
        # Where a person is asked.
        input="yes\n",
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
    )


def follow_sh(page, place, block, variables):
    for command in commands_of(block):
        if reason_not_to_run(page, command):
            continue
        line = _OUTPUT.match(command)
        script = place.here(line["command"] if line else command)
        if "mstctl" in command and " rollback " in command:
            # Without a terminal nobody is asked.
            script = script.split("#")[0].rstrip() + " --yes"
        before = "\n".join(variables)

        def check():
            done = run_sh(place, f"{before}\n{script}")
            assert done.returncode == 0, f"{page.name}: {command}\n{done.stdout}\n{done.stderr}"
            assert not re.search(r'"key":\s*"ERROR"', done.stdout), f"{command}\n{done.stdout}"
            return line is None or done.stdout.strip() == line["output"]

        wait_until(check, f"{page.name}: {command} prints what the page says")
        if re.match(r"\w+=", script):
            variables.append(script)


def follow_python(page, place, block, names):
    """Runs a block, statement by statement, and compares what it prints."""
    text = place.here(block)
    lines = text.splitlines()
    for statement in ast.parse(text).body:
        expected = [
            found["output"]
            for line in lines[statement.lineno - 1 : statement.end_lineno]
            if (found := _OUTPUT.match(line)) and re.match(r"\s*(show|print)\(", line)
        ]
        code = compile(ast.Module([statement], []), page.name, "exec")

        def check():
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, names)
            return not expected or printed.getvalue().splitlines() == expected

        is_expression = isinstance(statement, ast.Expr)
        if expected and is_expression:
            wait_until(check, f"{page.name}: {lines[statement.lineno - 1]}")
        else:
            assert check(), f"{page.name}: {lines[statement.lineno - 1]} prints {expected}"


#: Which begins what the next blocks go on with, in the background.
_TUTORIAL = REPOSITORY / "docs/tutorial.md"

_FOLLOWED = [
    page
    for page in _PAGES
    if page != _TUTORIAL
    and {of for _, of, _ in _BLOCK.findall(page.read_text())} & {"sh", "python"}
]


@pytest.mark.parametrize("page", _FOLLOWED, ids=lambda page: page.name)
def test_a_page_can_be_followed(place, page):
    with zenoh.open(zenoh.Config.from_json5(place.here(_CLIENT))) as session:
        names = {"session": session, "zenoh": zenoh, "json": json}
        variables = []
        place.router.client.put("demo/greeting", "hello")
        place.router.wait_for_status("demo", lambda status: status["cells"] == 1, "it settles")
        for indent, language, text in _BLOCK.findall(page.read_text()):
            block = "\n".join(line.removeprefix(indent) for line in text.splitlines())
            if language == "sh":
                follow_sh(page, place, block, variables)
            elif language == "python":
                follow_python(page, place, block, names)
        for value in names.values():
            if isinstance(value, zenoh.Session) and value is not session and not value.is_closed():
                value.close()


_CLIENT = """{
    mode: "client", connect: {endpoints: ["tcp/127.0.0.1:7447"]}, timestamping: {enabled: true},
}"""


def test_what_is_not_run_is_there():
    """A command that is gone needs no reason."""
    unknown = set(_NOT_RUN)
    for page in _PAGES:
        for block in blocks(page, "sh"):
            for command in commands_of(block):
                unknown -= {
                    (name, beginning)
                    for name, beginning in unknown
                    if page.name == name and command.startswith(beginning)
                }
    assert not unknown


def test_there_is_something_to_compare():
    """So that a change of the form of the pages does not leave nothing to compare."""
    outputs = {
        page.name: sum(
            bool(_OUTPUT.match(line))
            for language in ("sh", "python")
            for block in blocks(page, language)
            for line in block.splitlines()
        )
        for page in _PAGES
    }
    assert outputs["README.md"] >= 1 and outputs["merging.md"] >= 4 and outputs["client.md"] >= 10


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_mstctl_knows_the_commands_of_its_sessions(page):
    for block in blocks(page, "text"):
        for line in block.splitlines():
            if not line.startswith("$ mstctl "):
                continue
            command = re.split(r" [|>] ", line.removeprefix("$ "))[0]
            words = shlex.split(command, comments=True)
            done = subprocess.run(
                [REPOSITORY / "target/release/mstctl", *words[1:], "--help"],
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
            assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_the_libraries_that_the_readme_installs_are_what_a_router_needs(place, tmp_path):
    """With a zenohd that has nothing else, and the configuration that follows there."""
    page = REPOSITORY / "README.md"
    [install] = [
        command
        for block in blocks(page, "sh")
        for command in commands_of(block)
        if command.startswith("install ")
    ]
    done = run_sh(place, place.here(install))
    assert done.returncode == 0, done.stderr
    installed = place.folder / "installed"
    assert {path.name for path in installed.iterdir()} == set(LIBRARIES)
    [config] = blocks(page, "json5")
    (tmp_path / "readme.json5").write_text(config)
    programs = Programs(place.router._programs.zenohd, installed, None)
    router = Router(
        programs,
        tmp_path / "own",
        {"fleet": None},
        config_file=tmp_path / "readme.json5",
        door="plugin",
    )
    try:
        router.start()
        router.client.put("fleet/a", "stored")
        router.client.wait_for("fleet/a", {"fleet/a": b"stored"})
    finally:
        router.kill()


@pytest.mark.skipif(shutil.which("jq") is None, reason="the page's line needs jq")
def test_metrics_targets(place):
    [line] = [
        block
        for block in blocks(REPOSITORY / "docs/metrics.md", "sh")
        if block.startswith("curl -sf")
    ]
    done = run_sh(place, place.here(line))
    assert done.returncode == 0, done.stderr
    [target] = json.loads((place.folder / "zenoh-mst-targets.json").read_text())
    assert target["labels"]["instance"] == place.identity[:8]
    # Prometheus escapes the path.
    path = urllib.parse.quote(target["labels"]["__metrics_path__"][1:])
    metrics = place.router.request("GET", f"{path}?_raw=true")
    assert metrics.status == 200 and b"zenoh_mst_keys" in metrics.body


@pytest.mark.skipif(shutil.which("jq") is None, reason="the page needs jq")
def test_the_tutorial_can_be_followed(tmp_path):
    """All of it in one shell, as a reader does."""
    for path in ("target/release", "config"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).symlink_to(REPOSITORY / path)
    base = three_ports()
    text = replace_all(
        "\n".join(blocks(_TUTORIAL, "sh")),
        {"zenoh=744 rest=800": f"zenoh={base} rest={base + 1}"},
    )
    outputs = 0
    lines = ["set -eu"]
    for line in text.splitlines():
        shown = _OUTPUT.match(line)
        if shown:
            outputs += 1
            output = shlex.quote(shown["output"])
            line = f'until [ "$({shown["command"]})" = {output} ]; do sleep 0.1; done'
        lines.append(line)
    assert outputs >= 5
    with open(tmp_path / "said", "wb") as said:
        shell = subprocess.Popen(
            ["bash", "-c", "\n".join(lines)],
            cwd=tmp_path,
            env={**os.environ, "ZENOH_HOME": str(tmp_path / "home"), "NO_COLOR": "1"},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        code = shell.wait(100)
    except subprocess.TimeoutExpired:
        code = "it does not end"
    finally:
        # What it began, too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    logs = [path.read_text()[-2000:] for path in sorted(tmp_path.glob("tour/*.log"))]
    said = (tmp_path / "said").read_text()
    assert code == 0, "\n".join([said[-3000:], *logs])
    # What is waited for before `replicas` is in what it shows: the greeting, and three additions.
    lines = said.splitlines()
    header = next(number for number, line in enumerate(lines) if " CELLS " in line)
    at = lines[header].split().index("CELLS")
    assert [row.split()[at] for row in lines[header + 1 :][:3]] == ["4"] * 3, said
    assert not (tmp_path / "tour").exists()


def three_ports():
    """A number of four digits with which, and a 1, 2 or 3 after it, free ports begin; and so for the next."""
    while True:
        base = random.randrange(2100, 3100)
        numbers = [10 * at + n for at in (base, base + 1) for n in (1, 2, 3)]
        if all(map(is_free, numbers)):
            return base


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
