"""The shipped secured configuration keeps everyone but routers out of `@mst/**`.

Its ports, paths and names of hosts are replaced, and the port that it has in a comment
is opened. Whoever tries to get in is connected to one router, and the replica that is
to be reached to another.
"""

import itertools
import json
import re
import socket
import ssl
from contextlib import ExitStack, closing, contextmanager

import pytest
import trustme
import zenoh

from client import Client
from conftest import REPOSITORY, starting
from polling import PATIENCE, wait_until
from router import SHIPPED_LIBRARIES, Router, free_port, replace_all
from test_mstctl import mstctl

SECURED = REPOSITORY / "config/secured.json5"
DOCUMENTATION = REPOSITORY / "docs/security.md"

#: Who is who, by the common names in the configuration.
ROUTERS = ["router-1.fleet.example", "router-2.fleet.example"]
OPERATOR = "operator.fleet.example"
#: Nobody in particular.
CLIENT = "robot-1.fleet.example"

#: Stands for a replica, of a group of its own: those of the routers speak meanwhile.
REPLICA = "@mst/2/group/replica"

#: Key expressions that match `@mst/...`, with it and before it: `**` stands for nothing,
#: too. A rule on `@mst/**` covers the first alone.
BEFORE = {"@mst": "", "**, @mst": "**/"}


class Certificates:
    """An authority, and folders as `/etc/zenoh` is on a router."""

    def __init__(self, folder):
        self._folder = folder
        self._authority = trustme.CA()

    def folder(self, name):
        """The folder with a certificate for `name`, and for routers as they are connected to."""
        folder = self._folder / name
        if not folder.exists():
            folder.mkdir()
            certificate = self._authority.issue_cert(name, "127.0.0.1", common_name=name)
            certificate.cert_chain_pems[0].write_to_path(folder / "router.pem")
            certificate.private_key_pem.write_to_path(folder / "router.key")
            self._authority.cert_pem.write_to_path(folder / "ca.pem")
        return folder


class Heard:
    """What has come to a subscriber.

    It is taken from a queue, as callbacks have a thread for each subscriber: of two
    subscribers that of what came first might be the later.
    """

    def __init__(self, subscriber):
        self._subscriber = subscriber
        self._keys = []

    @property
    def keys(self):
        while (sample := self._subscriber.try_recv()) is not None:
            self._keys.append(str(sample.key_expr))
        return self._keys


def _configuration(port, certificates, name, mode):
    """Of a session over TLS, with a certificate for `name` or without one."""
    folder = certificates.folder(name or CLIENT)
    tls = {"root_ca_certificate": str(folder / "ca.pem")}
    if name is not None:
        tls |= {
            "enable_mtls": True,
            "connect_certificate": str(folder / "router.pem"),
            "connect_private_key": str(folder / "router.key"),
        }
    config = {
        "mode": mode,
        "listen": {"endpoints": []},
        "connect": {
            "endpoints": [f"tls/127.0.0.1:{port}"],
            "timeout_ms": int(PATIENCE * 1000),
            "exit_on_failure": True,
            "retry": {"period_init_ms": 10, "period_max_ms": 100},
        },
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": False}},
        "transport": {"shared_memory": {"enabled": False}, "link": {"tls": tls}},
    }
    return json.dumps(config)


class Party(Client):
    """A session over TLS, with a certificate for `name` or without one, in any mode."""

    def __init__(self, port, certificates, name, mode="client"):
        config = _configuration(port, certificates, name, mode)
        self._session = zenoh.open(zenoh.Config.from_json5(config))

    def samples(self, selector):
        """The latest that a get is answered with, by key: the storages of all routers answer."""
        replies = self._session.get(
            selector, consolidation=zenoh.ConsolidationMode.LATEST, timeout=PATIENCE
        )
        return {str(reply.ok.key_expr): reply.ok for reply in replies if reply.ok}

    @contextmanager
    def hearing(self, key_expr):
        """What is published meanwhile."""
        with self._session.declare_subscriber(key_expr) as subscriber:
            yield Heard(subscriber)

    @contextmanager
    def answering(self, key_expr, reply_on=None):
        """The queries that it is asked meanwhile, and answers."""
        asked = []

        def answer(query):
            asked.append(str(query.selector))
            query.reply(reply_on or key_expr, "answer")

        with self._session.declare_queryable(key_expr, answer):
            yield asked

    @contextmanager
    def living(self, key):
        """Is there meanwhile."""
        with self._session.liveliness().declare_token(key):
            yield

    @contextmanager
    def watching(self, key_expr):
        """Those that come and go meanwhile, or are there."""
        liveliness = self._session.liveliness()
        with liveliness.declare_subscriber(key_expr, history=True) as subscriber:
            yield Heard(subscriber)

    def answers(self, key_expr, **options):
        """The keys of the answers to a get."""
        replies = self._session.get(key_expr, timeout=PATIENCE, **options)
        return [str(reply.ok.key_expr) for reply in replies if reply.ok]

    def alive(self, key_expr):
        """The keys of those that are there."""
        replies = self._session.liveliness().get(key_expr, timeout=PATIENCE)
        return [str(reply.ok.key_expr) for reply in replies if reply.ok]


class SecuredRouter(Router):
    """A router with the shipped configuration, or with another access control.

    Its status is asked for as an operator does: there is no REST.
    """

    def __init__(self, programs, folder, certificates, name, connect=None, access_control=None):
        super().__init__(programs, folder, {"fleet": None}, config_file=SECURED)
        self.name = name
        #: The port for those without a certificate.
        self.open_port = free_port()
        self._certificates = certificates
        self._connect_to = connect
        self._control = access_control
        self._operator = None

    def party(self, name, mode="client"):
        """Connects with a certificate for a name, or without a certificate if that is None."""
        port = self.open_port if name is None else self.port
        return Party(port, self._certificates, name, mode)

    def _config_arguments(self):
        other = self._connect_to.port if self._connect_to else free_port()
        text = replace_all(
            SECURED.read_text(),
            {
                "[::]:7447": f"127.0.0.1:{self.port}",
                '// "tls/[::]:7448': f'"tls/127.0.0.1:{self.open_port}',
                "router-2.fleet.example:7447": f"127.0.0.1:{other}",
                "/etc/zenoh/": f"{self._certificates.folder(self.name)}/",
                SHIPPED_LIBRARIES: str(self._programs.libraries),
            },
        )
        path = self.folder / "zenohd.json5"
        path.write_text(text)
        if self._control is None:
            return [path]
        return [path, "--cfg", f"access_control:{self._control}"]

    def _admin_value(self, path):
        if self._operator is None:
            self._operator = self.party(OPERATOR)
        payloads = list(self._operator.get(f"@/*/router/{path}").values())
        assert len(payloads) <= 1, f"{path} has one answer: {payloads}"
        return json.loads(payloads[0]) if payloads else None

    def _end(self, send_signal):
        operator, self._operator = self._operator, None
        if operator is not None:
            operator.close()
        super()._end(send_signal)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextmanager
def _starting(programs, folder, certificates):
    """Starts routers: `start(ROUTERS[0])`. They end with the test or the module."""

    def make(programs, folder, name, **options):
        return SecuredRouter(programs, folder, certificates, name, **options)

    yield from starting(make, programs, folder)


@pytest.fixture
def start_secured(programs, tmp_path, certificates):
    with _starting(programs, tmp_path, certificates) as start:
        yield start


@contextmanager
def _linked(programs, folder, certificates, **options):
    """Two routers, and a party at the second that stands for its replica."""
    with _starting(programs, folder, certificates) as start:
        first = start(ROUTERS[0], **options)
        second = start(ROUTERS[1], connect=first, **options)
        replica = second.party(ROUTERS[0])
        try:
            yield first, second, replica
        finally:
            replica.close()


@pytest.fixture(scope="module")
def secured(programs, tmp_path_factory, certificates):
    with _linked(programs, tmp_path_factory.mktemp("secured"), certificates) as routers:
        yield routers


@pytest.fixture(scope="module")
def unprotected(programs, tmp_path_factory, certificates):
    """The same without access control."""
    folder = tmp_path_factory.mktemp("unprotected")
    with _linked(programs, folder, certificates, access_control="{enabled: false}") as routers:
        yield routers


@pytest.fixture(scope="module")
def allowing(programs, tmp_path_factory, certificates):
    """The same with the access control that the documentation has for `allow` as default."""
    blocks = re.findall(r"```json5\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    (block,) = (block for block in blocks if 'default_permission: "allow"' in block)
    control = block.strip().removeprefix("access_control:").removesuffix(",")
    folder = tmp_path_factory.mktemp("allowing")
    with _linked(programs, folder, certificates, access_control=control) as routers:
        yield routers


_numbers = itertools.count()


def _wait_until_declared(at_the_end, declarer, other):
    """Waits until what was declared before is known where the other is.

    The token tells it. Gets, and puts, find their way by the storages, too.
    """
    key = f"fleet/declared/{next(_numbers)}"
    at_the_end.enter_context(declarer.answering(key))
    at_the_end.enter_context(declarer.living(key))
    wait_until(lambda: other.answers(key), f"the queryable {key} is known")
    wait_until(lambda: other.alive(key), f"the token {key} is known")


class Passage:
    """Between two parties on keys of the data: tells when what was sent before has come.

    A router passes on, or drops, what a party sends in the order in which it comes.
    """

    def __init__(self, at_the_end, sender, receiver):
        self._key = f"fleet/passage/{next(_numbers)}"
        self._heard = at_the_end.enter_context(receiver.hearing(f"{self._key}/*"))
        self._sender = sender
        _wait_until_declared(at_the_end, receiver, sender)
        wait_until(lambda: self._passes("open"), "there is a way between the two")

    def _passes(self, word):
        self._sender.put(f"{self._key}/{word}", "")
        return f"{self._key}/{word}" in self._heard.keys

    def wait(self):
        """Waits until everything that was sent has come."""
        self._sender.put(f"{self._key}/end", "")
        wait_until(lambda: f"{self._key}/end" in self._heard.keys, "what was sent has come")


# What an intruder tries. Each returns what of it has got through.


def _put(at_the_end, intruder, replica, before):
    heard = at_the_end.enter_context(replica.hearing("@mst/2/group/**"))
    passage = Passage(at_the_end, intruder, replica)
    intruder.put(f"{before}{REPLICA}/root", "forged")
    passage.wait()
    return heard.keys


def _delete(at_the_end, intruder, replica, before):
    heard = at_the_end.enter_context(replica.hearing("@mst/2/group/**"))
    passage = Passage(at_the_end, intruder, replica)
    intruder.delete(f"{before}{REPLICA}/root")
    passage.wait()
    return heard.keys


def _subscribe(at_the_end, intruder, replica, before):
    heard = at_the_end.enter_context(intruder.hearing(f"{before}@mst/2/group/**"))
    passage = Passage(at_the_end, replica, intruder)
    replica.put(f"{REPLICA}/root", "secret")
    passage.wait()
    return heard.keys


def _get(at_the_end, intruder, replica, before):
    asked = at_the_end.enter_context(replica.answering(f"{REPLICA}/entries"))
    _wait_until_declared(at_the_end, replica, intruder)
    return intruder.answers(f"{before}{REPLICA}/entries") + asked


def _declare_queryable(at_the_end, intruder, replica, before):
    asked = at_the_end.enter_context(
        intruder.answering(f"{before}{REPLICA}/entries", f"{REPLICA}/entries")
    )
    _wait_until_declared(at_the_end, intruder, replica)
    return replica.answers(f"{REPLICA}/entries") + asked


def _reply(at_the_end, intruder, replica, before):
    """To a query that it may answer, on a key that it was not asked for."""
    key = f"fleet/asked/{next(_numbers)}"
    at_the_end.enter_context(intruder.answering(key, f"{before}{REPLICA}/entries"))
    _wait_until_declared(at_the_end, intruder, replica)
    return replica.answers(key, accept_replies=zenoh.ReplyKeyExpr.ANY)


def _declare_token(at_the_end, intruder, replica, before):
    at_the_end.enter_context(intruder.living(f"{before}{REPLICA}"))
    _wait_until_declared(at_the_end, intruder, replica)
    return replica.alive("@mst/2/group/*")


def _get_liveliness(at_the_end, intruder, replica, before):
    at_the_end.enter_context(replica.living(REPLICA))
    _wait_until_declared(at_the_end, replica, intruder)
    return intruder.alive(f"{before}@mst/2/group/*")


def _subscribe_to_liveliness(at_the_end, intruder, replica, before):
    seen = at_the_end.enter_context(intruder.watching(f"{before}@mst/2/group/*"))
    key = f"fleet/living/{next(_numbers)}"
    others = at_the_end.enter_context(intruder.watching(key))
    at_the_end.enter_context(replica.living(REPLICA))
    at_the_end.enter_context(replica.living(key))
    wait_until(lambda: others.keys, f"the token {key} is seen")
    return seen.keys


TRIES = {
    "put": _put,
    "delete": _delete,
    "subscribe": _subscribe,
    "get": _get,
    "declare a queryable": _declare_queryable,
    "reply": _reply,
    "declare a liveliness token": _declare_token,
    "get liveliness": _get_liveliness,
    "subscribe to liveliness": _subscribe_to_liveliness,
}

#: Those who are no routers: the name in the certificate, if there is one, and the mode.
INTRUDERS = {
    "a client": (CLIENT, "client"),
    "a client without a certificate": (None, "client"),
    "a peer": (CLIENT, "peer"),
    "one that says that it is a router": (CLIENT, "router"),
    "an operator": (OPERATOR, "client"),
}

each_try = pytest.mark.parametrize("attempt", TRIES.values(), ids=TRIES.keys())
each_way = pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE.keys())


def reached(attempt, intruder, replica, before):
    with ExitStack() as at_the_end:
        return list(attempt(at_the_end, intruder, replica, before))


@pytest.fixture(scope="module", params=INTRUDERS.values(), ids=INTRUDERS.keys())
def intruder(request, secured):
    """One that is no router, connected to the first router."""
    first, _, _ = secured
    party = first.party(*request.param)
    yield party
    party.close()


@each_try
@each_way
def test_replication_is_kept_from_all_that_are_no_routers(secured, intruder, attempt, before):
    _, _, replica = secured
    assert reached(attempt, intruder, replica, before) == []


def test_the_data_is_there_for_everyone(secured, intruder):
    _, _, replica = secured
    with ExitStack() as at_the_end:
        heard = at_the_end.enter_context(replica.hearing("fleet/a"))
        Passage(at_the_end, replica, intruder).wait()
        passage = Passage(at_the_end, intruder, replica)
        intruder.put("fleet/a", "value")
        intruder.wait_for("fleet/a", {"fleet/a": b"value"})
        intruder.delete("fleet/a")
        intruder.wait_for("fleet/a", {})
        passage.wait()
        assert heard.keys == ["fleet/a", "fleet/a"]


@each_try
def test_routers_reach_each_other(secured, attempt):
    first, _, replica = secured
    with closing(first.party(ROUTERS[1])) as party:
        assert reached(attempt, party, replica, "") != []


@each_try
@each_way
def test_without_access_control_everyone_reaches_replication(unprotected, attempt, before):
    first, _, replica = unprotected
    with closing(first.party(CLIENT)) as client:
        assert reached(attempt, client, replica, before) != []


@pytest.fixture(scope="module", params=["client", "router"])
def outsider(request, allowing):
    """One that is no router, whatever it says."""
    first, _, _ = allowing
    party = first.party(CLIENT, request.param)
    yield party
    party.close()


@each_try
@each_way
def test_replication_can_be_closed_where_all_else_is_open(allowing, outsider, attempt, before):
    _, _, replica = allowing
    assert reached(attempt, outsider, replica, before) == []


@each_try
def test_routers_reach_each_other_where_all_else_is_open(allowing, attempt):
    first, _, replica = allowing
    with closing(first.party(ROUTERS[1])) as party:
        assert reached(attempt, party, replica, "") != []


def test_the_status_is_for_operators(secured):
    first, _, _ = secured
    for name in [CLIENT, None, OPERATOR]:
        party = first.party(name)
        answers = party.answers("@/*/router/status/plugins/storage_manager/storages/fleet")
        assert len(answers) == (1 if name == OPERATOR else 0), name
        party.close()


def test_operators_ask_all_replicas_and_nobody_else_does(secured, certificates, tmp_path):
    first, second, _ = secured

    def ask(name, *words):
        config = tmp_path / f"{name}.json5"
        config.write_text(_configuration(first.port, certificates, name, "client"))
        return mstctl("--json", "-c", config, "--timeout", "3s", *words)

    identities = [router.status("fleet")["identity"] for router in (first, second)]

    def answers():
        return [status["identity"] for status in ask(OPERATOR, "status").json() or []]

    wait_until(lambda: sorted(answers()) == sorted(identities), "both replicas answer")
    one = ["-r", identities[1]]
    for words in [
        ["root"],
        ["keys"],
        ["sync", "now"],
        [*one, "prove", "fleet/never"],
        [*one, "verify"],
        [*one, "scrub", "pause"],
        [*one, "scrub", "resume"],
        [*one, "backup", tmp_path / "fleet.mst"],
        [*one, "restore", tmp_path / "fleet.mst"],
        [*one, "rollback", tmp_path / "fleet.mst", "--yes"],
    ]:
        done = ask(OPERATOR, *words)
        assert done.code == 0, (words, done)
    for words in [["status"], ["keys"], [*one, "scrub", "pause"]]:
        assert ask(CLIENT, *words).code == 3, words


@pytest.mark.parametrize("certificate", ["none", "one of another authority"])
def test_the_port_for_routers_takes_nobody_with(secured, certificates, tmp_path, certificate):
    first, _, _ = secured
    context = ssl.create_default_context(cafile=certificates.folder(ROUTERS[0]) / "ca.pem")
    if certificate != "none":
        folder = Certificates(tmp_path).folder(ROUTERS[1])
        context.load_cert_chain(folder / "router.pem", folder / "router.key")
    address = ("127.0.0.1", first.port)
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        with pytest.raises(ssl.SSLError, match="alert"):
            with context.wrap_socket(connection, server_hostname="127.0.0.1") as link:
                # The end that connects is done before the other has looked.
                link.recv(1)


def test_replicas_of_secured_routers_come_to_hold_the_same(start_secured):
    """What the second has not heard it can have from replication alone."""
    first = start_secured(ROUTERS[0])
    client = first.party(CLIENT)
    client.put("fleet/a", "value")
    client.wait_for("fleet/a", {"fleet/a": b"value"})
    root = first.wait_until_settled("fleet", keys=1)["root"]

    second = start_secured(ROUTERS[1], connect=first)
    second.wait_for_status("fleet", lambda status: status["root"] == root, f"it has {root}")

    # The replicas speak with routers, and with nobody else.
    router = first.party(ROUTERS[1])
    replicas = router.alive("@mst/**")
    assert len(replicas) == 2
    assert client.alive("@mst/**") == []
    for replica in replicas:
        assert len(router.answers(f"{replica}/status")) == 1
        assert client.answers(f"{replica}/status") == []
    with router.hearing("@mst/**") as heard, client.hearing("@mst/**") as overheard:
        client.put("fleet/b", "value")
        for replica in replicas:
            wait_until(lambda: f"{replica}/root" in heard.keys, f"{replica} announces its new root")
        with ExitStack() as at_the_end:
            Passage(at_the_end, router, client).wait()
        assert overheard.keys == []
    for party in [client, router]:
        party.close()
