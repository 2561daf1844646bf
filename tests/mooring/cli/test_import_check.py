from __future__ import annotations

import json

from tests.mooring.cli.test_tour import PETS


def test_a_check_shows_what_a_document_would_give(installation, tmp_path):
    path = tmp_path / "pets.json"
    path.write_text(json.dumps(PETS))
    shown = installation.json("import", "check", str(path))
    assert [row["key"] for row in shown["operations"]] == ["GET /pets"]
    assert shown["manifest"]["mooring"] == 1
    text = installation.ok("import", "check", str(path))
    assert "GET /pets" in text
    assert "Tools: 1" in text


def test_a_check_refuses_what_is_no_openapi_3(installation, tmp_path, echo_file):
    assert "manifest already" in installation.refused("import", "check", str(echo_file))
    path = tmp_path / "old.json"
    path.write_text('{"swagger": "2.0", "info": {"title": "Old", "version": "1"}, "paths": {}}')
    assert "2.0" in installation.refused("import", "check", str(path))
