"""Where packages come from is whatever the operator has told uv or pip."""

from __future__ import annotations

import os
from pathlib import Path

from uv import find_uv_bin

from servers.runner.building import index as indexes
from servers.runner.building.index import Index


async def configured(environ: dict[str, str]) -> Index:
    base = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "PIP_CONFIG_FILE": os.devnull}
    return await indexes.configured(Path(find_uv_bin()), {**base, **environ})


async def test_pips_configuration_counts_where_uv_has_none() -> None:
    found = await configured(
        {
            "PIP_EXTRA_INDEX_URL": "https://a.example/simple https://b.example/simple",
            "PIP_FIND_LINKS": "/srv/w",
        },
    )
    assert found.extra == ("https://a.example/simple", "https://b.example/simple")
    assert found.links == ("file:///srv/w",)
    assert found.is_merged
    assert found.default
    assert found.default.startswith("https://")
    assert found.environment()["UV_FIND_LINKS"] == "file:///index/srv/w"


async def test_uvs_configuration_counts_before_pips() -> None:
    found = await configured(
        {
            "UV_DEFAULT_INDEX": "https://me:pass@uv.example/simple",
            "UV_INDEX": "inner=https://inner.example/simple",
            "PIP_INDEX_URL": "https://pip.example",
        },
    )
    assert found.addresses == ("https://me:pass@uv.example/simple", "https://inner.example/simple")
    assert not found.is_merged
    assert found.secrets == ("pass",)


async def test_an_index_may_be_shut() -> None:
    found = await configured({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/srv/w"})
    assert found.addresses == ("file:///srv/w",)
    assert found.options == ("--no-index",)


async def test_an_index_in_a_folder_is_mounted_with_the_folder_its_pages_link_to(tmp_path: Path) -> None:
    page = tmp_path / "simple" / "plain" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text('<a href="../../files/plain-1.0-py3-none-any.whl">plain</a>')
    reach = await indexes.reach(Index((tmp_path / "simple").as_uri()), ["plain"])
    assert {tree.outside for tree in reach.trees} == {str(tmp_path / "simple"), str(tmp_path / "files")}
    assert all(tree.inside == f"/index{tree.outside}" for tree in reach.trees)
    assert reach.hosts == ()
