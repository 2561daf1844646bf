"""An artifact that the runner has lost: a call says so, its record has it built again, and the next calls run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mooring import jobs
from mooring.jobs.models import Job
from mooring.scope import tenant_scope
from servers import tasks
from servers.models import CallRecord
from tests.coding import offering, tool
from tests.conftest import World
from tests.product.processes import until
from tests.runners import FakeRunner
from tests.servers.conftest import GatewayDriver
from tests.servers.gateway.coded import Coded, fake_runner_of_the_gateway, text_of


@pytest.fixture
def runner() -> Iterator[FakeRunner]:
    with fake_runner_of_the_gateway() as runner:
        runner.engine.offer = offering(tool("echo"))
        yield runner


def test_code_that_the_runner_has_lost_is_built_again_by_the_call_that_missed_it(
    world: World, gateway: GatewayDriver, runner: FakeRunner, key_of: Callable[..., str]
) -> None:
    key, code = key_of(world.acme), Coded(world, gateway)
    build = code.build()
    code.publish()
    at = f"{code.at}@1.0.0"
    runner.do(lambda engine: engine.artifacts.clear())
    assert gateway.call(at, "echo", key=key)["isError"]

    def missed() -> bool:
        with tenant_scope(world.acme.id):
            return CallRecord.objects.filter(code="code_missing", version="1.0.0").exists()

    until(missed, "the record to be shipped")
    tasks.rebuild_missing_code()
    with tenant_scope(world.acme.id):
        (job,) = Job.objects.filter(kind="code.build", state="waiting")
    assert jobs.run(job.id)
    assert list(runner.engine.artifacts) == [build.artifact]
    assert text_of(gateway.call(at, "echo", {"a": 1}, key=key)) == '{"a":1}'
