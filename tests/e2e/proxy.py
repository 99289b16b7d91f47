"""A TCP link between two routers that can be cut and healed, that can be slow, uneven or stuck in
one direction, and whose bytes are counted."""

import random
import socket
import threading
import time

from polling import PATIENCE

_CHUNK = 1 << 18
#: What a slow link passes on at a time, and what its ends hold.
_SLOW_CHUNK = 1 << 12
_SLOW_BUFFER = 1 << 14
#: The segments of an Ethernet. With those of loopback, 64 KiB, the system would hold megabytes of
#: what is to pass.
_SLOW_SEGMENT = 1400


class Proxy:
    """Listens on a loopback `port`, and passes what comes to the loopback port `target`.

    It begins cut. While it is, it refuses connections, as a host does that does not
    run a router. With a `rate` it passes on so many bytes a second each way, and holds few.
    """

    def __init__(self, port, target, rate=None):
        self.port = port
        #: Bytes a second each way, for connections that are made from now on; any, if there is none.
        self.rate = rate
        #: A pair: after so many bytes of a connection, about, nothing passes for so many seconds.
        self.spikes = None
        #: How often that was.
        self.spiked = 0
        self._random = random.Random(1)
        #: Set while bytes pass to the target, and from it.
        self._passing = {"forth": threading.Event(), "back": threading.Event()}
        #: Bytes that it has passed on to the target, and those from it.
        self.forth = 0
        self.back = 0
        #: When a connection was last made through it, by `time.monotonic()`.
        self.connected_at = None
        #: What may pass in all before the link is cut in its middle.
        self._limit = None
        self._target = target
        self._lock = threading.Lock()
        #: None while the link is cut.
        self._listener = None
        #: The ends of all connections.
        self._ends = set()
        self._threads = []

    @property
    def endpoint(self):
        """What the router at the near end connects to."""
        return f"tcp/127.0.0.1:{self.port}"

    @property
    def is_cut(self):
        """Whether it refuses connections."""
        return self._listener is None

    @property
    def is_connected(self):
        """Whether there is a connection through it."""
        with self._lock:
            return bool(self._ends)

    @property
    def bytes(self):
        """What has passed, both ways."""
        with self._lock:
            return self.forth + self.back

    def stall(self, direction):
        """Lets nothing pass "forth", to the target, or "back". Connections stay."""
        self._passing[direction].clear()

    def flow(self):
        """Lets bytes pass again in both directions."""
        for passing in self._passing.values():
            passing.set()

    def heal(self, for_bytes=None):
        """Takes connections from now on; or until so many bytes have passed."""
        self.cut()  # It may have been in the middle: then threads are left.
        self.flow()
        self._limit = None if for_bytes is None else self.forth + self.back + for_bytes
        self._listener = socket.create_server(("127.0.0.1", self.port))
        if self.rate:
            _make_slow(self._listener)
        self._start(self._accept, self._listener)

    def cut(self):
        """Ends all connections. Nothing passes any more when it returns."""
        with self._lock:
            self._break()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the proxy's threads end"
        self._threads.clear()

    def _break(self):
        listener, self._listener = self._listener, None
        self.flow()
        for end in self._ends if listener is None else {listener, *self._ends}:
            _shut(end)

    def _start(self, function, *args):
        # Should the tests fail to cut it, it ends with them.
        thread = threading.Thread(target=function, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener):
        with listener:
            while True:
                try:
                    near, _ = listener.accept()
                except OSError:
                    return  # The link is cut.
                try:
                    far = self._reach_target()
                except OSError:
                    near.close()  # The router at the far end is not there.
                else:
                    self._connect(listener, near, far)

    def _reach_target(self):
        far = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if self.rate:
                _make_slow(far)
            far.connect(("127.0.0.1", self._target))
        except OSError:
            far.close()
            raise
        return far

    def _connect(self, listener, near, far):
        for end in [near, far]:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            if listener is not self._listener:
                near.close()
                far.close()
                return
            self._ends |= {near, far}
            self.connected_at = time.monotonic()
            self._start(self._pass_on, near, far)

    def _pass_on(self, near, far):
        """Both ways, until one end closes its connection."""
        back = threading.Thread(target=self._copy, args=[far, near, "back"], daemon=True)
        back.start()
        self._copy(near, far, "forth")
        back.join()
        with self._lock:
            self._ends -= {near, far}
            near.close()
            far.close()

    def _about(self, number):
        """Half as much, up to half as much again."""
        with self._lock:
            return number * self._random.uniform(0.5, 1.5)

    def _copy(self, source, sink, counter):
        rate, due, passed = self.rate, time.monotonic(), 0
        spike = self._about(self.spikes[0]) if self.spikes else None
        is_fine = rate or spike
        try:
            while chunk := source.recv(_SLOW_CHUNK if is_fine else _CHUNK):
                if rate:
                    # What came early waits its turn; time that was not used is lost.
                    due = max(due, time.monotonic()) + len(chunk) / rate
                    time.sleep(max(0, due - time.monotonic()))
                passed += len(chunk)
                if spike is not None and passed > spike:
                    self.spiked += 1
                    time.sleep(self.spikes[1])
                    spike = passed + self._about(self.spikes[0])
                self._passing[counter].wait()
                sink.sendall(chunk)
                with self._lock:
                    setattr(self, counter, getattr(self, counter) + len(chunk))
                    if self._limit is not None and self.forth + self.back >= self._limit:
                        self._break()
        except OSError:
            pass  # The link is cut, or an end is gone.
        _shut(source)
        _shut(sink)


def _make_slow(end):
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SLOW_BUFFER)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SLOW_SEGMENT)


def _shut(end):
    """Wakes the threads that wait on a socket, which closing it does not."""
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # The other side was first.
