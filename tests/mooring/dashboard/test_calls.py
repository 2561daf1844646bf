"""The log of calls: filters, pages, figures."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import time_machine
from django.utils import timezone

from mooring.dashboard.figures import last_day, percentile, traffic
from mooring.ids import uuid7
from mooring.scope import tenant_scope

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from tests.mooring.dashboard.conftest import Stage


def _record(stage: Stage, minutes: int = 1, **fields: Any) -> Any:
    from servers.models import CallRecord

    known = {
        "tenant": stage.world.acme,
        "server_id": stage.server_id,
        "server_slug": "sky",
        "time": timezone.now() - timedelta(minutes=minutes),
        "request_id": uuid7().hex,
        "principal_kind": "key",
        "principal_name": "laptop",
        "method": "tools/call",
        "subject": "get_sky",
        "status": "ok",
        "duration_us": 1_500,
        "request_bytes": 120,
        "answer_bytes": 2_400,
    }
    return CallRecord(**known | fields)


def _keep(stage: Stage, *records: Any) -> None:
    from servers.models import CallRecord

    with tenant_scope(stage.world.acme.id):
        CallRecord.objects.bulk_create(records)


def test_a_call_is_shown_with_all_it_says(stage: Stage, alice: Client) -> None:
    _keep(
        stage,
        _record(
            stage,
            version="1.0.0",
            client="cursor 1.9",
            revision="2026-07-28",
            status="error",
            code="upstream_timeout",
        ),
    )
    page = alice.get(f"{stage.base}calls/").content.decode()
    for word in (
        "get_sky",
        "1.0.0",
        "laptop",
        "cursor 1.9",
        "2026-07-28",
        "upstream_timeout",
        "1.50 ms",
        "2.4 kB",
    ):
        assert word in page


def test_a_call_is_found_by_its_request_id_and_has_a_page_with_every_field(
    stage: Stage, alice: Client, client_of: Callable[..., Client]
) -> None:
    record = _record(
        stage,
        version="1.0.0",
        channel="live",
        client="cursor 1.9",
        revision="2026-07-28",
        principal_id="0198-key",
        status="error",
        code="upstream_timeout",
    )
    _keep(stage, record, _record(stage, subject="another"))
    found = alice.get(f"{stage.base}calls/", {"request": record.request_id}).content.decode()
    assert "get_sky" in found
    assert "another" not in found
    at = f"{stage.base}calls/{record.id}/"
    assert at in found
    page = alice.get(at).content.decode()
    texts = (record.request_id, record.principal_id, "laptop", "cursor 1.9", "2026-07-28", "1.0.0", "live")
    for word in (*texts, "tools/call", "upstream_timeout", "1.50 ms", "120 B", "2.4 kB", "sky", "get_sky"):
        assert word in page
    assert alice.get(f"{stage.base}calls/{uuid7()}/").status_code == 404
    eve = client_of(stage.world.eve)
    assert eve.get(at).status_code == 404
    assert eve.get(at.replace(stage.world.acme.slug, stage.world.globex.slug)).status_code == 404


def test_filters_narrow_the_list(stage: Stage, alice: Client) -> None:
    _keep(
        stage,
        _record(stage, subject="one"),
        _record(stage, subject="two", status="refused", principal_name="bob"),
    )

    def found(query: str) -> list[str]:
        page = alice.get(f"{stage.base}calls/?{query}").content.decode()
        return sorted(set(re.findall(r'clip short">(one|two)<', page)))

    assert found("") == ["one", "two"]
    assert found("tool=tw") == ["two"]
    assert found("status=refused") == ["two"]
    assert found("principal=lap") == ["one"]
    assert found("server=other") == []
    assert found("status=nonsense") == ["one", "two"]


def test_pages_go_back_in_time_without_gaps_or_repeats(stage: Stage, alice: Client) -> None:
    moment = timezone.now()
    _keep(stage, *(_record(stage, time=moment, subject=f"c{number:03}") for number in range(120)))
    seen: list[str] = []
    at = f"{stage.base}calls/"
    while at:
        page = alice.get(at).content.decode()
        seen += re.findall(r'clip short">(c\d{3})<', page)
        older = re.search(r'rel="next" href="(\?[^"]+)"', page)
        at = f"{stage.base}calls/{older[1]}".replace("&amp;", "&") if older else ""
    assert len(seen) == 120
    assert len(set(seen)) == 120


def test_a_cursor_of_somebody_elses_making_starts_from_the_top(stage: Stage, alice: Client) -> None:
    _keep(stage, _record(stage))
    for cursor in ("x", "é", "bm90fGE", "%00", "A" * 500):
        assert "get_sky" in alice.get(f"{stage.base}calls/", {"before": cursor}).content.decode()


@time_machine.travel("2026-11-20T10:30:00Z", tick=False)
def test_the_last_day_is_counted_by_the_hour(stage: Stage) -> None:
    from servers.models import CallRecord

    _keep(
        stage,
        *(_record(stage, minutes=0, duration_us=number * 1_000) for number in range(1, 101)),
        _record(stage, minutes=90, status="error", duration_us=500),
        _record(stage, minutes=60 * 30),
    )
    with tenant_scope(stage.world.acme.id):
        day = last_day(CallRecord.objects.all())
        of_server = traffic(CallRecord.objects.all(), [UUID(stage.server_id)])[UUID(stage.server_id)]
    assert (day.total, day.failed, day.share) == (101, 1, 1 / 101)
    assert (day.calls[-1], day.calls[-2], day.errors[-2]) == (100, 1, 1)
    assert day.p95 == 95_000
    assert (of_server.total, of_server.p95) == (101, 95_000)


def test_a_percentile_is_a_value_that_occurred() -> None:
    assert percentile([]) is None
    assert percentile([7]) == 7
    assert percentile(list(range(1, 101))) == 95


def test_the_overview_shows_the_figures(stage: Stage, alice: Client) -> None:
    _keep(stage, _record(stage), _record(stage, status="error"))
    page = alice.get(stage.base).content.decode()
    assert "50.0%" in page
    assert "2 calls and 1 errors over the last 24 hours" in page
    assert 'class="line"' in page
