"""`mstctl schema` says of a configuration what the router says: it takes every shipped one, refuses
every bad one of the tests, and of hundreds of storages each that `mstctl check-config` refuses."""

import itertools
import json
import re
import subprocess

import jsonschema
import pytest
import zenoh

from conftest import REPOSITORY
from router import storage
from test_bad_configuration import REFUSED

MSTCTL = REPOSITORY / "target/release/mstctl"

#: Of the bad ones: those whose options are right, and what is wrong is a folder, or another volume.
_NOT_OF_OPTIONS = {
    "foreign",
    "newer",
    "robbed",
    "a_file",
    "below_a_file",
    "volume_refused",
    "volume_of_wrong_type",
}


def run(*arguments):
    return subprocess.run([MSTCTL, *arguments], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(run("schema").stdout)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def plugins_of(path):
    """Of a file as it is written, JSON5."""
    return {"plugins": json.loads(zenoh.Config.from_file(path).get_json("plugins"))}


def served(storages, **options):
    return {"plugins": {"mst": {"storages": storages, **options}}}


def managed(storages, **volumes):
    return {"plugins": {"storage_manager": {"volumes": {"mst": {}, **volumes}, "storages": storages}}}


def checked(configuration, path):
    """The storages that `check-config` finds right."""
    path.write_text(json.dumps(configuration))
    found = json.loads(run("check-config", path, "--json").stdout)
    return {storage["name"] for storage in found["storages"]}, found["problems"]


_SHIPPED = sorted([*REPOSITORY.glob("config/*.json5"), *REPOSITORY.glob("packaging/*.json5")])


@pytest.mark.parametrize("path", _SHIPPED, ids=lambda path: path.name)
def test_a_shipped_configuration_is_valid(validator, path):
    validator.validate(plugins_of(path))


def test_the_configurations_of_the_documents_are_valid(validator, tmp_path):
    """Those that are whole."""
    count = 0
    for document in [REPOSITORY / "README.md", *REPOSITORY.glob("docs/*.md")]:
        for block in re.findall(r"^```json5\n(.*?)^```", document.read_text(), re.M | re.S):
            if "plugins:" not in block:
                continue
            path = tmp_path / "block.json5"
            path.write_text(block if block.lstrip().startswith("{") else f"{{ {block} }}")
            validator.validate(plugins_of(path))
            count += 1
    assert count >= 2


@pytest.mark.parametrize("name", sorted(REFUSED.keys() - _NOT_OF_OPTIONS))
def test_a_configuration_that_a_router_refuses_is_invalid(validator, name):
    assert not validator.is_valid(managed({name: REFUSED[name][0]}))


@pytest.mark.parametrize("name", sorted(_NOT_OF_OPTIONS))
def test_what_is_no_matter_of_options_is_valid(validator, name):
    validator.validate(managed({name: REFUSED[name][0]}))


def spans(low, high):
    """Times at, below and above two bounds in milliseconds, in each unit that has them."""
    units = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
    return [
        *(
            f"{n}{unit}"
            for unit, factor in units.items()
            for bound in (low, high)
            for n in range(max(bound // factor - 1, 0), bound // factor + 2)
        ),
        *("", "5", "s", "1 s", "007s", "1.5s", "-1s", "1w", "1S", " 1s", "1s ", 5, True, [], {}),
    ]


_SECOND, _DAY = 1000, 86_400_000

_NESTED = "lww"
for _ in range(16):
    _NESTED = {"strategy": "object", "fields": {"f": _NESTED}}

_STRATEGIES = [
    *("lww", "additive", "set_union", "object", "automerge_crdt", "aditive", "", 7, [], {}),
    {"strategy": "additive"},
    {"strategy": "additive", "fields": {}},
    {"strategy": "additive", "fields": {"a": "lww"}},
    {"strategy": "object", "fields": {"a": "additive", "b": {"strategy": "object"}}},
    {"strategy": "object", "fields": {"a": "automerge_crdt"}},
    {"strategy": "object", "fields": {"a": {"strategy": "object", "fields": {"b": "nothing"}}}},
    {"strategy": "object", "felds": {}},
    {"fields": {}},
    _NESTED,
    {"strategy": "object", "fields": {"f": _NESTED}},
]

#: Key expressions: all match what the storages here keep, or are none.
_RULES = ["**", "*/a", "*/**", "*/a/**", "*/a$*", "*/$*b$*c"]
_NO_RULES = ["", "/", "a/", "*/a//b", "**/**", "**/*", "*/a$*$*", "*/$*", "*/a#b", "*/a?", "*/a*", "*/$a"]

_STEPS = [
    [{"for": "7d"}, {"from": "2027-01-01T00:00:00Z", "for": "30d"}],
    [{"for": "7d"}, {"from": "2027-01-01T00:00:00.5Z", "for": "30d"}],
    [],
    [{}],
    [{"for": "7d", "by": 1}],
    [{"from": "2027-01-01T00:00:00Z", "for": "30d"}],
    [{"for": "7d"}, {"for": "30d"}],
    [{"for": "7d"}, {"from": "soon", "for": "30d"}],
    [{"for": "7d"}, {"from": "2027-13-01T00:00:00Z", "for": "30d"}],
    [{"for": "7d"}, {"from": "2027-01-01 00:00:00", "for": "30d"}],
    [{"for": "7d"}, {"from": "2027-01-01T00:00:00Z", "for": "1ms"}],
    [{"for": "7d"}, *({"from": f"20{n}-01-01T00:00:00Z", "for": "1d"} for n in range(27, 42))],
    [{"for": "7d"}, *({"from": f"20{n}-01-01T00:00:00Z", "for": "1d"} for n in range(27, 43))],
]

_WORDS = ["durable", "memory", "always", "interval", "none", "read", "all", "do_nothing", "destroy", "destroy_db", "accept", "refuse", "", 1]

#: Values of each option, right and wrong.
_VALUES = {
    "persistence": _WORDS,
    "durability": _WORDS,
    "operators": _WORDS,
    "on_closure": _WORDS,
    "unstamped": _WORDS,
    "create": [True, False, "true", 0],
    "read_only": [False, "false", 0],
    "dir": [
        *("a", "a/b", "a b", "..a", ".a", "a.", "a/./b", "a//b", "a/", "...", "a.saved", "a.damaged-x", "damaged-1"),
        *("", ".", "./a", "..", "a/..", "../a", "a/../b", "/a", "a.saving", "a.restoring/b", "a/b.damaged-1", 7),
    ],
    "settle": spans(10, 60 * _SECOND),
    "sync_every": spans(10, 60 * _SECOND),
    "max_clock_drift": spans(1, _DAY),
    "cache_size": [
        *(4 << 20, (4 << 20) - 1, 1 << 40, (1 << 40) + 1, 0, -1, "4MiB", "3MiB", "4095KiB", "4096KiB", "1024GiB", "1025GiB"),
        *("1073741824KiB", "1073741825KiB", "64 MiB", "64MB", "64", "", True),
    ],
    "scrub": [{}, {"enabled": False}, {"enabled": 1}, {"interval": "1h", "enabled": True}, {"every": "1h"}, False, "1h"],
    "lifetimes": [
        {},
        "10s",
        *({rule: "10s"} for rule in [*_RULES, *_NO_RULES]),
        *({"**": step} for step in _STEPS),
        *({"**": span} for span in spans(_SECOND, 3660 * _DAY)),
        {f"*/{n}": "10s" for n in range(256)},
        {f"*/{n}": "10s" for n in range(257)},
    ],
    "replication": [
        {},
        True,
        "yes",
        {"enabled": False},
        {"enabled": "no"},
        {"intervall": "1s"},
        {"compression": False},
        {"compression": "lz4"},
        *({"sync_interval": span} for span in spans(_SECOND, _DAY)),
        *({"default_strategy": strategy} for strategy in _STRATEGIES),
        *({"type_overrides": {"zenoh/bytes": strategy}} for strategy in _STRATEGIES),
        *({"key_overrides": {"**": strategy}} for strategy in _STRATEGIES),
        *({"key_overrides": {rule: "additive"}} for rule in [*_RULES, *_NO_RULES]),
        {"key_overrides": []},
    ],
    "settel": ["1s"],
    "db": ["a"],
    "keep_mime_types": [True],
}

#: What goes together, and what does not.
_TOGETHER = {
    "read_only": [None, True, False],
    "create": [None, True, False],
    "persistence": [None, "memory", "durable"],
    "on_closure": [None, "destroy", "do_nothing"],
    "operators": [None, "none", "read", "all"],
    "replication": [None, {}, {"enabled": False}, {"enabled": True}],
}


def options():
    for option, values in _VALUES.items():
        # The longest `sync_every` needs the longest `settle`.
        beside = {"settle": "1m"} if option == "sync_every" else {}
        yield from ({option: value, **beside} for value in values)
    for values in itertools.product(*_TOGETHER.values()):
        chosen = zip(_TOGETHER, values, strict=True)
        yield {option: value for option, value in chosen if value is not None}


def compare(validator, path, make, storages):
    """One file for all, as the one storage does not spoil the others; and one verdict for each."""
    right, _ = checked(make(storages), path)
    valid = {name for name, options in storages.items() if validator.is_valid(make({name: options}))}
    told = {name: storages[name] for name in right ^ valid}
    assert not told, f"said to be right: {right & told.keys()}; valid: {valid & told.keys()}\n{told}"
    assert right and len(right) < len(storages)


@pytest.mark.parametrize("by", ["plugin", "volume"])
def test_a_storage_is_valid_if_the_router_takes_it(validator, tmp_path, by):
    storages = {}
    for number, of_storage in enumerate(options()):
        name = f"s{number}"
        key = {"key_expr": f"k{number}/**"}
        if by == "plugin":
            storages[name] = {**key, **of_storage}
        else:
            storages[name] = {**key, "volume": {"id": "mst", **of_storage}}
    # No two have the same folder.
    for name, options_of in storages.items():
        options_of = options_of.get("volume", options_of)
        if isinstance(options_of.get("dir"), str) and re.fullmatch(r"\w[\w ./-]*", options_of["dir"]):
            options_of["dir"] = f"{name}{options_of['dir']}"
    compare(validator, tmp_path / "all.json", served if by == "plugin" else managed, storages)


def test_what_stands_beside_is_valid_if_the_router_takes_it(validator, tmp_path):
    keys = ["a/**", "a$*/b", "**", "a/**/**", "a/$*", "a//b", "", "a*", "a#b", 7]
    prefixes = ["a/b", "a", "a/", "", "a/*", "/a", 7]
    beside = [
        *({"key_expr": key} for key in keys),
        *({"key_expr": "a/b/c/**", "strip_prefix": prefix} for prefix in prefixes),
        *({"key_expr": f"c{complete}/**", "complete": complete} for complete in [True, False, 1]),
        *({"key_expr": f"r{n}", "reply_timeout": span} for n, span in enumerate(spans(100, _DAY))),
        {},
        {"key_exp": "a/**"},
        {"key_expr": "v/**", "volume": "mst"},
    ]
    for options_of in beside:
        one = {"demo": options_of}
        _, problems = checked(served(one), tmp_path / "one.json")
        assert validator.is_valid(served(one)) == (not problems), (options_of, problems)
    volumes = ["mst", {"id": "mst"}, {"id": "mst", "settle": "1s"}, {"settle": "1s"}, {}, 7, {"id": "mst", "key_expr": "a"}]
    beside = [
        *({"key_expr": key, "volume": "mst"} for key in keys),
        *({"key_expr": "a/b/c/**", "strip_prefix": prefix, "volume": "mst"} for prefix in prefixes),
        *({"key_expr": "a", "complete": complete, "volume": "mst"} for complete in [True, "true", "yes", 1]),
        *({"key_expr": "a", "volume": volume} for volume in volumes[:3] + volumes[6:]),
        {"volume": "mst"},
        {"key_expr": "a", "volume": "mst", "replication": {}},
        {"key_expr": "a", "volume": "mst", "garbage_collection": {"period": 30}},
    ]
    for options_of in beside:
        one = {"demo": options_of}
        _, problems = checked(managed(one), tmp_path / "one.json")
        assert validator.is_valid(managed(one)) == (not problems), (options_of, problems)


def test_a_volume_or_a_plugin_is_valid_if_the_router_takes_it(validator, tmp_path):
    good = storage("a/**")
    for volume, is_right in [
        ({"root": "/data", "graceful_stop": False, "session": {"mode": "peer"}, "__required__": True}, True),
        ({"private": {"session": {}}}, True),
        ({"rooot": "/data"}, False),
        ({"root": 7}, False),
        ({"session": []}, False),
        ({"graceful_stop": "no"}, False),
    ]:
        for name, configuration in {
            "mst": managed({"demo": good}, mst=volume),
            "other": managed({"demo": storage("a/**", volume="other")}, other={"backend": "mst", **volume}),
        }.items():
            _, problems = checked(configuration, tmp_path / "volume.json")
            assert (not problems) == validator.is_valid(configuration) == is_right, (name, volume, problems)
    assert not validator.is_valid(managed({"demo": good}, mst={"private": "secret"}))
    # Those of others are not looked at.
    validator.validate(managed({}, rocksdb={"any": 1}, memory={}))
    validator.validate(managed({"demo": {"key_expr": "a", "volume": {"id": "rocksdb", "any": 1}}}))
    for plugin, is_right in [
        ({"root": "/data", "graceful_stop": True, "__required__": True, "__path__": "x.so"}, True),
        ({"storage": {}}, False),
        ({"root": 7}, False),
        ({"graceful_stop": "no"}, False),
    ]:
        configuration = served({"demo": {"key_expr": "a/**"}}, **plugin)
        _, problems = checked(configuration, tmp_path / "plugin.json")
        assert (not problems) == validator.is_valid(configuration) == is_right, (plugin, problems)


#: What a schema cannot say: the document says so, too.
@pytest.mark.parametrize(
    "options_of",
    [
        {"sync_every": "2s", "settle": "1s"},
        {"strip_prefix": "b"},
        {"lifetimes": {"b/*": "10s"}},
        {"replication": {"key_overrides": {"b/*": "lww"}}},
        {"replication": {"default_strategy": "automerge_crdt"}, "lifetimes": {"a/*": "10s"}},
        {"lifetimes": {"a/*": [{"for": "1d"}, *(2 * [{"from": "2027-01-01T00:00:00Z", "for": "2d"}])]}},
    ],
)
def test_what_concerns_two_options_is_left_to_check_config(validator, tmp_path, options_of):
    configuration = served({"demo": {"key_expr": "a/**", **options_of}})
    validator.validate(configuration)
    right, problems = checked(configuration, tmp_path / "two.json")
    assert not right and len(problems) == 1, problems


def test_custom_strategies_are_known_by_their_names(validator, tmp_path):
    path = tmp_path / "custom.json"
    rules = {"default_strategy": "median", "type_overrides": {"a": {"strategy": "object", "fields": {"b": "median"}}}}
    configuration = served({"demo": {"key_expr": "a/**", "replication": rules}})
    right, problems = checked(configuration, path)
    assert not right and "found `median`" in problems[0] and not validator.is_valid(configuration)
    assert run("check-config", path, "--strategy", "median").returncode == 0
    schema = json.loads(run("schema", "--strategy", "median").stdout)
    jsonschema.Draft7Validator(schema).validate(configuration)
    for command in [("check-config", path), ("schema",)]:
        wrong = run(*command, "--strategy", "Median")
        assert wrong.returncode == 2 and "cannot be called `Median`" in wrong.stderr, wrong
