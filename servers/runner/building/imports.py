"""What the imports of an upload say: which file is the server, which SDK it needs, and what nobody brings."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from servers.runner.building.inside.names import shown
from servers.runner.errors import Unbuildable

SDKS = ("mcp", "fastmcp")
# Tried in this order where several files could be meant.
_USUAL = ("server.py", "main.py", "app.py", "__main__.py")
_NEVER = ("setup.py", "conftest.py", "noxfile.py")
# Where the name to import differs from the name to install.
_PACKAGES = {
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "git": "gitpython",
    "google": "google-api-python-client",
    "jwt": "pyjwt",
    "mcp": "mcp<2",
    "psycopg2": "psycopg2-binary",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "yaml": "pyyaml",
}


class Row(msgspec.Struct, array_like=True, frozen=True):
    """One import statement. `level` counts the dots before the module."""

    module: str
    names: tuple[str, ...]
    level: int
    line: int
    is_optional: bool


class Program(msgspec.Struct, frozen=True):
    """What is known of one file: its imports, or why it cannot be read."""

    imports: tuple[Row, ...] = ()
    is_program: bool = False
    error: str = ""
    line: int = 1


class Survey(msgspec.Struct, frozen=True):
    """What `inside.survey` has found. `standard` names the modules Python itself brings."""

    standard: frozenset[str]
    files: dict[str, Program]


@dataclass(frozen=True, slots=True)
class Use:
    """An import of something the upload does not hold."""

    module: str
    names: tuple[str, ...]
    file: str
    line: int
    is_optional: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def dotted(self) -> Iterator[str]:
        yield self.module
        for name in self.names:
            yield f"{self.module}.{name}"


@dataclass(slots=True)
class Uses:
    """What an entry file and all that it imports from the upload need from elsewhere. Raises `Unbuildable`."""

    survey: Survey
    entry: str
    found: list[Use] = field(default_factory=list)
    _roots: list[str] = field(init=False)
    _seen: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self._roots = roots_of(self.entry, self.survey.files)
        self._seen = {self.entry}
        waiting = [self.entry]
        while waiting:
            path = waiting.pop()
            for local in self._follow(path):
                if local not in self._seen:
                    self._seen.add(local)
                    waiting.append(local)
        self.found.sort(key=lambda use: (use.file, use.line))

    def _follow(self, path: str) -> Iterator[str]:
        program = self.survey.files[path]
        if program.error:
            raise Unbuildable(
                f"{shown(path)}, line {program.line}: {program.error}", file=path, line=program.line
            )
        for row in program.imports:
            locals_ = set(self._local(path, row))
            yield from locals_
            if not locals_ and not row.level and row.module.partition(".")[0] not in self.survey.standard:
                self.found.append(Use(row.module, row.names, path, row.line, row.is_optional))

    def _local(self, path: str, row: Row) -> Iterator[str]:
        """The files of the upload that one import statement runs."""
        if row.level:
            base = path
            for _ in range(row.level):
                base = posixpath.dirname(base)
            starts = [base]
        else:
            starts = self._roots
        parts = row.module.split(".") if row.module else []
        for start in starts:
            found = list(_files_of(start, parts, row.names, self.survey.files))
            if found:
                yield from found
                return


def roots_of(entry: str, files: Collection[str]) -> list[str]:
    """The folders that modules are looked for in: that of the entry's outermost package, the top, and `src`."""
    folder = posixpath.dirname(entry)
    while folder and f"{folder}/__init__.py" in files:
        folder = posixpath.dirname(folder)
    return list(dict.fromkeys([folder, "", "src"]))


def _files_of(start: str, parts: list[str], names: tuple[str, ...], files: Collection[str]) -> Iterator[str]:
    folder = start
    for part in parts:
        folder = posixpath.join(folder, part)
        for path in (f"{folder}.py", f"{folder}/__init__.py"):
            if path in files:
                yield path
    for name in names:
        for path in (posixpath.join(folder, f"{name}.py"), posixpath.join(folder, name, "__init__.py")):
            if parts and path in files:
                yield path


def entry_file(survey: Survey) -> str:
    """The file that is the server, where nobody has said; empty if there is no Python file. Raises `Unbuildable`."""
    files = [path for path in survey.files if not _is_aside(path)]
    servers = [path for path in files if _imports_sdk(survey.files[path])]
    for candidates in (servers, files):
        if len(candidates) == 1:
            return candidates[0]
        programs = [path for path in candidates if survey.files[path].is_program]
        if len(programs) == 1:
            return programs[0]
        for name in _USUAL:
            if usual := [path for path in candidates if posixpath.basename(path) == name]:
                return min(usual, key=lambda path: (path.count("/"), path))
        if candidates:
            break
    else:
        return ""
    listed = ", ".join(shown(path) for path in sorted(candidates)[:10])
    raise Unbuildable(
        f"Several files could be the server: {listed}. Name one in pyproject.toml.",
        block=f'[tool.mooring]\nentry = "{min(candidates)}"\n',
    )


def _is_aside(path: str) -> bool:
    name = posixpath.basename(path)
    return name in _NEVER or name.startswith("test_") or bool({"tests", "test"} & set(path.split("/")[:-1]))


def _imports_sdk(program: Program) -> bool:
    return any(row.level == 0 and row.module.partition(".")[0] in SDKS for row in program.imports)


def check_nothing_hides_an_sdk(survey: Survey, entry: str) -> None:
    for root in roots_of(entry, survey.files):
        for sdk in SDKS:
            for path in (posixpath.join(root, f"{sdk}.py"), posixpath.join(root, sdk, "__init__.py")):
                if path in survey.files:
                    raise Unbuildable(
                        f"{shown(path)} hides the package {sdk} from everything that imports it. Rename it.",
                        file=path,
                    )


def inferred_sdk(uses: Iterable[Use]) -> str:
    """The requirement for the SDK that the imports give away, or nothing. The first one that is unmistakable counts."""
    for use in uses:
        for module in use.dotted:
            if use.top == "fastmcp":
                return "fastmcp"
            if f"{module}.".startswith("mcp.server.fastmcp."):
                return "mcp<2"
            if f"{module}.".startswith("mcp.server.mcpserver."):
                return "mcp>=2"
    return ""


def missing(uses: Iterable[Use], installed: Collection[str]) -> list[Use]:
    """Imports that nothing brings, but for those the program can do without. One for each module."""
    found: dict[str, Use] = {}
    for use in uses:
        if not use.is_optional and use.top not in installed:
            found.setdefault(use.top, use)
    return list(found.values())


def refuse_missing(absent: list[Use], requirements: Iterable[str], *, entry: str, has_block: bool) -> None:
    """Raises `Unbuildable` with the whole block to paste, if anything is missing."""
    if not absent:
        return
    first = absent[0]
    names = ", ".join(use.top for use in absent)
    block = script_block([*requirements, *(package_of(use.top) for use in absent)])
    where = "Replace the block at the top" if has_block else "Add this at the top"
    raise Unbuildable(
        f"{shown(first.file)}, line {first.line} imports {first.module}, which is not among the dependencies. "
        f"{where} of {shown(entry)} (missing: {names}; a package may have another name than its module):\n{block}",
        file=first.file,
        line=first.line,
        block=block,
        missing=[use.top for use in absent],
    )


def script_block(requirements: Iterable[str]) -> str:
    """A PEP 723 block, ready to paste."""
    lines = [f"#   {_quoted(requirement)}," for requirement in dict.fromkeys(requirements)]
    return "\n".join(
        ["# /// script", '# requires-python = ">=3.11"', "# dependencies = [", *lines, "# ]", "# ///", ""]
    )


def package_of(module: str) -> str:
    return _PACKAGES.get(module, module.replace("_", "-"))


def _quoted(requirement: str) -> str:
    return f"'{requirement}'" if '"' in requirement else f'"{requirement}"'


def top_modules(paths: Iterable[str]) -> set[str]:
    """What can be imported from a folder of packages, by the paths of its files."""
    found = set()
    for path in paths:
        top, _, rest = path.partition("/")
        if rest or top.endswith((".py", ".so")):
            found.add(top.partition(".")[0])
    return found
