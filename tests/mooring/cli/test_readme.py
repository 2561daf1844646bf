"""The README's commands do what it says, as they are pasted."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.contract import Contract, contracted

ROOT = Path(__file__).resolve().parents[3]
FORECAST: dict[str, Any] = {"latitude": 59.91, "longitude": 10.75, "current": {"temperature_2m": -3.5}}


def pasted_commands() -> str:
    told = (ROOT / "README.md").read_text().partition("The same from a terminal")[2]
    found = re.search(r"```sh\n(.*?)```", told, re.DOTALL)
    assert found
    return found[1]


def test_the_commands_of_the_five_minutes_run_as_they_are_pasted(installation, tmp_path):
    """In a copy of what they name; only the address of the forecast's API is another, since tests have no Internet."""
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    examples = Path(shutil.copytree(ROOT / "docs" / "examples", tmp_path / "docs" / "examples"))
    weather = examples / "weather.yaml"
    with contracted(Contract(weather, {}), {"GET /v1/forecast": FORECAST}) as (origin, address):
        weather.write_text(weather.read_text().replace("https://api.open-meteo.com", address))
        done = subprocess.run(
            ["bash", "-eu", "-c", pasted_commands()],
            cwd=tmp_path,
            env=installation.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert "Hello Ada, this is Mooring." in done.stdout
    assert f"{installation.origin}/t/terminal/weather/mcp" in done.stdout
    assert '"temperature_2m":-3.5' in done.stdout.replace(" ", "")
    place = {"latitude": 59.91, "longitude": 10.75}
    assert origin.understood == [("GET /v1/forecast", {"query": place | {"current": ["temperature_2m"]}})]
