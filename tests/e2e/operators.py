"""Asks storages what operators ask, as `mstctl` does: gets below `@mst/2/`."""

import json
import string
from dataclasses import dataclass

import zenoh

from client import Client
from polling import PATIENCE, wait_until

_PLAIN = string.ascii_letters + string.digits + "_-."


def group(key_expr, strip_prefix=None):
    """The chunk that names the storages of these keys."""
    parts = [key_expr] if strip_prefix is None else [key_expr, strip_prefix]
    return "~".join(
        "".join(
            chr(byte) if chr(byte) in _PLAIN else f"%{byte:02x}" for byte in part.encode()
        )
        for part in parts
    )


def base(router, name):
    """What the keys of a storage's queryables begin with."""
    status = router.status(name)
    configuration = status["configuration"]
    keys = group(configuration["key_expr"], configuration.get("strip_prefix"))
    return f"@mst/2/{keys}/{status['identity']}"


class Refused(Exception):
    """An error reply, with its text."""


@dataclass(frozen=True)
class Answer:
    """One reply."""

    key: str
    payload: bytes
    encoding: str
    #: As JSON; None if there is none.
    attachment: object

    def json(self):
        return json.loads(self.payload)


class Operator(Client):
    """A client that asks. Closed at the end of a `with`.

    As `mstctl` does, it says by a liveliness token that it is there, and by the payload
    which replica it means; but not if `is_there` is false.
    """

    def __init__(self, port, *, is_there=True):
        super().__init__(port)
        self._is_there = is_there
        self._tokens = {}

    @property
    def id(self):
        """The ID of its session."""
        return str(self._session.info.zid())

    def be_there(self, own):
        """Declares the token of whoever asks a replica; once."""
        if own not in self._tokens:
            key = f"{own}/asker/{self.id}"
            self._tokens[own] = self._session.liveliness().declare_token(key)

    def declare(self, key):
        """Declares a liveliness token, which lasts as long as the session."""
        self._tokens[key] = self._session.liveliness().declare_token(key)

    def _meant(self, selector, payload):
        """The selector and the payload of what one replica is to do."""
        own, control, verb = selector.partition("/control/")
        if not control or "*" in own or verb.startswith("diff") or not self._is_there:
            return selector, payload
        self.be_there(own)
        separator = ";" if "?" in verb else "?"
        if payload is None:
            payload = own.rsplit("/", 1)[-1]
        return f"{selector}{separator}asker={self.id}", payload

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def stream(self, selector, payload=None, timeout=PATIENCE):
        """Yields the replies as they come; raises `Refused` for an error reply."""
        selector, payload = self._meant(selector, payload)
        replies = self._session.get(
            selector,
            payload=payload,
            consolidation=zenoh.ConsolidationMode.NONE,
            timeout=timeout,
        )
        for reply in replies:
            if reply.ok is None:
                raise Refused(reply.err.payload.to_string())
            attachment = reply.ok.attachment
            yield Answer(
                str(reply.ok.key_expr),
                bytes(reply.ok.payload),
                str(reply.ok.encoding),
                None if attachment is None else json.loads(attachment.to_string()),
            )

    def all(self, selector, payload=None, **options):
        """All replies, in the order in which they come."""
        return list(self.stream(selector, payload, **options))

    def one(self, selector, payload=None, **options):
        """The only reply."""
        answers = self.all(selector, payload, **options)
        assert len(answers) == 1, f"{selector} has one answer: {answers}"
        return answers[0]

    def ask(self, selector, payload=None, **options):
        """The only reply, as JSON."""
        return self.one(selector, payload, **options).json()

    def refusal(self, selector, payload=None, **options):
        """The text of the error reply, which there has to be."""
        try:
            answers = self.all(selector, payload, **options)
        except Refused as refused:
            return str(refused)
        raise AssertionError(f"{selector} is refused, but was answered: {answers}")

    def wait_for_answers(self, selector, number):
        """Waits until so many answer: queryables come a moment after a storage."""
        last = None

        def check():
            nonlocal last
            last = self.all(selector)
            return len(last) == number

        wait_until(check, lambda: f"{selector} has {number} answers: {last}")
        return last

    def tokens(self, selector):
        """The liveliness tokens that match."""
        replies = self._session.liveliness().get(selector, timeout=PATIENCE)
        return sorted(str(reply.ok.key_expr) for reply in replies if reply.ok is not None)
