"""Finds out whether a message that the documentation quotes is one that the code makes.

A *template* is a string literal of the code; what stands between braces in it is a hole. A
message is *made by* the code if a template fits it, where a hole takes one word, or several
that are made by the code themselves: `storage '{name}': {report}` makes
`storage 'NAME': its root was not announced: timeout` if another template makes what stands
after the first colon. In a message, `...` stands for anything that was left out.
"""

import functools
import json
import re
import subprocess

#: A template says something only with as many letters outside of its holes.
_MIN_LETTERS = 5

_COMMENT = r"//[^\n]*|/\*.*?\*/"
_CHARACTER = r"'(?:\\.[^']*|[^\\'])'"
_RAW = r'b?r(?P<hashes>#*)"(?P<raw>.*?)"(?P=hashes)'
_PLAIN = r'b?"(?P<plain>(?:[^"\\]|\\.)*)"'
_TOKENS = re.compile("|".join([_COMMENT, _CHARACTER, _RAW, _PLAIN]), re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", '"': '"', "'": "'", "\\": "\\"}

_HOLE = "\0"
_LEFT_OUT = "..."
#: What may stand around it.
_AROUND = ",;:()`'"
_NOT = float("-inf")
_GOES_ON = {",", ";", ":"}


def literals(source):
    """The string literals of a text in Rust, without those of its tests at the end."""
    source = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", source, flags=re.MULTILINE)[0]
    for token in _TOKENS.finditer(source):
        if token["raw"] is not None:
            yield token["raw"]
        elif token["plain"] is not None:
            yield _unescaped(token["plain"])


def _unescaped(text):
    text = re.sub(r"\\\n\s*", "", text)
    text = re.sub(r"\\u\{([0-9a-fA-F_]+)\}", lambda code: chr(int(code[1], 16)), text)
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[0]), text)


def _with_holes(literal):
    literal = literal.replace("{{", "\1").replace("}}", "\2")
    literal = re.sub(r"\{[^{}\s]*\}", _HOLE, literal)
    return literal.replace("\1", "{").replace("\2", "}")


def rust_files(folder):
    """Those of the product: not its tests."""
    for path in sorted(folder.rglob("*.rs")):
        parts = path.relative_to(folder).parts
        if not any(re.search(r"(^|_)tests?(\.rs)?$|^(benches|examples)$", part) for part in parts):
            yield path


def dependencies(project, prefixes):
    """The folders of the crates that the product is built with and whose names begin so."""
    [host] = re.findall(r"^host: (\S+)$", _output(project, "rustc", "-vV"), re.MULTILINE)
    # Crates for other platforms need not be on this machine.
    metadata = _output(
        project, "cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={host}"
    )
    for package in json.loads(metadata)["packages"]:
        if package["source"] is not None and package["name"].startswith(prefixes):
            yield package["manifest_path"].removesuffix("Cargo.toml")


def _output(folder, *command):
    return subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True, timeout=120
    ).stdout


class Templates:
    """What the code can say."""

    def __init__(self, texts):
        templates = {_with_holes(literal) for text in texts for literal in literals(text)}
        self._known = {}
        self._by_word = {}
        for template in templates:
            # What begins in the middle is written after something else.
            words = tuple((_HOLE + template if template[:1] in _GOES_ON else template).split())
            if len(words) >= 2 and sum(map(_literal, words)) >= _MIN_LETTERS:
                for word in words:
                    if _literal(word) >= 3 and _HOLE not in word:
                        self._by_word.setdefault(word, []).append(words)

    def make(self, message):
        """Whether this is something that the code says."""
        return self._covers(tuple(message.split()))

    def _covers_inner(self, inner):
        # A text may be shown in quotes, as `{:?}` writes it.
        if len(inner) > 1 and inner[0] == inner[-1] == '"':
            inner = _unescaped(inner[1:-1])
        return self._covers(tuple(inner.split()))

    def _covers(self, words):
        # A value, such as a name, a number, a path; or nothing but what is left out.
        if len(words) <= 1 or all(word.strip(_AROUND) == _LEFT_OUT for word in words):
            return True
        if words not in self._known:
            # A message does not explain itself, by way of what is left out in it.
            self._known[words] = False
            self._known[words] = any(
                self._letters(template, words) >= _MIN_LETTERS
                for template in self._candidates(words)
            )
        return self._known[words]

    def _candidates(self, words):
        """Templates with which the message has a word in common that says something."""
        found = {}
        for word in words:
            for template in self._by_word.get(word, ()):
                found[template] = None
        return found

    def _letters(self, template, words):
        """How many letters of the template are in the message; negative if it does not fit."""

        @functools.cache
        def fits(at, word_at):
            rest, rest_of_words = len(template) - at, len(words) - word_at
            if rest_of_words == 0:
                return 0 if rest == 0 else _NOT
            word = words[word_at]
            best = _NOT
            if word.strip(_AROUND) == _LEFT_OUT:
                best = max(best, fits(at, word_at + 1))
                if rest:
                    best = max(best, fits(at + 1, word_at))
                return best
            if rest == 0:
                return _NOT
            if word.endswith(_LEFT_OUT) and rest_of_words == 1:
                # The message is cut off within a word.
                return 0 if template[at].startswith(word.removesuffix(_LEFT_OUT)) else _NOT
            if _word_fits(template[at], word):
                best = max(best, _literal(template[at]) + fits(at + 1, word_at + 1))
            if template[at].count(_HOLE) == 1:
                before, after = template[at].split(_HOLE)
                for end in range(word_at + 2, len(words) + 1):
                    inner = " ".join(words[word_at:end])
                    if inner.startswith(before) and inner.endswith(after):
                        inner = inner[len(before) : len(inner) - len(after)]
                        following = fits(at + 1, end)
                        if following > best and self._covers_inner(inner):
                            best = following
            return best

        return fits(0, 0)


def _literal(word):
    return len(re.sub(r"[^A-Za-z]", "", word))


def _word_fits(template, word):
    if _HOLE not in template:
        return template == word
    pattern = ".+".join(re.escape(part) for part in template.split(_HOLE))
    return re.fullmatch(pattern, word) is not None
