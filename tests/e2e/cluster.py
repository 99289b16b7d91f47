"""Routers in a network of which every link can be cut and healed."""

import time
from itertools import combinations

from polling import PATIENCE, wait_until
from proxy import Proxy
from router import free_port

#: Zenoh 1.10.2 makes its routes a tenth of a second after a link is gone, later on a busy machine. A router that
#: is back before that is never told of its neighbour's subscribers and queryables.
_ROUTES_ARE_MADE = 1.0


def chain(number):
    """Each is linked to the next."""
    return [(n, n + 1) for n in range(number - 1)]


def star(number):
    """All are linked to the first."""
    return [(0, n) for n in range(1, number)]


def mesh(number):
    """Each is linked to each."""
    return list(combinations(range(number), 2))


class Cluster:
    """Routers that know each other by their `links` alone, the pairs of their numbers.

    `start` starts a router as the fixture `start_router` does, and whoever gave it ends
    what it starts. `storages` are those of all routers, or a list with those of each;
    `environments` is a list of what is added to the environment of each.
    """

    def __init__(self, start, links, storages, *, environments=None, **options):
        self.routers = []
        self._proxies = {}
        for number in range(1 + max(far for _, far in links)):
            # A router connects to those before it, whose ports are known by then.
            proxies = {
                (near, far): Proxy(free_port(), self.routers[near].port)
                for near, far in links
                if far == number
            }
            self._proxies |= proxies
            own = storages[number] if isinstance(storages, list) else storages
            endpoints = [proxy.endpoint for proxy in proxies.values()]
            self.heal(*proxies)
            if environments is not None:
                options["environment"] = environments[number]
            self.routers.append(start(own, connect=endpoints, **options))

    @property
    def links(self):
        """The pairs of all that are linked, be the link cut or not."""
        return list(self._proxies)

    def link(self, near, far):
        """What is between two routers, the earlier first."""
        return self._proxies[near, far]

    def cut(self, *links):
        """Cuts these links, or all. When it returns the routers know."""
        for link in links or self._proxies:
            self._proxies[link].cut()
        self._wait_until_gone()

    def heal(self, *links):
        """Heals these links, or all; the routers connect when they try next."""
        for link in links or self._proxies:
            if self._proxies[link].is_cut:
                self._proxies[link].heal()

    def close(self):
        """Ends all links."""
        for proxy in self._proxies.values():
            proxy.cut()

    def end(self, number, how="stop"):
        """Stops or kills a router. When it returns the others know."""
        getattr(self.routers[number], how)()
        self._wait_until_gone()

    def wait_until_linked(self):
        """Waits until routers know each other that are linked."""
        for number, router in enumerate(self.routers):
            if router.is_running:
                linked = self._linked(number)
                wait_until(
                    lambda: len(router.neighbours()) == linked,
                    lambda: f"router {number} has {linked} neighbours: {router.neighbours()}",
                )

    def _wait_until_gone(self):
        self.wait_until_linked()
        gone_at = time.monotonic()
        wait_until(lambda: time.monotonic() > gone_at + _ROUTES_ARE_MADE, "routes are made")

    def _linked(self, number):
        """To how many routers that run there is a link that is not cut."""
        others = {
            far if near == number else near
            for (near, far), proxy in self._proxies.items()
            if number in (near, far) and not proxy.is_cut
        }
        return sum(self.routers[other].is_running for other in others)

    def statuses(self, name):
        """The admin status of a storage at each router."""
        return [router.status(name) for router in self.routers]

    def wait_until_equal(self, name, timeout=PATIENCE, **fields):
        """Waits until all routers have one root, and their status says `fields`.

        Roots are equal before a change is settled anywhere, too: `fields`, such as the
        number of cells, tell that they are those of the expected state.
        """
        last = None

        def check():
            nonlocal last
            last = self.statuses(name)
            first = last[0]
            return (
                all(status["root"] == first["root"] for status in last)
                and fields.items() <= first.items()
                and first
            )

        return wait_until(check, lambda: f"{name}: one root, with {fields}: {last}", timeout)
