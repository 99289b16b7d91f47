"""What can go wrong, beside what Zenoh itself raises."""


class Error(Exception):
    """Any error of this package."""


class Refused(Error):
    """A storage answered with an error: its text says why."""


class NoAnswer(Error):
    """What was waited for did not come in time."""


class Unconfirmed(NoAnswer):
    """No storage has shown a write in time. It may still arrive, or have been refused.

    `write` is what was sent: `Store.confirm(write)` waits on for it, and the same call with
    `stamp=write.stamp` sends it again, as the same write.
    """

    def __init__(self, text: str, write: object) -> None:
        super().__init__(text)
        self.write = write


class NotShown(Unconfirmed):
    """The storages answer, and none of them shows the write.

    Its text says why, if a storage knows that. Otherwise it was refused, or was taken and has gone
    since, by a delete with wildcards, a lifetime or a collection: no trace is left of such a write.
    """
