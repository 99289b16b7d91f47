"""A client for the storages of zenoh-backend-mst. docs/client.md describes it by example."""

from typing import TYPE_CHECKING, Any

from .asking import Value
from .cells import Cell, Write
from .changes import Change, Watch
from .errors import Error, NoAnswer, NotShown, Refused, Unconfirmed
from .stamps import Stamp
from .store import Store, client_config
from .values import Counter, Object, Set
from .verified import ProvenCell, Verified

if TYPE_CHECKING:
    from .document import Document

__all__ = [
    "Cell",
    "Change",
    "Counter",
    "Document",
    "Error",
    "NoAnswer",
    "NotShown",
    "Object",
    "ProvenCell",
    "Refused",
    "Set",
    "Stamp",
    "Store",
    "Unconfirmed",
    "Value",
    "Verified",
    "Watch",
    "Write",
    "client_config",
]


def __getattr__(name: str) -> Any:
    # It needs a package that the others do not.
    if name == "Document":
        from .document import Document

        return Document
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
