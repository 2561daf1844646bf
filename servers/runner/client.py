"""The engine behind a runner's socket, for the platform's processes (`engine.Engine`)."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
from aiohttp import ClientTimeout

from servers.runner.engine import Capabilities, Endpoint, InstanceInfo, LogLine, RunSpec
from servers.runner.errors import Refused, TimedOut, Unready, refusal

SOCKET, TOKEN = "runner.sock", "runner.token"
CONNECT_SECONDS, ANSWER_SECONDS = 2.0, 10.0
# Beyond what the runner itself waits for.
MARGIN_SECONDS = 5.0
_T = TypeVar("_T")


class _Written(msgspec.Struct):
    code: str = "refused"
    message: str = "The runner refused."
    data: dict[str, Any] = {}


class _Refusal(msgspec.Struct):
    error: _Written


class RunnerClient:
    """Talks to the runner whose folder is `folder`. To be closed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._session: aiohttp.ClientSession | None = None

    async def probe(self) -> Capabilities:
        # The runner tries to break out of a sandbox of its own, which may take its time on a busy machine.
        return await self._ask("GET", "/capabilities", Capabilities, seconds=60.0)

    async def ensure(self, spec: RunSpec, session: str = "") -> Endpoint:
        seconds = spec.limits.start + MARGIN_SECONDS
        return await self._ask(
            "POST", "/ensure", Endpoint, {"spec": spec, "session": session}, seconds=seconds
        )

    async def drain(self, instance: str, deadline: float | None = None) -> None:
        seconds = (300.0 if deadline is None else deadline) + 2 * MARGIN_SECONDS
        await self._ask("POST", f"/instances/{instance}/drain", dict, {"deadline": deadline}, seconds=seconds)

    async def stop(self, instance: str) -> None:
        await self._ask("POST", f"/instances/{instance}/stop", dict)

    async def instances(self, tenant: str = "") -> list[InstanceInfo]:
        return await self._ask("GET", f"/instances?tenant={quote(tenant)}", list[InstanceInfo])

    async def logs(self, instance: str, after: int = 0) -> list[LogLine]:
        return await self._ask("GET", f"/instances/{instance}/logs?after={after}", list[LogLine])

    async def reconcile(self) -> None:
        """The runner does so by itself, every second."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _ask(
        self, method: str, path: str, shape: type[_T], body: Any = None, *, seconds: float = ANSWER_SECONDS
    ) -> _T:
        try:
            async with self._opened().request(
                method,
                f"http://runner{path}",
                data=None if body is None else msgspec.json.encode(body),
                headers={"Authorization": f"Bearer {self._token()}"},
                timeout=ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
            ) as response:
                content = await response.read()
        except TimeoutError:
            raise TimedOut(f"The runner has not answered within {seconds:g} s.") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unready(f"The runner cannot be reached: {error}", retry_after=1.0) from None
        if response.status != 200:
            raise _refusal(content)
        return msgspec.json.decode(content, type=shape)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Not the platform's guarded session: nothing leaves this machine through a unix socket.
            connector = aiohttp.UnixConnector(str(self._folder / SOCKET))
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _token(self) -> str:
        """Read each time: a runner that has been started again has another one."""
        return (self._folder / TOKEN).read_text()


def _refusal(content: bytes) -> Refused:
    written = _Written()
    with contextlib.suppress(msgspec.DecodeError):
        written = msgspec.json.decode(content, type=_Refusal).error
    return refusal(written.code, written.message, written.data)
