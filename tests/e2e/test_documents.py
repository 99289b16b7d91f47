"""What the documents quote is there: messages, files, fields of a status, commands and options of
mstctl.

Options of storages and volumes are compared with the documents by `src/config/documented.rs`,
metrics by `src/metrics/tests.rs`.

The messages of the code stand in the documents

- in a column of a table whose heading is `line`, `message` or `reason`, as code spans;
- in fenced blocks of the language `log`, one on each line, after its level if it has one;
- anywhere else as code spans of several words.

`quoted.py` says what counts as made by the code, and what `...` means.
"""

import re
import subprocess
from pathlib import Path

import pytest

from quoted import Templates, dependencies, rust_files
from router import storage

pytestmark = pytest.mark.doors("volume")

_PROJECT = Path(__file__).parents[2]
_DOCUMENTS = [_PROJECT / "README.md", *sorted(_PROJECT.glob("docs/*.md"))]
_MSTCTL = _PROJECT / "target/release/mstctl"
_OPERATORS = _PROJECT / "docs/operators.md"

_COLUMNS = {"line", "message", "reason"}
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LEVEL = re.compile(r"^(ERROR|WARN|INFO|DEBUG) +")

#: A code span in prose that looks like this is a command, a configuration, code or data.
_NOT_A_MESSAGE = re.compile(
    r"^(mstctl|curl|cargo|make|cp|mv|systemctl|smartctl|openssl|chronyc|date|delete|git|pip|zenohd|\.|\$)\b"
    r"|[{}\[\]=<>|]|^\W|--\w|^[0-9a-f ]+$"
)


@pytest.fixture(scope="module")
def code():
    """All that the backend, and what it is built with, can say."""
    files = [*rust_files(_PROJECT / "src"), *rust_files(_PROJECT / "plugin")]
    # Some lines are Zenoh's, and what is wrong with the form of an option says serde.
    for folder in dependencies(_PROJECT, ("zenoh", "serde")):
        files += rust_files(Path(folder))
    return Templates(path.read_text() for path in files)


def _without_blocks(text):
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)


def _rows(text):
    """Of each table: its rows, as the cells of each heading."""
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        headings, _, *rows = (
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            for line in table.splitlines()
        )
        yield [dict(zip(headings, row, strict=True)) for row in rows]


def _spans(text):
    return [" ".join(span[2].split()) for span in _CODE_SPAN.finditer(text)]


def _messages(document):
    text = document.read_text()
    for block in re.findall(r"^ *```log\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
        yield from (_LEVEL.sub("", line.strip()) for line in block.splitlines())
    prose = _without_blocks(text)
    for rows in _rows(prose):
        for row in rows:
            for heading in _COLUMNS & row.keys():
                yield from _spans(row[heading])
    for span in _spans(prose):
        if re.search(r"[a-z]+ [a-z]+ [a-z]+", span) and not _NOT_A_MESSAGE.search(span):
            # In a sentence it may be only a part of what is said.
            yield f"... {span} ..."


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda document: document.name)
def test_the_messages_in_a_document_are_those_of_the_code(code, document):
    unknown = sorted({message for message in _messages(document) if not code.make(message)})
    assert not unknown, f"{document.name} quotes what the code does not say"


def test_there_are_messages_to_compare():
    """So that a change of the form of the documents does not leave nothing to compare."""
    counts = {document.name: len(list(_messages(document))) for document in _DOCUMENTS}
    assert counts["operators.md"] > 120 and counts["incidents.md"] > 15, counts


@pytest.mark.parametrize(
    "wrong",
    [
        "storage 'NAME': a pull from replica ID went wrong: ...",
        "storage 'NAME': no data is exchanged with peer ID: ...",
        "... went wrong",
        "the storage takes no more puts, because of this: ...",
        "volume 'NAME': nothing is replicated, ..., since there is no connection: ...",
        "option `NAME`: found ..., permitted is ...",
    ],
)
def test_a_message_that_the_code_does_not_say_is_found(code, wrong):
    assert not code.make(wrong)


@pytest.mark.parametrize(
    "right",
    [
        "storage 'fleet': a pull from replica 0123... failed: there was no answer",
        "option `settle`: found \"2h\", allowed is \"10ms\" to \"1m\"",
        "FOLDER is in use by another storage or process; ...",
        "Plugin compatibility mismatch: Incompatible rustc versions: ...",
    ],
)
def test_a_message_that_the_code_says_is_found(code, right):
    assert code.make(right)


_FOLDERS = "src|tests|benches|scripts|plugin|examples|config|docs|fuzz"


@pytest.mark.parametrize("document", _DOCUMENTS, ids=lambda path: path.name)
def test_the_files_that_a_document_names_are_there(document):
    named = re.findall(rf"`((?:{_FOLDERS})/[\w./-]*)`", document.read_text())
    assert [path for path in named if not (_PROJECT / path).exists()] == []


def _fields(status, prefix=""):
    """The paths of all fields. What is in a configuration is the user's."""
    for name, value in status.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and name != "configuration":
            yield from _fields(value, f"{path}.")
        else:
            yield path


def _documented_fields(section):
    text = _OPERATORS.read_text()
    [text] = re.findall(
        rf"^#+ {re.escape(section)}\n(.*?)(?=^#|\Z)", text, re.DOTALL | re.MULTILINE
    )
    tables = [rows for rows in _rows(text) if rows and "field" in rows[0]]
    return [[name for row in rows for name in _spans(row["field"])] for rows in tables]


def test_the_fields_of_a_status_are_those_in_the_document(start_router):
    # Two storages that see each other, as they have keys in common.
    storages = {
        name: storage(key_expr, replication={})
        for name, key_expr in [("demo", "demo/**"), ("part", "demo/part/**")]
    }
    router = start_router(storages, session="runtime")
    status = router.wait_for_status(
        "demo", lambda status: status["replication"]["peers"], "it has a peer"
    )
    [documented] = _documented_fields("Status")
    replication = status.pop("replication")
    assert set(_fields(status)) | {"replication"} == set(documented)

    of_replication, of_peers = _documented_fields("The status of replication")
    [peer] = replication["peers"]
    assert set(_fields(replication)) == set(of_replication)
    assert set(_fields(peer)) == set(of_peers)


def _long_options(text):
    return re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)


def _help_of(mstctl, *command):
    """What `mstctl` says of its commands, each with all of theirs."""
    text = subprocess.run(
        [mstctl, *command, "--help"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    yield command, text
    commands = re.search(r"^Commands:\n((?:  .*\n|\n)+)", text, re.MULTILINE)
    names = re.findall(r"^  ([\w-]+)", commands[1], re.MULTILINE) if commands else []
    for name in names:
        if name != "help":
            yield from _help_of(mstctl, *command, name)


def test_the_commands_and_options_of_mstctl_are_those_in_the_document():
    helps = dict(_help_of(_MSTCTL))
    document = (_PROJECT / "docs/mstctl.md").read_text()
    [commands] = [rows for rows in _rows(document) if rows and "does" in rows[0]]
    documented = {span.split()[0] for row in commands for span in _spans(row["command"])[:1]}
    assert documented == {command[0] for command in helps if command}

    options = {option for text in helps.values() for option in _long_options(text)}
    # What is written after the name of the tool, or by itself.
    lines = re.findall(r"^(?:\$ )?mstctl .*|`[^`\n]*`", document, re.MULTILINE)
    documented = {option for line in lines for option in _long_options(line)}
    assert documented - {"--help", "--version"} == options - {"--help", "--version"}
