"""The engine behind a runner's socket, for the platform's processes (`engine.Engine`)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import ClientTimeout

from servers.runner.engine import (
    MIB,
    BuildEvent,
    BuildResult,
    BuildSpec,
    Capabilities,
    Endpoint,
    Heard,
    InstanceInfo,
    LogLine,
    RunSpec,
)
from servers.runner.errors import Refused, TimedOut, Unready, refusal

SOCKET, TOKEN = "runner.sock", "runner.token"
CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 10.0
# Beyond what the runner itself waits for.
MARGIN_SECONDS = 5.0
# A build and its wait for its turn.
BUILD_SECONDS = 1800.0
# Removing gigabytes of small files.
KEEP_SECONDS = 300.0
# Reading a small file of each of some thousands.
LOOK_SECONDS = 60.0
# The longest line is what a server lists, beside its artifact.
_LINE_BYTES = 32 * MIB
_T = TypeVar("_T")


class _Written(msgspec.Struct):
    code: str = "refused"
    message: str = "The runner refused."
    data: dict[str, Any] = {}


class _Refusal(msgspec.Struct):
    error: _Written


class _Step(msgspec.Struct):
    """A line of a build's answer: exactly one of them is there."""

    event: BuildEvent | None = None
    built: BuildResult | None = None
    error: _Written | None = None


class RunnerClient:
    """Talks to the runner whose folder is `folder`. To be closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._session: aiohttp.ClientSession | None = None

    async def probe(self) -> Capabilities:
        # The runner tries to break out of a sandbox of its own, which may take its time on a busy machine.
        return await self._ask("GET", "/capabilities", Capabilities, seconds=60.0)

    async def ensure(self, spec: RunSpec, session: str = "", opened: int = 0) -> Endpoint:
        seconds = spec.limits.start + MARGIN_SECONDS
        asked = {"spec": spec, "session": session, "opened": opened}
        return await self._ask("POST", "/ensure", Endpoint, asked, seconds=seconds)

    async def build(self, spec: BuildSpec, upload: bytes, heard: Heard = lambda _: None) -> BuildResult:
        """The artifact of an upload. Cancelling it cancels the build; raises `Refused` with its stage and log."""
        body = io.BytesIO(msgspec.json.encode(spec) + b"\n" + upload)
        async with self._asked("POST", "/build", body, seconds=BUILD_SECONDS) as response:
            if response.status != 200:
                raise _refusal(await response.read())
            async for line in _lines(response):
                step = msgspec.json.decode(line, type=_Step)
                if step.built is not None:
                    return step.built
                if step.error is not None:
                    raise refusal(step.error.code, step.error.message, step.error.data)
                if step.event is not None:
                    heard(step.event)
        raise Unready("The runner has stopped during the build.", retry_after=5.0)

    async def drain(self, instance: str, deadline: float | None = None) -> None:
        seconds = (300.0 if deadline is None else deadline) + 2 * MARGIN_SECONDS
        await self._ask("POST", f"/instances/{instance}/drain", dict, {"deadline": deadline}, seconds=seconds)

    async def stop(self, instance: str) -> None:
        await self._ask("POST", f"/instances/{instance}/stop", dict)

    async def instances(self, tenant: str = "") -> list[InstanceInfo]:
        return await self._ask("GET", f"/instances?tenant={quote(tenant)}", list[InstanceInfo])

    async def logs(self, instance: str, after: int = 0) -> list[LogLine]:
        return await self._ask("GET", f"/instances/{instance}/logs?after={after}", list[LogLine])

    async def server_logs(self, tenant: str, server: str, after: int = 0) -> list[LogLine]:
        path = f"/servers/{quote(tenant, safe='')}/{quote(server, safe='')}/logs?after={after}"
        return await self._ask("GET", path, list[LogLine])

    async def keep(self, digests: Iterable[str]) -> list[str]:
        body = {"digests": list(digests)}
        return await self._ask("POST", "/keep", list[str], body, seconds=KEEP_SECONDS)

    async def missing(self, digests: Iterable[str]) -> list[str]:
        return await self._ask(
            "POST", "/missing", list[str], {"digests": list(digests)}, seconds=LOOK_SECONDS
        )

    async def stand_in(self, digest: str, by: str) -> None:
        await self._ask("POST", "/stand-in", dict, {"digest": digest, "by": by})

    async def reconcile(self) -> None:
        """The runner does so by itself, every second."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(
        self, method: str, path: str, shape: type[_T], body: Any = None, *, seconds: float = ANSWER_SECONDS
    ) -> _T:
        content = None if body is None else msgspec.json.encode(body)
        async with self._asked(method, path, content, seconds=seconds) as response:
            answer = await response.read()
        if response.status != 200:
            raise _refusal(answer)
        return msgspec.json.decode(answer, type=shape)

    @contextlib.asynccontextmanager
    async def _asked(
        self, method: str, path: str, body: bytes | io.BytesIO | None, *, seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Raises `TimedOut` and `Unready`, also for what goes wrong while the answer is read."""
        try:
            async with self._opened().request(
                method,
                f"http://runner{path}",
                data=body,
                headers={"Authorization": f"Bearer {self._token()}"},
                timeout=ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
            ) as response:
                yield response
        except TimeoutError:
            raise TimedOut(f"The runner has not answered within {seconds:g} s.") from None
        except (aiohttp.ClientError, OSError) as error:
            # Without the socket's path, which is nobody's business but the operator's.
            why = getattr(error, "strerror", None) or type(error).__name__
            raise Unready(f"The runner cannot be reached: {why}.", retry_after=1.0) from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Not the platform's guarded session: nothing leaves this machine through a unix socket.
            connector = aiohttp.UnixConnector(str(self._folder / SOCKET))
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _token(self) -> str:
        """Read each time: a runner that has been started again has another one."""
        return (self._folder / TOKEN).read_text()


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Complete lines, however long within their bound. Raises `Refused` for one beyond it."""
    unended = bytearray()
    async for chunk in response.content.iter_any():
        *lines, rest = (bytes(unended) + chunk).split(b"\n")
        for line in lines:
            yield line
        unended = bytearray(rest)
        if len(unended) > _LINE_BYTES:
            raise Refused("The runner has written a line without end.")


def _refusal(content: bytes) -> Refused:
    written = _Written()
    with contextlib.suppress(msgspec.DecodeError):
        written = msgspec.json.decode(content, type=_Refusal).error
    return refusal(written.code, written.message, written.data)
