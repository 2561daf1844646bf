"""The table and the tests know each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.protocol import requirements
from tests.protocol.requirements import EVERY, REQUIREMENTS

TESTS = Path(__file__).parents[1]
FILES = sorted(path for path in TESTS.rglob("test_*.py") if "node_modules" not in path.parts)


def marked(tree: ast.AST) -> Iterator[str]:
    """Ids in `@requirement(…)` above tests, and in `marks=requirement(…)` beside a parameter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "requirement":
            yield from (str(each.value) for each in node.args if isinstance(each, ast.Constant))


def test_every_requirement_has_a_test_and_every_mark_a_requirement() -> None:
    named = {each for path in FILES for each in marked(ast.parse(path.read_text()))}
    assert set(REQUIREMENTS) - named == set(), "requirements without a test"
    assert named - set(REQUIREMENTS) == set(), "marks without a requirement"


def test_every_row_is_whole_and_stands_once() -> None:
    assert len(requirements._ALL) == len(REQUIREMENTS)
    for each in REQUIREMENTS.values():
        revision = each.id.split("/")[0]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d/[a-z]+/[a-z0-9-]+", each.id), each.id
        assert re.fullmatch(r"[a-z_/-]+(#[a-z0-9-]+)?", each.section), each.id
        assert revision in each.revisions, each.id
        assert each.revisions == tuple(name for name in EVERY if name in each.revisions), each.id
        assert each.says.endswith("."), each.id
    assert len({(each.section, each.says) for each in REQUIREMENTS.values()}) == len(REQUIREMENTS)
