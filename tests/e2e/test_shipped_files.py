"""The configurations and the example that come with the project do what they say, and
what the documentation refers to is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import LIBRARIES
from router import SHIPPED_LIBRARIES, free_port, replace_all

_PROJECT = Path(__file__).parents[2]
_README = _PROJECT / "README.md"

pytestmark = pytest.mark.doors("volume")

#: Has tests of its own, as it needs certificates.
_SECURED = "secured.json5"

#: Of each other configuration its door, and its storages with a key of each.
_CONFIGURATIONS = {
    "zenohd.json5": ("plugin", {"demo": "demo/a"}),
    "fleet.json5": (
        "volume",
        {
            "missions": "fleet/missions/a",
            "telemetry": "fleet/telemetry/a",
            "presence": "fleet/presence/a",
        },
    ),
}


def test_every_configuration_is_tested():
    shipped = {path.name for path in (_PROJECT / "config").glob("*.json5")}
    assert shipped == {*_CONFIGURATIONS, _SECURED}


@pytest.mark.parametrize("name", _CONFIGURATIONS)
def test_a_shipped_configuration_starts_and_stores(start_router, name):
    door, keys = _CONFIGURATIONS[name]
    router = start_router(
        dict.fromkeys(keys), config_file=_PROJECT / "config" / name, door=door, session="runtime"
    )
    check_it_stores(router, keys)


def test_the_configuration_in_the_readme_starts_and_stores(start_router, tmp_path):
    blocks = re.findall(r"^```json5\n(.*?)^```", _README.read_text(), re.DOTALL | re.MULTILINE)
    [block] = blocks
    config = tmp_path / "readme.json5"
    config.write_text(block)
    keys = {"fleet": "fleet/a"}
    check_it_stores(start_router(dict.fromkeys(keys), config_file=config, door="plugin"), keys)


def check_config(path, *options):
    mstctl = _PROJECT / "target/release/mstctl"
    return subprocess.run(
        [mstctl, "check-config", path, *options],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "ZENOH_BACKEND_MST_ROOT": "/data"},
    )


@pytest.mark.parametrize("name", [*_CONFIGURATIONS, _SECURED])
def test_a_shipped_configuration_is_found_to_be_right(name):
    done = check_config(_PROJECT / "config" / name, "--json")
    assert done.returncode == 0, done
    found = json.loads(done.stdout)
    assert found["problems"] == []
    names = {storage["name"] for storage in found["storages"]}
    if name in _CONFIGURATIONS:
        assert names == set(_CONFIGURATIONS[name][1])
    else:
        assert names
    assert check_config(_PROJECT / "config" / name).stdout.endswith(f"{name}: ok\n")


def test_a_wrong_configuration_is_found(tmp_path):
    text = (_PROJECT / "config/zenohd.json5").read_text()
    wrong = tmp_path / "wrong.json5"
    wrong.write_text(replace_all(text, {'operators: "all"': 'settel: "1s"'}))
    done = check_config(wrong)
    assert done.returncode == 1, done
    assert "storage 'demo': option " in done.stdout and "`settel`" in done.stdout
    assert f"{wrong}: 1 problem\n" in done.stdout

    (tmp_path / "no.json5").write_text("{ mode: 7 }")
    for path, said in [("no.json5", "not a configuration of Zenoh"), ("none", "cannot read")]:
        done = check_config(tmp_path / path)
        assert done.returncode == 5 and said in done.stderr, done


def check_it_stores(router, keys):
    """By Zenoh and by REST, and with the router's own session."""
    for name, key in keys.items():
        router.client.put(key, "stored")
        router.client.wait_for(key, {key: b"stored"})
        [reply] = router.request("GET", key).json()
        assert reply["key"] == key
        replication = router.status(name)["replication"]
        if replication is not None:
            router.wait_for_status(
                name,
                lambda status: status["replication"]["session"] == router.session,
                "it has the router's session",
            )


@pytest.mark.parametrize(
    "path", ["README.md", "examples/quickstart.py", "scripts/run-router"]
)
def test_nothing_is_dropped_on_its_way_from_a_shipped_client(path):
    text = (_PROJECT / path).read_text()
    writes = re.findall(r"session\.(?:put|delete)\([^()]*\)", text)
    assert writes
    for write in writes:
        assert re.search(r"congestion_control=(block|zenoh\.CongestionControl\.BLOCK)\b", write), write


def test_data_in_use_is_not_taken(start_router, programs):
    demo = {"demo": None}
    router = start_router(demo, config_file=_PROJECT / "config/zenohd.json5", door="plugin")
    ports = [str(free_port()), str(free_port())]
    second = subprocess.run(
        [_PROJECT / "scripts/run-router", programs.zenohd, *ports, router.data],
        cwd=_PROJECT,
        capture_output=True,
        text=True,
        # It waits for 30 s for a storage that does not come.
        timeout=120,
    )
    assert second.returncode == 1, second
    assert f"{router.data} is in use" in second.stderr and "DATA=" in second.stderr, second


def test_the_readme_says_which_libraries_there_are():
    [folder] = re.findall(r"^install -D -t (\S+) ", _README.read_text(), re.MULTILINE)
    assert folder == SHIPPED_LIBRARIES
    [plugins] = re.findall(r"/libzenoh_plugin_\{(.*?)\}\.so", _README.read_text())
    said = {f"libzenoh_plugin_{name}.so" for name in plugins.split(",")}
    assert said | {"libzenoh_backend_mst.so"} == set(LIBRARIES)


def test_the_quickstart_prints_what_is_stored(start_router):
    config = _PROJECT / "config/zenohd.json5"
    router = start_router({"demo": None}, config_file=config, door="plugin")
    quickstart = subprocess.run(
        [sys.executable, _PROJECT / "examples/quickstart.py", f"tcp/127.0.0.1:{router.port}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "demo/robot/1: ready (text/plain)" in quickstart.stdout
    assert '"root"' in quickstart.stdout


_DOCUMENTS = [*_PROJECT.glob("*.md"), *_PROJECT.glob("docs/*.md"), *_PROJECT.glob("benches/*.md")]


def _without_code(document):
    return re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)


def _anchors(document):
    """Of its headings, as they are made of them where it is shown."""
    headings = re.findall(r"^#+ (.*)$", _without_code(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda document: document.name)
def test_links_lead_somewhere(document):
    for link in re.findall(r"\]\(([^)\s]+)\)", _without_code(document)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def test_the_site_has_every_page():
    """mdbook leaves out what SUMMARY.md does not name, and says nothing."""
    summary = (_PROJECT / "docs/SUMMARY.md").read_text()
    listed = re.findall(r"\]\(([^)]+)\)", summary)
    pages = {path.name for path in (_PROJECT / "docs").glob("*.md")} - {"SUMMARY.md"}
    assert sorted(listed) == sorted(pages)


def test_what_is_compared_can_be_measured():
    """Each program that the page on choosing names is there."""
    text = (_PROJECT / "docs/choosing.md").read_text()
    rows = re.findall(r"^\|.*\| (`.*`)? *\|$", text.split("## Side by side")[1], re.MULTILINE)
    commands = [row.strip("`") for row in rows if row]
    assert len(commands) >= 10
    cargo = (_PROJECT / "Cargo.toml").read_text()
    makefile = (_PROJECT / "Makefile").read_text()
    for command in commands:
        if command.startswith("cargo bench --bench "):
            assert f'[[bench]]\nname = "{command.split()[-1]}"' in cargo, command
        elif command.startswith("make "):
            assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE), command
        else:
            assert (_PROJECT / command.split()[-1]).is_file(), command
