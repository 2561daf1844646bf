"""What the tree must look like. Each rule here was broken once somewhere and cost a day."""

from __future__ import annotations

import platform
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CODE = ("platform", "tenants", "servers", "tests", "bench", "deploy")
INTERFACES = ("platform/mooring/api", "platform/mooring/dashboard", "servers/gateway")


def python_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in (ROOT / folder).rglob("*.py") if "node_modules" not in path.parts)


def test_platform_is_the_standard_librarys_module() -> None:
    assert Path(str(platform.__file__)).parent == Path(sysconfig.get_path("stdlib"))


def test_the_platform_folder_is_no_package_and_holds_only_mooring() -> None:
    """A package there would hide the library's module from celery; a module would hide another one."""
    entries = {path.name for path in (ROOT / "platform").iterdir()} - {"__pycache__"}
    assert entries == {"mooring"}


def test_no_tests_live_below_platform() -> None:
    """pytest would import them as `platform.…` and take the library's module away."""
    names = {path.name for path in python_files("platform")}
    assert not {name for name in names if name == "conftest.py" or name.startswith("test_")}


def test_tests_are_one_package_at_the_top() -> None:
    """A `tests/tenants/__init__.py` hides the app `tenants` from a run inside `tests/`."""
    packages = [path for path in python_files("tests") if path.name == "__init__.py"]
    assert packages == [ROOT / "tests" / "__init__.py"]


def test_no_module_is_a_drawer_of_odds_and_ends() -> None:
    drawers = {"utils.py", "helpers.py", "util.py", "helper.py", "misc.py", "common.py"}
    assert [path for path in python_files(*CODE) if path.name in drawers] == []


@pytest.mark.parametrize("folder", INTERFACES)
def test_interfaces_reach_rows_only_through_access_functions(folder: str) -> None:
    """`objects.get(…)` in a view is how foreign rows leak; access functions answer missing for both."""
    forbidden = re.compile(r"(?:objects|_manager)\.a?get\(|get_object_or_404|get_list_or_404|_base_manager")

    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in python_files(folder)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if forbidden.search(line)
    ]
    assert found == []


def test_the_protocol_does_no_input_or_output() -> None:
    """Bytes in, bytes out: what can be tested without a socket stays right on every server."""
    forbidden = re.compile(
        r"^\s*(?:import|from)\s+(?:socket|asyncio|aiohttp|requests|urllib\.request)\b", re.M
    )
    assert [path for path in python_files("servers/protocol") if forbidden.search(path.read_text())] == []
