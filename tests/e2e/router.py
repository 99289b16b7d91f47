"""A real zenohd with the backend, started and ended by a test."""

import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from client import Client
from polling import PATIENCE, wait_until

#: Below the range from which Linux takes the ports of outgoing connections, so
#: that a port is still free when a router is started on it again. Each of the processes that
#: run tests side by side has every eighth.
_WORKERS = 8
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _WORKERS
_PORTS = range(20_000 + _WORKER, 32_000, _WORKERS)
_ports_given = set()

_MANAGER = "plugins/storage_manager"
_PLUGIN = "plugins/mst"

#: The plugin by which the backend shares the router's own session.
COMPANION = "libzenoh_plugin_mst.so"

#: Where configurations that come with the project expect the libraries, and where their
#: REST plugin listens.
SHIPPED_LIBRARIES = "/opt/zenoh-mst"
_SHIPPED_REST = "127.0.0.1:8000"

#: What zenohd says when it listens, which is after all plugins have started.
_LISTENING = "Zenoh can be reached at"


def free_port():
    """A loopback port that nothing listens on, and that nobody else was given."""
    while True:
        port = random.choice(_PORTS)
        if port in _ports_given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _ports_given.add(port)
        return port


def replace_all(text, replaced):
    """`text` with others in the place of some of its parts, which have to be there."""
    for shipped, ours in replaced.items():
        assert shipped in text, f"it has {shipped}\n{text}"
        text = text.replace(shipped, ours)
    return text


@dataclass(frozen=True)
class Programs:
    """What a router is made of."""

    zenohd: Path
    #: The folder with the backend and its plugins.
    libraries: Path
    #: The router that has all in it.
    mst_router: Path


@dataclass(frozen=True)
class Response:
    """What the REST plugin answers."""

    status: int
    body: bytes

    def json(self):
        return json.loads(self.body)


#: Options of the volume that the plugin has as well.
_OF_BOTH_DOORS = ("root", "graceful_stop")


def served(config):
    """The configuration of the same storage at the plugin: the options are flat."""
    config = dict(config)
    volume = config.pop("volume")
    return {**config, **{name: value for name, value in volume.items() if name != "id"}}


def storage(key_expr, volume="mst", *, strip_prefix=None, **options):
    """The configuration of a storage, `options` being those of the backend."""
    options = {"operators": "all", **options} if volume != "memory" else options
    options = {name: value for name, value in options.items() if value is not None}
    config = {"key_expr": key_expr, "volume": {"id": volume, **options}}
    if strip_prefix is not None:
        config["strip_prefix"] = strip_prefix
    return config


class Router:
    """A zenohd process, its configuration, data folder and log, below `folder`.

    `expected` names the storages that have to be up for the router to count as
    started: all, if it is not given. `data` is the folder for what is stored, if it
    is not to be the router's own. `config_file` is a configuration to be used
    instead of one made here, as it is but for ports and the folder of the libraries. `environment` is added to that of the process;
    what is None in it is taken away.

    It knows the routers whose endpoints `connect` gives, and no others. Gets of what
    matches `own_gets` it answers from its own storages alone; else it would ask another
    router's, too. `session` is where the backend has its Zenoh session from: "runtime",
    by the companion plugin; "client", a session of its own with this router. `zenoh` has further sections of Zenoh's
    configuration, as they are.

    `door` is who serves the storages: "volume", the storage manager's; or "plugin", the plugin
    itself, in a router without a storage manager. `served` are storages that the plugin serves
    beside those of the volume, as `storage` makes them. `program` is "zenohd", or "mst-router",
    which has the plugin in it.
    """

    def __init__(
        self,
        programs,
        folder,
        storages,
        *,
        volumes=None,
        expected=None,
        config_is_writable=False,
        data=None,
        config_file=None,
        environment=None,
        connect=(),
        own_gets=None,
        session=None,
        zenoh=None,
        door="volume",
        served=None,
        program="zenohd",
    ):
        self.folder = Path(folder)
        self.door = door
        self._program = programs.zenohd if program == "zenohd" else programs.mst_router
        self._served = served or {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = Path(data) if data else self.folder / "data"
        self.zenoh_home = self.folder / "zenoh_home"
        self.log_path = self.folder / "zenohd.log"
        self.port = free_port()
        self.rest_port = free_port()
        self._programs = programs
        self._session = session
        self._zenoh = zenoh or {}
        self._whatami = self._zenoh.get("mode", "router")
        self._volumes = {"mst": self._volume_config()} if volumes is None else volumes
        self._storages = storages
        self._expected = list(storages if expected is None else expected)
        self._config_is_writable = config_is_writable
        self._environment = {
            **os.environ,
            # zenohd itself says its whole configuration at `info`.
            "RUST_LOG": "info,zenohd=warn",
            "NO_COLOR": "1",
            "ZENOH_HOME": str(self.zenoh_home),
            "ZENOH_BACKEND_MST_ROOT": str(self.data),
            **(environment or {}),
        }
        self._config_file = config_file
        self._connect = list(connect)
        self._own_gets = own_gets
        self._process = None
        self._client = None
        #: Bytes in the log from before the process was started.
        self._log_before = 0

    # Starting and ending.

    def start(self):
        """Starts zenohd, and returns when the expected storages answer."""
        assert self._process is None, "the router runs already"
        command = [self._program, "-c", *self._config_arguments()]
        if shutil.which("setpriv"):
            # Should the tests be killed, the router ends, too.
            command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        with open(self.log_path, "ab") as log:
            self._log_before = log.tell()
            self._process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={k: v for k, v in self._environment.items() if v is not None},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._is_up, lambda: f"the router is up\n{self.log_tail()}")
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self):
        """SIGTERM, as an init system sends it."""
        self._end(subprocess.Popen.terminate)

    def kill(self):
        """SIGKILL: the process has no chance to do anything more."""
        self._end(subprocess.Popen.kill)

    def end_by(self, number):
        """Ends it by a signal, and returns the status with which it ended."""
        return self._end(lambda process: process.send_signal(number))

    def _end(self, send_signal):
        process, self._process = self._process, None
        client, self._client = self._client, None
        if process is None:
            return None
        send_signal(process)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=PATIENCE)
            raise
        finally:
            if client is not None:
                client.close()
        return process.returncode

    def restart(self):
        """Ends the router with SIGTERM, and starts it on the same ports and data."""
        self.stop()
        return self.start()

    @property
    def is_running(self):
        return self._process is not None and self._process.poll() is None

    def _config_arguments(self):
        if self._config_file is None:
            config_path = self.folder / "zenohd.json5"
            config_path.write_text(json.dumps(self._config(), indent=2))
            return [config_path]
        text = replace_all(
            self._config_file.read_text(),
            {
                SHIPPED_LIBRARIES: str(self._programs.libraries),
                _SHIPPED_REST: f"127.0.0.1:{self.rest_port}",
            },
        )
        path = self.folder / "shipped.json5"
        path.write_text(text)
        # It would find other routers of this machine, and they it.
        overrides = [f'listen/endpoints:["{self.endpoint}"]', "scouting/multicast/enabled:false"]
        return [path, *(word for value in overrides for word in ("--cfg", value))]

    def _config(self):
        return {
            "mode": "router",
            "listen": {"endpoints": [self.endpoint]},
            "connect": {
                "endpoints": self._connect,
                "retry": {"period_init_ms": 100, "period_max_ms": 200},
            },
            "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": False}},
            "timestamping": {"enabled": {"router": True, "peer": True, "client": True}},
            "adminspace": {
                "enabled": True,
                "permissions": {"read": True, "write": self._config_is_writable},
            },
            "access_control": self._access_control(),
            "plugins_loading": {
                "enabled": True,
                "search_dirs": [str(self._programs.libraries)],
            },
            "plugins": {
                **self._companion(),
                "rest": {"http_port": f"127.0.0.1:{self.rest_port}"},
                **self._manager(),
            },
            **self._zenoh,
        }

    def _manager(self):
        if self.door == "plugin":
            return {}
        manager = {
            "backend_search_dirs": [str(self._programs.libraries)],
            "volumes": self._volumes,
            "storages": self._storages,
        }
        return {"storage_manager": manager}

    def _access_control(self):
        if self._own_gets is None:
            return {"enabled": False}
        rule = {
            "id": "gets",
            "messages": ["query"],
            "flows": ["egress"],
            "permission": "deny",
            "key_exprs": [self._own_gets],
        }
        return {
            "enabled": True,
            "default_permission": "allow",
            "rules": [rule],
            "subjects": [{"id": "all"}],
            "policies": [{"rules": ["gets"], "subjects": ["all"]}],
        }

    def _volume_config(self):
        if self._session != "client":
            return {}
        connect = {"endpoints": [self.endpoint], "retry": {"period_init_ms": 10}}
        return {"session": {"mode": "client", "connect": connect}}

    def _companion(self):
        storages = self._storages if self.door == "plugin" else self._served
        if self._session != "runtime" and not storages and self.door != "plugin":
            return {}
        flat = {name: served(config) for name, config in storages.items()}
        path = str(self._programs.libraries / COMPANION)
        options = {"__path__": path, **({"storages": flat} if flat else {})}
        if self.door == "plugin":
            of_volume = self._volumes.get("mst", {})
            options |= {name: of_volume[name] for name in _OF_BOTH_DOORS if name in of_volume}
        return {"mst": options}

    def _is_up(self):
        code = self._process.poll()
        assert code is None, f"zenohd ended with {code}\n{self.log_tail()}"
        # A question about plugins that comes before all of them have started may
        # block the REST plugin for ever, and zenohd with it.
        if _LISTENING not in self.log():
            return False
        try:
            return all(self.status(name) for name in self._expected)
        except (OSError, http.client.HTTPException):
            return False

    # Talking to it.

    @property
    def pid(self):
        """Of the process that runs."""
        return self._process.pid

    @property
    def endpoint(self):
        return f"tcp/127.0.0.1:{self.port}"

    @property
    def client(self):
        """A Zenoh client, connected to this router. Closed with it."""
        if self._client is None:
            self._client = Client(self.port)
        return self._client

    @property
    def rest_url(self):
        return f"http://127.0.0.1:{self.rest_port}"

    def request(self, method, path, body=None, headers=None):
        """One request to the REST plugin."""
        connection = http.client.HTTPConnection("127.0.0.1", self.rest_port, timeout=PATIENCE)
        try:
            connection.request(method, f"/{path}", body=body, headers=headers or {})
            response = connection.getresponse()
            return Response(response.status, response.read())
        finally:
            connection.close()

    # The admin space.

    def neighbours(self):
        """The identities of the routers that it is connected with."""
        (reply,) = self.request("GET", f"@/local/{self._whatami}").json()
        sessions = reply["value"]["sessions"]
        return {session["peer"] for session in sessions if session["whatami"] == "router"}

    def status(self, name):
        """The admin status of a storage; None if there is no such storage."""
        is_served = self.door == "plugin" or name in self._served
        return self._admin_value(f"status/{_PLUGIN if is_served else _MANAGER}/storages/{name}")

    def zid(self):
        """The identity that it has since it was started."""
        [*_, last] = re.findall(r"Using ZID: (\w+)", self.log())
        return last

    def volume_status(self, name):
        """The admin status of a volume; None if there is no such volume."""
        return self._admin_value(f"status/{_MANAGER}/volumes/{name}")

    def _admin_value(self, path):
        if "namespace" in self._zenoh:
            # REST has it, too, and so does not reach the admin space.
            key = f"@/{self.zid()}/{self._whatami}/{path}"
            values = [json.loads(value) for value in self.client.get(key).values()]
            return values[0] if values else None
        response = self.request("GET", f"@/local/{self._whatami}/{path}")
        assert response.status == 200, f"{path}: {response}"
        replies = response.json()
        assert len(replies) <= 1, f"{path} has one answer: {replies}"
        return replies[0]["value"] if replies else None

    def add_storage(self, name, config):
        """Adds a storage, or changes its configuration, at run time; waits until it is up."""
        config = self.config_of(config)
        self.configure(f"storages/{name}", config)
        self.wait_for_status(
            name, lambda status: status["configuration"] == config, f"it has {config}"
        )

    @property
    def configured(self):
        """Where its storages are configured, below `config` and `status` of its admin space."""
        return _PLUGIN if self.door == "plugin" else _MANAGER

    @property
    def session(self):
        """What the status of a replicated storage says of its session."""
        return "given" if self.door == "plugin" else self._session

    def config_of(self, storage):
        """The configuration of a storage as its door has it."""
        is_served = self.door == "plugin" and "volume" in storage
        return served(storage) if is_served else storage

    def configure(self, path, config):
        """Changes the configuration of the storages, or of volumes, at run time.

        Returns when that is done, or refused: then the log says so.
        """
        config = self.config_of(config)
        response = self.request(
            "PUT",
            f"@/local/{self._whatami}/config/{self.configured}/{path}",
            body=json.dumps(config),
            headers={"content-type": "application/json"},
        )
        assert response.status == 200, response

    def remove_storage(self, name):
        """Removes a storage at run time.

        Its status must not be asked for until it is gone: the storage manager's
        queue to a storage has one place, and the question would take that of the
        order to stop.
        """
        response = self.request("DELETE", f"@/local/{self._whatami}/config/{self.configured}/storages/{name}")
        assert response.status == 200, response

    # Waiting for what it does.

    def wait_for_status(self, name, condition, what, timeout=PATIENCE):
        """Returns the first status of a storage for which `condition` is true."""
        last = None

        def check():
            nonlocal last
            last = self.status(name)
            return last if last is not None and condition(last) else None

        return wait_until(check, lambda: f"{name}: {what}; its status is {last}", timeout)

    def wait_for_counters(self, name, **counters):
        """Waits until counters have these values, which they have to reach exactly."""
        return self.wait_for_status(
            name,
            lambda status: counters.items() <= status["counters"].items(),
            f"counters {counters}",
        )

    def wait_until_settled(self, name, **fields):
        """Waits until nothing is on its way into the tree, and the status says `fields`.

        The root is made a moment after the last update is settled: `fields`, such
        as the number of cells, tell that it is that of the expected state.
        """
        return self.wait_for_status(
            name,
            lambda status: not any(status["queues"].values()) and fields.items() <= status.items(),
            f"all is settled, with {fields}",
        )

    def wait_for_log(self, *fragments):
        """Waits for a line that has all `fragments`, and returns it."""

        def find():
            for line in self.log().splitlines():
                if all(fragment in line for fragment in fragments):
                    return line
            return None

        return wait_until(find, lambda: f"{fragments} in the log\n{self.log_tail()}")

    # Looking at the process.

    def log(self):
        """What the process has said since it was last started."""
        with open(self.log_path, "rb") as log:
            log.seek(self._log_before)
            return log.read().decode(errors="replace")

    def log_tail(self, lines=40):
        if not self.log_path.exists():
            return "--- there is no log: it was not started ---"
        ending = "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        return f"--- the end of {self.log_path} ---\n{ending}"

    def open_files(self):
        """What the process has open: paths of files, names of sockets and so on."""
        folder = Path(f"/proc/{self.pid}/fd")
        found = []
        for descriptor in folder.iterdir():
            try:
                found.append(os.readlink(descriptor))
            except FileNotFoundError:
                continue  # Closed since it was listed.
        return found

    def has_open(self, folder):
        """Whether the process has a file open below `folder`."""
        return any(Path(path).is_relative_to(folder) for path in self.open_files())

    def thread_names(self):
        """The names of the process's threads, as far as Linux keeps them: 15 bytes."""
        names = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                names.append((task / "comm").read_text().rstrip("\n"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # Ended since it was listed.
        return names

    def is_alive(self):
        """Whether the process runs, and answers."""
        return self.is_running and all(self.status(name) for name in self._expected)
