"""The part of PromQL that `config/alerts.yml` needs, and the states of alerts, after Prometheus' own
rules. Where `promtool` is installed, test_alerts.py compares the two.

Rules are evaluated at each scrape, so that the instant value of a series is that of the scrape: one
that is missing from it is stale.
"""

import math
import operator
import re
from collections import defaultdict

import yaml

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<duration>\d+[smhd]\b)
  | (?P<number>\d+(?:\.\d+)?(?:e\d+)?)
  | (?P<string>"[^"\\]*")
  | (?P<name>[A-Za-z_]\w*)
  | (?P<symbol>==|!=|[-*(){}\[\],<>=])
    )""",
    re.VERBOSE,
)

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

#: From those that bind least.
_LEVELS = [("or",), ("and", "unless"), ("==", "!=", ">", "<"), ("-",), ("*",)]

_COMPARISONS = {"==": operator.eq, "!=": operator.ne, ">": operator.gt, "<": operator.lt}
_ARITHMETIC = {"-": operator.sub, "*": operator.mul}


def seconds(duration):
    """What `5m` is."""
    return int(duration[:-1]) * _UNITS[duration[-1]]


def labels(**given):
    """Labels as they are compared: a set of pairs."""
    return frozenset(given.items())


def _tokens(text):
    at, text = 0, text.strip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        assert match, f"not understood: {text[at:]}"
        yield match.lastgroup, match[match.lastgroup]
        at = match.end()
    yield "end", ""


class Expression:
    """An expression, to be evaluated at any scrape of a history."""

    def __init__(self, text):
        self._tokens = list(_tokens(text))
        self._evaluate = self._binary(0)
        assert self._tokens == [("end", "")], f"{text}: left over: {self._tokens}"

    def at(self, history, index):
        """A vector, values by labels; or a number."""
        return self._evaluate(history, index)

    # The parser, each of whose parts returns a function of a history and an index.

    def _next(self, *expected):
        _, token = self._tokens.pop(0)
        assert not expected or token in expected, f"{token!r} instead of {expected}"
        return token

    def _takes(self, *symbols):
        return self._next() if self._tokens[0][1] in symbols else None

    def _binary(self, level):
        if level == len(_LEVELS):
            return self._operand()
        left = self._binary(level + 1)
        while symbol := self._takes(*_LEVELS[level]):
            left = _joined(symbol, left, self._binary(level + 1))
        return left

    def _operand(self):
        kind, token = self._tokens[0]
        if self._takes("("):
            inner = self._binary(0)
            self._next(")")
            return inner
        self._next()
        if kind == "number":
            return lambda *_: float(token)
        assert kind == "name", f"not understood: {token!r}"
        if token in _AGGREGATIONS:
            return self._aggregation(token)
        if self._tokens[0][1] == "(":
            return self._function(token)
        return self._selector(token)

    def _arguments(self):
        self._next("(")
        found = []
        while not self._takes(")"):
            found.append(self._binary(0))
            self._takes(",")
        return found

    def _function(self, name):
        function, arguments = _FUNCTIONS[name], self._arguments()
        return lambda history, index: function(
            history, index, *(argument(history, index) for argument in arguments)
        )

    def _aggregation(self, name):
        how = self._next("by", "without")
        self._next("(")
        named = set()
        while not self._takes(")"):
            named.add(self._next())
            self._takes(",")
        (vector,) = self._arguments()

        def evaluate(history, index):
            groups = defaultdict(list)
            for found, value in vector(history, index).items():
                kept = {pair for pair in found if (pair[0] in named) == (how == "by")}
                groups[frozenset(pair for pair in kept if pair[0] != "__name__")].append(value)
            return {group: _AGGREGATIONS[name](values) for group, values in groups.items()}

        return evaluate

    def _selector(self, name):
        matchers = []
        if self._takes("{"):
            while not self._takes("}"):
                label, how, value = self._next(), self._next("=", "!="), self._next()
                matchers.append((label, how, value.strip('"')))
                self._takes(",")
        if self._takes("["):
            span = seconds(self._next())
            self._next("]")
            return lambda history, index: history.within(index, span, name, matchers)
        return lambda history, index: history.instant(index, name, matchers)


def _nameless(found):
    return frozenset(pair for pair in found if pair[0] != "__name__")


def _joined(symbol, left, right):
    def evaluate(history, index):
        a, b = left(history, index), right(history, index)
        if symbol in ("or", "and", "unless"):
            return _set_operation(symbol, a, b)
        if symbol in _ARITHMETIC:
            return _arithmetic(_ARITHMETIC[symbol], a, b)
        assert not isinstance(b, dict), "a vector is compared with a number"
        return {found: value for found, value in a.items() if _COMPARISONS[symbol](value, b)}

    return evaluate


def _set_operation(symbol, a, b):
    of_b = {_nameless(found) for found in b}
    if symbol == "or":
        of_a = {_nameless(found) for found in a}
        return a | {found: value for found, value in b.items() if _nameless(found) not in of_a}
    return {
        found: value
        for found, value in a.items()
        if (_nameless(found) in of_b) == (symbol == "and")
    }


def _arithmetic(function, a, b):
    if isinstance(a, dict):
        assert not isinstance(b, dict), "one of both is a number"
        return {_nameless(found): function(value, b) for found, value in a.items()}
    if isinstance(b, dict):
        return {_nameless(found): function(a, value) for found, value in b.items()}
    return function(a, b)


# Functions. A range vector is a span, and samples by labels.


def _increase(history, index, ranged):
    """As Prometheus extrapolates it to the ends of the span."""
    span, series = ranged
    found = {}
    for of, samples in series.items():
        if len(samples) < 2:
            continue
        (first_at, first), (last_at, last) = samples[0], samples[-1]
        pairs = zip(samples, samples[1:])
        resets = sum(before for (_, before), (_, after) in pairs if after < before)
        result = last - first + resets
        sampled = last_at - first_at
        average = sampled / (len(samples) - 1)
        before, after = first_at - (history.time(index) - span), history.time(index) - last_at
        if result > 0 and first >= 0:
            before = min(before, sampled * first / result)
        ends = sum(end if end < average * 1.1 else average / 2 for end in (before, after))
        found[_nameless(of)] = result * (sampled + ends) / sampled
    return found


def _rate(history, index, ranged):
    increased = _increase(history, index, ranged)
    return {found: value / ranged[0] for found, value in increased.items()}


def _max_over_time(history, index, ranged):
    _, series = ranged
    return {_nameless(of): max(value for _, value in samples) for of, samples in series.items()}


def _abs(history, index, vector):
    return {_nameless(found): abs(value) for found, value in vector.items()}


def _histogram_quantile(history, index, quantile, vector):
    histograms = defaultdict(list)
    for found, value in vector.items():
        bound = float(dict(found)["le"])
        rest = frozenset(pair for pair in _nameless(found) if pair[0] != "le")
        histograms[rest].append((bound, value))
    return {found: _quantile(quantile, sorted(of)) for found, of in histograms.items()}


def _quantile(quantile, buckets):
    assert buckets[-1][0] == math.inf, "the last bound is infinite"
    total = buckets[-1][1]
    if total == 0:
        return math.nan
    rank = quantile * total
    number = next(n for n, (_, count) in enumerate(buckets) if count >= rank)
    if number == len(buckets) - 1:
        return buckets[-2][0]
    start, below = buckets[number - 1] if number else (0.0, 0.0)
    bound, count = buckets[number]
    return start + (bound - start) * (rank - below) / (count - below)


_AGGREGATIONS = {"sum": math.fsum, "max": max}
_FUNCTIONS = {
    "abs": _abs,
    "histogram_quantile": _histogram_quantile,
    "increase": _increase,
    "max_over_time": _max_over_time,
    "rate": _rate,
    "time": lambda history, index: history.time(index),
}


# Histories and alerts.


class History:
    """Scrapes at the same distance in time, each of them values by labels."""

    def __init__(self, step):
        self.step = step
        self.scrapes = []
        #: The same by the names of metrics.
        self._named = []

    def add(self, scrape, lasting="0s"):
        """A scrape, and as many with the same values as there are while it lasts."""
        named = defaultdict(dict)
        for found, value in scrape.items():
            named[dict(found)["__name__"]][found] = value
        number = 1 + seconds(lasting) // self.step
        self.scrapes += [scrape] * number
        self._named += [named] * number

    def time(self, index):
        return float(index * self.step)

    def instant(self, index, name, matchers):
        """The samples of a scrape that match."""
        return {
            found: value
            for found, value in self._named[index].get(name, {}).items()
            if _matches(dict(found), matchers)
        }

    def within(self, index, span, name, matchers):
        """The span, and the samples that are in it, without its beginning, as of Prometheus 3."""
        series = defaultdict(list)
        first = max(0, index - math.ceil(span / self.step) + 1)
        for at in range(first, index + 1):
            for found, value in self.instant(at, name, matchers).items():
                series[found].append((self.time(at), value))
        return span, series


def _matches(found, matchers):
    return all((found.get(label, "") == value) == (how == "=") for label, how, value in matchers)


class Alert:
    """A rule, with how long it has been true of what."""

    def __init__(self, rule):
        self.name = rule["alert"]
        self._expression = Expression(rule["expr"])
        self._lasting = seconds(rule.get("for", "0s"))

    def firing(self, history):
        """Of which series it fires at the last scrape."""
        since = {}
        for index in range(len(history.scrapes)):
            found = {_nameless(of) for of in self._expression.at(history, index)}
            since = {of: since.get(of, history.time(index)) for of in found}
        last = history.time(len(history.scrapes) - 1)
        return {of for of, began in since.items() if last - began >= self._lasting}


def alerts(path):
    """All that a file of rules has."""
    groups = yaml.safe_load(path.read_text())["groups"]
    return [Alert(rule) for group in groups for rule in group["rules"]]
