"""What an upload says about itself: its dependencies, its entry, its mode.

Dependencies come from the first place that has any: the PEP 723 block of the entry file, `[project]` in pyproject.toml,
requirements.txt. Every requirement is parsed here, before anything is asked of a network: only names and versions from
the package index are accepted.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name

from servers.runner.building.imports import Survey, entry_file
from servers.runner.building.inside.names import shown
from servers.runner.errors import Unbuildable

MOST_PACKAGES = 100
_LONGEST_DOCUMENT = 256 * 1024
_LONGEST_REQUIREMENT = 1_000
_ENTRY = re.compile(r"(?P<file>[^:]+\.py)(?::(?P<object>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*))?", re.ASCII)
_COMMAND = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_COMMENT = re.compile(r"(^|\s)#.*$")
_PINNING = re.compile(r"\s--hash[= ]")

Mode = Literal["shared", "session"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the upload, perhaps with the name of the server in it; or a command that a package brings."""

    file: str = ""
    object: str = ""
    command: str = ""

    def __str__(self) -> str:
        return self.command or f"{self.file}:{self.object}".rstrip(":")


@dataclass(frozen=True, slots=True)
class Declared:
    """`requirements` are in one spelling, sorted; `source` is the file that names them, if any does."""

    entry: Entry
    mode: Mode
    requirements: tuple[str, ...]
    source: str
    python: SpecifierSet

    @property
    def names(self) -> frozenset[str]:
        return names_of(self.requirements)


@dataclass(frozen=True, slots=True)
class _Document:
    """A TOML document and where it stands: `at` is the number of the line before its first."""

    file: str
    text: str
    fields: Mapping[str, Any]
    at: int = 0

    def line_of(self, text: str) -> int:
        for number, line in enumerate(self.text.splitlines(), 1):
            if text in line:
                return self.at + number
        return self.at + 1


def declared(files: Mapping[str, bytes], survey: Survey) -> Declared:
    """Raises `Unbuildable`, naming file and line."""
    project = _pyproject(files)
    entry = _entry(files, survey, _mooring(project))
    block = _block(entry.file, files[entry.file]) if entry.file else None
    requirements, source = _requirements(files, project, block)
    return Declared(
        entry=entry if str(entry) else _command(requirements),
        mode=_mode(project, block),
        requirements=requirements,
        source=source,
        python=_python(project, block),
    )


def names_of(requirements: Iterable[str]) -> frozenset[str]:
    """The names of the packages, in their one spelling."""
    return frozenset(str(canonicalize_name(Requirement(each).name)) for each in requirements)


# ---- entry and mode ------------------------------------------------------------------------------------------


def _entry(files: Mapping[str, bytes], survey: Survey, settings: _Document | None) -> Entry:
    given = settings.fields.get("entry") if settings else None
    if given is None:
        return _with_object(entry_file(survey), files)
    assert settings is not None
    return _parsed_entry(given, files, settings)


def _with_object(file: str, files: Mapping[str, bytes]) -> Entry:
    """The block at the top of the file may name the object in it."""
    block = _block(file, files[file]) if file else None
    settings = _mooring(block)
    if settings is None or "entry" not in settings.fields:
        return Entry(file)
    return _parsed_entry(settings.fields["entry"], files, settings)


def _parsed_entry(given: object, files: Mapping[str, bytes], document: _Document) -> Entry:
    text = given if isinstance(given, str) else ""
    if (match := _ENTRY.fullmatch(text)) and match["file"] in files:
        return Entry(match["file"], match["object"] or "")
    if match:
        raise _refusal(document, "entry", f"There is no file {shown(match['file'])} in the upload.")
    if _COMMAND.fullmatch(text):
        return Entry(command=text)
    raise _refusal(
        document, "entry", 'Write the entry as "server.py:mcp", a file and the name of the server in it.'
    )


def _command(requirements: Iterable[str]) -> Entry:
    """An upload without a program: the command of the one package it names."""
    names = names_of(requirements)
    if len(names) == 1:
        return Entry(command=min(names))
    raise Unbuildable(
        "There is no Python file. Upload one, or name the command to run in pyproject.toml.",
        block='[tool.mooring]\nentry = "name-of-the-command"\n',
    )


def _mode(*documents: _Document | None) -> Mode:
    for document in map(_mooring, documents):
        if document and "mode" in document.fields:
            mode = document.fields["mode"]
            if mode not in ("shared", "session"):
                raise _refusal(document, "mode", 'The mode is "shared" or "session".')
            return "session" if mode == "session" else "shared"
    return "shared"


def _mooring(document: _Document | None) -> _Document | None:
    tool = document.fields.get("tool") if document else None
    fields = tool.get("mooring") if isinstance(tool, dict) else None
    if document is None or fields is None:
        return None
    if not isinstance(fields, dict) or set(fields) - {"entry", "mode"}:
        raise _refusal(
            document, "[tool.mooring]", "[tool.mooring] has the fields entry and mode, and no others."
        )
    return _Document(document.file, document.text, fields, document.at)


# ---- dependencies --------------------------------------------------------------------------------------------


def _requirements(
    files: Mapping[str, bytes], project: _Document | None, block: _Document | None
) -> tuple[tuple[str, ...], str]:
    if block and "dependencies" in block.fields:
        return _checked(_listed(block, block.fields["dependencies"])), block.file
    table = project.fields.get("project") if project else None
    if project and isinstance(table, dict):
        if "dependencies" in (table.get("dynamic") or ()):
            raise _refusal(
                project, "dynamic", "The dependencies are made by a build. List them in [project]."
            )
        if "dependencies" in table:
            return _checked(_listed(project, table["dependencies"])), project.file
    if "requirements.txt" in files:
        return _checked(_lines(files["requirements.txt"])), "requirements.txt"
    return (), ""


def _listed(document: _Document, value: object) -> list[tuple[str, str, int]]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise _refusal(document, "dependencies", "The dependencies are a list of texts.")
    return [(each, document.file, document.line_of(each)) for each in value]


def _lines(content: bytes) -> list[tuple[str, str, int]]:
    """The requirements of requirements.txt, each with its line; continued lines count as their first."""
    found, begun, start = [], "", 1
    for number, line in enumerate(_text("requirements.txt", content).splitlines(), 1):
        start = start if begun else number
        if line.endswith("\\"):
            begun += line[:-1] + " "
            continue
        if text := _COMMENT.sub("", begun + line).strip():
            found.append((text, "requirements.txt", start))
        begun = ""
    return found


def _checked(rows: list[tuple[str, str, int]]) -> tuple[str, ...]:
    if len(rows) > MOST_PACKAGES:
        raise Unbuildable(
            f"There are {len(rows)} dependencies; {MOST_PACKAGES} is the most.", file=rows[0][1]
        )
    return tuple(sorted({_requirement(*row) for row in rows}))


def _requirement(text: str, file: str, line: int) -> str:
    where = f"{shown(file)}, line {line}: {shown(text[:200])}"
    if _PINNING.search(text):
        raise _refused(f"{where} pins a hash. Leave it out: versions and hashes are locked here.", file, line)
    if text.startswith("-"):
        raise _refused(f"{where} is an option. List names and versions of packages only.", file, line)
    try:
        requirement = Requirement(text) if len(text) <= _LONGEST_REQUIREMENT else None
    except InvalidRequirement:
        requirement = None
    if requirement is None:
        raise _refused(
            f'{where} is not a package. Write a name and versions, as in "httpx>=0.28".', file, line
        )
    if requirement.url:
        raise _refused(f"{where} is an address. Name a package of the index instead.", file, line)
    return str(requirement)


def _python(*documents: _Document | None) -> SpecifierSet:
    for document in documents:
        table: Any = document.fields if document else {}
        if document and document.file == "pyproject.toml":
            table = table.get("project", {})
        if document and isinstance(table, dict) and "requires-python" in table:
            try:
                return SpecifierSet(table["requires-python"])
            except (InvalidSpecifier, TypeError, AttributeError):
                raise _refusal(document, "requires-python", 'Write requires-python as ">=3.11".') from None
    return SpecifierSet()


# ---- documents -----------------------------------------------------------------------------------------------


def _pyproject(files: Mapping[str, bytes]) -> _Document | None:
    if "pyproject.toml" not in files:
        return None
    return _document("pyproject.toml", _text("pyproject.toml", files["pyproject.toml"]))


def _block(file: str, content: bytes) -> _Document | None:
    """The PEP 723 block of a script. Raises `Unbuildable` when there are two, or when it is not closed."""
    begun = 0
    lines: list[str] = []
    blocks: list[tuple[int, list[str]]] = []
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        if not begun:
            begun = number if line == "# /// script" else 0
        elif line == "# ///":
            blocks.append((begun, lines))
            begun, lines = 0, []
        elif line == "#" or line.startswith("# "):
            lines.append(line[2:])
        else:
            raise _refused(f"{shown(file)}, line {begun}: the block is not closed by “# ///”.", file, begun)
    if begun or len(blocks) > 1:
        number = begun or blocks[1][0]
        raise _refused(
            f"{shown(file)}, line {number}: there has to be one closed block “# /// script”.", file, number
        )
    return _document(file, "\n".join(blocks[0][1]), blocks[0][0]) if blocks else None


def _document(file: str, text: str, at: int = 0) -> _Document:
    try:
        return _Document(file, text, tomllib.loads(text), at)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise _refused(f"{shown(file)} is not valid TOML: {shown(str(error))}.", file, at + 1) from None


def _text(file: str, content: bytes) -> str:
    if len(content) > _LONGEST_DOCUMENT:
        raise _refused(f"{shown(file)} has more than {_LONGEST_DOCUMENT // 1024} KiB.", file, 1)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refused(f"{shown(file)} is not in UTF-8.", file, 1) from None


def _refusal(document: _Document, about: str, sentence: str) -> Unbuildable:
    line = document.line_of(about)
    return _refused(f"{shown(document.file)}, line {line}: {sentence}", document.file, line)


def _refused(sentence: str, file: str, line: int) -> Unbuildable:
    return Unbuildable(sentence, file=file, line=line)
