"""What an upload says about itself is read before anything is asked of a network."""

from __future__ import annotations

import io

import msgspec
import pytest

from servers.runner.building import imports
from servers.runner.building.declarations import Declared, Entry, declared
from servers.runner.building.imports import Survey, Uses
from servers.runner.building.inside import parcels, survey
from servers.runner.errors import Unbuildable

SERVER = "from mcp.server.fastmcp import FastMCP\nmcp = FastMCP('x')\n"
# Where no package may come from; in two pieces, since it looks like an address of one.
ELSEWHERE = "https://example.com/" + "pkg-1.0-py3-none-any.whl"
BLOCK = '# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n#   "httpx>=0.28",\n# ]\n# ///\n'


def surveyed(files: dict[str, str]) -> Survey:
    parcel, out = io.BytesIO(), io.BytesIO()
    parcels.write(parcel, [(path, text.encode()) for path, text in files.items()])
    parcel.seek(0)
    survey.main(parcel, out)
    return msgspec.json.decode(out.getvalue(), type=Survey)


def stated(files: dict[str, str]) -> Declared:
    return declared({path: text.encode() for path, text in files.items()}, surveyed(files))


def uses(files: dict[str, str], entry: str = "server.py") -> list[imports.Use]:
    return Uses(surveyed(files), entry).found


def refused(files: dict[str, str]) -> Unbuildable:
    with pytest.raises(Unbuildable) as caught:
        stated(files)
    return caught.value


# ---- dependencies --------------------------------------------------------------------------------------------


def test_dependencies_come_from_the_block_then_the_project_then_the_requirements() -> None:
    block = {"server.py": BLOCK + SERVER}
    project = {"pyproject.toml": '[project]\nname = "x"\ndependencies = ["rich"]\n'}
    listed = {"requirements.txt": "anyio\n"}
    assert stated(block | project | listed).requirements == ("httpx>=0.28",)
    assert stated({"server.py": SERVER} | project | listed).requirements == ("rich",)
    assert stated({"server.py": SERVER} | listed).requirements == ("anyio",)
    assert stated({"server.py": SERVER}).requirements == ()


def test_a_project_without_dependencies_leaves_them_to_the_requirements() -> None:
    files = {
        "server.py": SERVER,
        "pyproject.toml": '[tool.mooring]\nmode = "session"\n',
        "requirements.txt": "anyio",
    }
    assert stated(files).requirements == ("anyio",)
    assert stated(files).mode == "session"


def test_requirements_may_have_comments_continuations_extras_and_markers() -> None:
    text = "# ours\nHttpx[http2] >= 0.28  # fast\nrich; \\\n  python_version > '3.10'\n\n"
    assert stated({"server.py": SERVER, "requirements.txt": text}).requirements == (
        "Httpx[http2]>=0.28",
        'rich; python_version > "3.10"',
    )


@pytest.mark.parametrize(
    "line",
    [
        f"pkg @ {ELSEWHERE}",
        "https://example.com/pkg.tar.gz",
        "git+https://example.com/pkg.git",
        "pkg @ git+ssh://git@example.com/pkg",
        "pkg @ file:///etc/passwd",
        "./local",
        "../local.whl",
        "-e .",
        "-r other.txt",
        "-c constraints.txt",
        "--index-url https://example.com/simple",
        "--extra-index-url=https://example.com/simple",
        "--find-links /srv",
        "--pre",
        "pkg==1.0 --hash=sha256:00",
        "not a requirement",
    ],
)
def test_anything_but_names_and_versions_is_refused_with_its_line(line: str) -> None:
    refusal = refused({"server.py": SERVER, "requirements.txt": f"anyio\n\n{line}\n"})
    assert refusal.data["file"] == "requirements.txt"
    assert refusal.data["line"] == 3
    assert "line 3" in refusal.message
    assert line[:20] in refusal.message


def test_an_address_in_a_block_or_a_project_is_refused_with_its_line() -> None:
    block = BLOCK.replace("httpx>=0.28", f"pkg @ {ELSEWHERE}")
    assert refused({"server.py": block + SERVER}).data["line"] == 4
    project = '[project]\nname = "x"\ndependencies = [\n  "pkg @ git+https://example.com/x",\n]\n'
    assert refused({"server.py": SERVER, "pyproject.toml": project}).data["line"] == 4


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pyproject.toml": '[project]\ndynamic = ["dependencies"]\n'}, "List them"),
        ({"pyproject.toml": "[project\n"}, "TOML"),
        ({"pyproject.toml": '[project]\ndependencies = "httpx"\n'}, "list of texts"),
        ({"pyproject.toml": '[tool.mooring]\nmode = "fast"\n'}, "shared"),
        ({"pyproject.toml": "[tool.mooring]\nentrypoint = 1\n"}, "entry and mode"),
        ({"pyproject.toml": '[tool.mooring]\nentry = "gone.py:mcp"\n'}, "gone.py"),
        ({"pyproject.toml": '[tool.mooring]\nentry = "server.py:a b"\n'}, "Write the entry"),
        ({"pyproject.toml": '[project]\nrequires-python = "three"\n'}, "requires-python"),
        ({"requirements.txt": "\n".join(f"p{n}" for n in range(101))}, "100"),
        ({"server.py": "# /// script\n# dependencies = []\nx = 1\n" + SERVER}, "not closed"),
        ({"server.py": BLOCK + "\n" + BLOCK + SERVER}, "one closed block"),
    ],
)
def test_a_statement_that_makes_no_sense_is_refused_in_a_sentence(files: dict[str, str], said: str) -> None:
    assert said in refused({"server.py": SERVER} | files).message


def test_the_python_it_asks_for_is_known() -> None:
    assert "3.10" not in stated({"server.py": BLOCK + SERVER}).python
    files = {"server.py": SERVER, "pyproject.toml": '[project]\nrequires-python = ">=3.12"\n'}
    assert "3.11.2" not in stated(files).python


# ---- the entry -----------------------------------------------------------------------------------------------


def test_the_entry_is_the_file_that_imports_an_sdk() -> None:
    files = {"helper.py": "x = 1\n", "weather.py": SERVER, "tests/test_weather.py": SERVER, "setup.py": "\n"}
    assert stated(files).entry == Entry("weather.py")


def test_the_entry_that_was_named_counts() -> None:
    files = {"a.py": SERVER, "b.py": SERVER, "pyproject.toml": '[tool.mooring]\nentry = "b.py:make.it"\n'}
    assert stated(files).entry == Entry("b.py", "make.it")
    script = '# /// script\n# dependencies = []\n# [tool.mooring]\n# entry = "server.py:mcp"\n# ///\n'
    assert str(stated({"server.py": script + SERVER}).entry) == "server.py:mcp"


def test_several_possible_entries_are_listed_with_how_to_choose() -> None:
    refusal = refused({"a.py": SERVER, "b.py": SERVER})
    assert "a.py" in refusal.message
    assert "b.py" in refusal.message
    assert refusal.data["block"] == '[tool.mooring]\nentry = "a.py"\n'


def test_among_several_the_program_counts_then_the_usual_name() -> None:
    program = SERVER + 'if __name__ == "__main__":\n    mcp.run()\n'
    assert stated({"tools.py": SERVER, "start.py": program}).entry == Entry("start.py")
    assert stated({"src/x/tools.py": SERVER, "src/x/server.py": SERVER}).entry == Entry("src/x/server.py")


def test_an_upload_that_only_names_a_package_runs_its_command() -> None:
    assert stated({"requirements.txt": "mcp_server.time>=2025"}).entry == Entry(command="mcp-server-time")
    files = {"requirements.txt": "one\ntwo\n", "pyproject.toml": '[tool.mooring]\nentry = "serve-two"\n'}
    assert stated(files).entry == Entry(command="serve-two")
    assert "no Python file" in refused({"requirements.txt": "one\ntwo\n"}).message


# ---- imports -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "sdk"),
    [
        ("from mcp.server.fastmcp import FastMCP", "mcp<2"),
        ("import mcp.server.fastmcp.server", "mcp<2"),
        ("from mcp.server import fastmcp", "mcp<2"),
        ("from mcp.server.mcpserver import MCPServer", "mcp>=2"),
        ("from fastmcp import FastMCP", "fastmcp"),
        ("import fastmcp.server", "fastmcp"),
        ("from mcp.server.lowlevel import Server", ""),
        ("import fastmcpish", ""),
        ("def f():\n    from mcp.server.fastmcp import FastMCP", "mcp<2"),
    ],
)
def test_the_sdk_is_known_by_its_imports(line: str, sdk: str) -> None:
    assert imports.inferred_sdk(uses({"server.py": line})) == sdk


def test_imports_are_followed_through_the_upload_and_nowhere_else() -> None:
    files = {
        "src/pkg/__init__.py": "",
        "src/pkg/server.py": "from . import tools\nfrom pkg.deep.more import x\nimport os, json\n",
        "src/pkg/tools.py": "import httpx\n",
        "src/pkg/deep/__init__.py": "import rich\n",
        "src/pkg/deep/more.py": "from ..tools import y\nimport yaml.nodes\n",
        "src/pkg/unused.py": "import pandas\n",
        "setup.py": "import setuptools\n",
    }
    assert {use.top for use in uses(files, "src/pkg/server.py")} == {"httpx", "rich", "yaml"}


def test_what_a_program_can_do_without_is_not_missing() -> None:
    text = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pandas\n"
        "try:\n    import orjson\nexcept ImportError:\n    import ujson as orjson\n"
        "try:\n    import needed\nexcept ValueError:\n    pass\n"
        "def later():\n    with open('x'):\n        import deep\n"
        "match 1:\n    case 1:\n        import matched\n"
    )
    absent = imports.missing(uses({"server.py": text}), {"rich"})
    assert [(use.top, use.line) for use in absent] == [("needed", 9), ("deep", 14), ("matched", 17)]


def test_a_missing_import_shows_the_whole_block_to_paste() -> None:
    found = uses({"server.py": "from mcp.server.fastmcp import FastMCP\nimport yaml\nimport httpx\n"})
    absent = imports.missing(found, {"mcp", "httpx"})
    with pytest.raises(Unbuildable) as caught:
        imports.refuse_missing(absent, ["httpx>=0.28", "mcp<2"], entry="server.py", has_block=False)
    block = caught.value.data["block"]
    assert "line 2 imports yaml" in caught.value.message
    assert block in caught.value.message
    assert stated({"server.py": block + SERVER}).requirements == ("httpx>=0.28", "mcp<2", "pyyaml")


def test_a_requirement_with_a_marker_survives_the_block() -> None:
    block = imports.script_block(['rich; python_version > "3.10"'])
    assert stated({"server.py": block + SERVER}).requirements == ('rich; python_version > "3.10"',)


def test_a_file_that_hides_the_sdk_is_refused() -> None:
    with pytest.raises(Unbuildable, match=r"mcp\.py"):
        imports.check_nothing_hides_an_sdk(surveyed({"server.py": SERVER, "mcp.py": ""}), "server.py")


@pytest.mark.parametrize(
    ("text", "line"), [("def f(:\n", 1), ("x = 1\n  y = 2\n", 2), ("(" * 100_000, 1), ("\0", 1)]
)
def test_a_file_that_is_no_python_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(Unbuildable) as caught:
        uses({"server.py": text})
    assert caught.value.data["file"] == "server.py"
    assert caught.value.data["line"] == line


def test_what_can_be_imported_is_known_by_the_files_of_an_environment() -> None:
    paths = [
        "six.py",
        "yaml/__init__.py",
        "_cffi.cpython-311-x86_64-linux-gnu.so",
        "x-1.0.dist-info/METADATA",
        "a.txt",
    ]
    assert imports.top_modules(paths) >= {"six", "yaml", "_cffi"}
    assert "a" not in imports.top_modules(paths)
