from __future__ import annotations

import re

import pytest
from django.urls import get_resolver


@pytest.fixture
def schema(anonymous):
    return anonymous.get("schema").json()


def test_the_schema_describes_every_address(schema):
    routed = {
        "/api/v1/" + re.sub(r"<\w+:(\w+)>", r"{\1}", str(pattern.pattern))
        for pattern in get_resolver("mooring.api.urls").url_patterns
        if pattern.name not in {"schema", "docs", "missing"}
    }
    assert set(schema["paths"]) == routed


def test_operations_are_named_once_and_explained(schema):
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) >= 25
    assert all(operation["summary"] and operation["tags"] for operation in operations)
    assert all("default" in operation["responses"] for operation in operations)
    assert all(operation["security"] == [{"key": []}] for operation in operations)


def test_lists_take_a_cursor_and_writes_an_idempotency_key(schema):
    servers = schema["paths"]["/api/v1/servers"]
    assert {"cursor", "limit"} <= {parameter["name"] for parameter in servers["get"]["parameters"]}
    assert "Idempotency-Key" in {parameter["name"] for parameter in servers["post"]["parameters"]}


def test_the_page_documents_every_operation_without_any_script(anonymous, schema):
    page = anonymous.get("docs")
    text = page.content.decode()
    assert page.status_code == 200
    for path in schema["paths"]:
        assert path in text
    assert "<script" not in text
    assert "style=" not in text
    assert "script-src 'self'" in page["Content-Security-Policy"]
    assert not re.search(r'(?:src|href)="https?://', text)
