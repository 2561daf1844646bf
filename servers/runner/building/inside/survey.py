"""Which modules each Python file imports, read from its syntax and never by running it.

Done inside: Python's own parser can be made to take all memory, or to crash, by what it reads.
"""

from __future__ import annotations

import ast
import itertools
import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import IO

from . import parcels
from .bounds import UPLOAD

LONGEST_FILE = 2**20
_MOST_ROWS = 20_000
_FORGIVING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def main(source: IO[bytes], out: IO[bytes]) -> None:
    files = {path: b"".join(pieces) for path, pieces in parcels.read(source, UPLOAD)}
    found = {path: _file(content) for path, content in files.items() if path.endswith(".py")}
    out.write(json.dumps({"standard": sorted(sys.stdlib_module_names), "files": found}).encode())
    out.flush()


def _file(content: bytes) -> Mapping[str, object]:
    """`{"imports": [[module, names, level, line, is_optional], …], "is_program": …}`, or an error and its line."""
    if len(content) > LONGEST_FILE:
        return {"error": "The file is too long to be read as a program.", "line": 1}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stranger's invalid escape is no concern of ours
            tree = ast.parse(content)
        rows = list(itertools.islice(_imports(tree.body, False), _MOST_ROWS))
        return {"imports": rows, "is_program": any(map(_is_guard, tree.body))}
    except SyntaxError as error:
        return {"error": f"{type(error).__name__}: {error.msg}", "line": error.lineno or 1}
    except (ValueError, RecursionError, MemoryError) as error:
        return {"error": f"Python cannot read it ({type(error).__name__}).", "line": 1}


def _imports(nodes: list[ast.stmt], is_optional: bool) -> Iterator[list[object]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield [alias.name, [], 0, node.lineno, is_optional]
        elif isinstance(node, ast.ImportFrom):
            yield [
                node.module or "",
                [alias.name for alias in node.names],
                node.level,
                node.lineno,
                is_optional,
            ]
        elif isinstance(node, ast.Try | ast.TryStar):
            forgives = is_optional or any(map(_forgives, node.handlers))
            yield from _imports(node.body, forgives)
            # What is imported instead is as optional as what it stands in for.
            for handler in node.handlers:
                yield from _imports(handler.body, forgives)
            yield from _imports([*node.orelse, *node.finalbody], is_optional)
        elif isinstance(node, ast.If) and _is_for_checkers(node.test):
            yield from _imports(node.body, True)
            yield from _imports(node.orelse, is_optional)
        else:
            yield from _imports(_below(node), is_optional)


def _below(node: ast.stmt) -> list[ast.stmt]:
    """The statements inside a function, a class, a loop, a condition, a `with` or a `match`."""
    found = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    for case in getattr(node, "cases", []):
        found += case.body
    return found


def _forgives(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(kind, ast.Name) and kind.id in _FORGIVING for kind in kinds)


def _is_for_checkers(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _is_guard(node: ast.stmt) -> bool:
    """`if __name__ == "__main__":`"""
    return isinstance(node, ast.If) and "__name__" in {
        part.id for part in ast.walk(node.test) if isinstance(part, ast.Name)
    }
