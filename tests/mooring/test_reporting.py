from __future__ import annotations

from mooring.reporting import _scrubbed
from tenants.keys import new_key


def test_reports_carry_no_secret() -> None:
    key = new_key()
    event = {
        "message": f"failed for {key}",
        "user": {"email": "ann@example.com"},
        "request": {"url": "/x", "headers": {"Authorization": key}, "cookies": "a=b", "data": "body"},
        "extra": {"password": "hunter2", "nested": [{"api_key": "k", "note": f"see {key}"}]},
    }
    told = str(_scrubbed(event, None))
    assert key not in told
    assert "hunter2" not in told
    assert "ann@example.com" not in told
    assert "/x" in told
