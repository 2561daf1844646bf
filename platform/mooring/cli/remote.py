"""The REST API of an installation somewhere, over nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mooring.cli.failures import Refused, Unreachable, UsageError
from mooring.errors import UpstreamFailed
from mooring.ids import uuid7

Row = dict[str, Any]
TIMEOUT_SECONDS = 60
# A look takes a minute at most, and may have to wait for a worker.
LOOK_SECONDS, LOOK_PAUSE = 120, 0.5
_PAGE = 200


@contextmanager
def connected(origin: str, key: str, tenant: str) -> Iterator[Remote]:
    remote = Remote(origin.rstrip("/"), key)
    remote.enter(tenant)
    yield remote


class Remote:
    """See `mooring.cli.backend.Backend`."""

    def __init__(self, origin: str, key: str) -> None:
        self.origin, self.key, self.tenant = origin, key, ""

    def enter(self, tenant: str) -> None:
        """Ask whose key this is; refuse another organisation than the one that was named."""
        me = self._get("tenant")
        self.tenant, self.permissions = str(me["slug"]), frozenset(me["permissions"])
        if tenant and tenant != self.tenant:
            raise UsageError(f"MOORING_KEY belongs to {self.tenant!r}, not to {tenant!r}.")

    # ---- servers -----------------------------------------------------------------------------------------
    def servers(self) -> list[Row]:
        return list(self._pages("servers"))

    def server(self, slug: str) -> Row | None:
        try:
            return self._get(_server(slug))
        except Refused as refusal:
            if refusal.answered == HTTPStatus.NOT_FOUND:
                return None
            raise

    def create_server(self, slug: str, *, title: str, is_public: bool) -> Row:
        return self._send("POST", "servers", {"slug": slug, "title": title, "is_public": is_public})

    def make_public(self, slug: str) -> None:
        self._send("PATCH", _server(slug), {"is_public": True})

    def tools(self, slug: str) -> list[Row]:
        return list(self._pages(_server(slug, "tools")))

    def draft(self, slug: str) -> Row:
        return self._get(_server(slug, "draft"))

    def replace_draft(self, slug: str, manifest: Row) -> None:
        self._send("PUT", _server(slug, "draft"), manifest)

    def set_secret(self, slug: str, name: str, value: str) -> None:
        self._send("PUT", _server(slug, "secrets", name), {"value": value})

    def missing_secrets(self, slug: str) -> list[str]:
        return list(self._get(_server(slug, "secrets"))["missing"])

    def variables(self, slug: str) -> dict[str, str]:
        channels = self._pages(_server(slug, "channels"))
        return next((dict(row["variables"]) for row in channels if row["name"] == "live"), {})

    def set_variables(self, slug: str, variables: Mapping[str, str]) -> None:
        self._send("PUT", _server(slug, "channels", "live", "variables"), {"variables": dict(variables)})

    # ---- versions ----------------------------------------------------------------------------------------
    def publish(self, slug: str, *, variables: Mapping[str, str], notes: str) -> Row:
        body = {"notes": notes, "variables": dict(variables)}
        return self._send("POST", _server(slug, "versions"), body)

    def versions(self, slug: str) -> list[Row]:
        return list(self._pages(_server(slug, "versions")))

    def rollback(self, slug: str, number: str) -> Row:
        return self._send("POST", _server(slug, "rollback"), {"version": number})

    # ---- upstreams and switches --------------------------------------------------------------------------
    def upstreams(self, slug: str) -> list[Row]:
        return list(self._get(_server(slug, "upstreams"))["data"])

    def save_upstream(self, slug: str, name: str, definition: Row) -> None:
        self._send("PUT", _server(slug, "upstreams", name), definition)

    def look(self, slug: str, name: str) -> Row:
        """A worker over there does it, and tries again when it fails; the first new failure is told."""
        before = self._send("POST", _server(slug, "upstreams", name, "look"))
        end = time.monotonic() + LOOK_SECONDS
        while time.monotonic() < end:
            row = self._get(_server(slug, "upstreams", name))
            if row["job"] == "done":
                return row
            if row["job"] == "failed" or (row["error"] and row["error"] != before["error"]):
                raise UpstreamFailed(row["error"] or "The upstream could not be looked at.")
            time.sleep(LOOK_PAUSE)  # a command has nothing else to do meanwhile
        raise UpstreamFailed(f"No worker has looked at the upstream within {LOOK_SECONDS} seconds.")

    def take_all(self, slug: str, name: str) -> list[str]:
        return list(self._send("POST", _server(slug, "upstreams", name, "take"), {})["refused"])

    def start_build(self, slug: str, name: str, data: bytes, *, upstream: str, settings: Row) -> Row:
        fields = [("upstream", upstream), *(("hosts", host) for host in settings.get("hosts", []))]
        if settings.get("environment"):
            fields.append(("environment", json.dumps(settings["environment"])))
        return self._upload(_server(slug, "builds"), fields, name, data)

    def build(self, slug: str, pk: str, log_from: int = 0) -> Row:
        return self._get(f"{_server(slug, 'builds', pk)}?log_from={log_from}")

    def accept_build(self, slug: str, pk: str) -> list[str]:
        return list(self._send("POST", _server(slug, "builds", pk, "accept"), {})["refused"])

    def processes(self, slug: str) -> list[Row]:
        return list(self._get(_server(slug, "processes"))["data"])

    def stop_process(self, slug: str, instance: str) -> None:
        self._send("DELETE", _server(slug, "processes", instance))

    def logs(self, slug: str, after: int, limit: int) -> Row:
        return self._get(f"{_server(slug, 'logs')}?after={after}&limit={limit}")

    def drifts(self, slug: str) -> list[Row]:
        return list(self._get(_server(slug, "drifts"))["data"])

    def accept(self, slug: str, drift: Row) -> str | None:
        named = {part: drift[part] for part in ("upstream", "section", "name", "digest")}
        version = self._send("POST", _server(slug, "drifts", "accept"), named)["version"]
        return None if version is None else str(version)

    def overrides(self, slug: str) -> list[Row]:
        return list(self._get(_server(slug, "overrides"))["data"])

    def set_override(self, slug: str, override: Row) -> Row:
        return self._send("PUT", _server(slug, "overrides"), override)

    def clear_override(self, slug: str, pk: str) -> None:
        self._send("DELETE", _server(slug, "overrides", pk))

    # ---- keys and records --------------------------------------------------------------------------------
    def keys(self) -> list[Row]:
        return list(self._pages("keys"))

    def create_key(
        self, *, name: str, scopes: Sequence[str], servers: Sequence[str], days: int | None
    ) -> Row:
        body: Row = {"name": name, "scopes": list(scopes), "servers": list(servers)}
        return self._send("POST", "keys", body | ({} if days is None else {"days": days}))

    def revoke_key(self, pk: str) -> None:
        self._send("DELETE", f"keys/{quote(pk, safe='')}")

    def calls(self, *, server: str | None, limit: int) -> list[Row]:
        return list(self._pages("calls", limit, **({"server": server} if server else {})))

    def audit(self, *, limit: int) -> list[Row]:
        return list(self._pages("audit", limit))

    # ---- the wire ----------------------------------------------------------------------------------------
    def _pages(self, path: str, limit: int | None = None, **query: str) -> Iterator[Row]:
        left, cursor = limit, ""
        while left is None or left > 0:
            wanted = query | {"limit": str(_PAGE if left is None else min(left, _PAGE))}
            page = self._get(f"{path}?{urlencode(wanted | ({'cursor': cursor} if cursor else {}))}")
            yield from page["data"]
            left = None if left is None else left - len(page["data"])
            cursor = page["next"]
            if not cursor:
                return

    def _get(self, path: str) -> Row:
        return self._request("GET", path, None, {})

    def _send(self, method: str, path: str, body: Row | None = None) -> Row:
        return self._request(method, path, body, {"Idempotency-Key": str(uuid7())})

    def _request(self, method: str, path: str, body: Row | None, headers: dict[str, str]) -> Row:
        if body is not None:
            headers = headers | {"Content-Type": "application/json"}
        # As short as can be: a manifest may take what a body may take.
        data = None if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return self._exchange(method, path, data, headers)

    def _upload(self, path: str, fields: Sequence[tuple[str, str]], name: str, data: bytes) -> Row:
        """A form with one file, as a browser sends it."""
        mark = uuid7().hex
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
            for field, value in fields
        ]
        safe = name.translate({ord(sign): "_" for sign in '"\\\r\n'})
        parts += [
            f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{safe}"\r\n'.encode(),
            b"Content-Type: application/octet-stream\r\n\r\n",
            data,
            f"\r\n--{mark}--\r\n".encode(),
        ]
        headers = {
            "Content-Type": f"multipart/form-data; boundary={mark}",
            "Idempotency-Key": str(uuid7()),
        }
        return self._exchange("POST", path, b"".join(parts), headers)

    def _exchange(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> Row:
        sent = {"Authorization": f"Bearer {self.key}", "Accept": "application/json", **headers}
        connection = connection_to(self.origin)
        try:
            connection.request(method, f"{urlsplit(self.origin).path}/api/v1/{path}", data, sent)
            answer = connection.getresponse()
            return _understood(self.origin, answer.status, answer.read())
        except (OSError, http.client.HTTPException) as error:
            raise no_answer(self.origin, error) from None
        finally:
            connection.close()


def connection_to(origin: str) -> http.client.HTTPConnection:
    """Never follows a redirect, so that the key goes nowhere else. Raises `UsageError` for what is no address."""
    url = urlsplit(origin)
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
    if url.scheme not in {"http", "https"} or not host:
        raise UsageError(f"{origin!r} is not an address. Write it like https://mooring.example.com.")
    if url.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    return http.client.HTTPSConnection(
        host, port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context()
    )


def no_answer(origin: str, error: Exception) -> Unreachable:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return Unreachable(f"{origin} does not answer: {reason}. Is it running?")


def _understood(origin: str, status: int, raw: bytes) -> Row:
    try:
        answer = json.loads(raw) if raw else {}
    except ValueError:
        answer = None
    if isinstance(answer, dict) and HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return answer
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        raise Unreachable(
            f"{origin} answered {status} and nothing this command understands. Check MOORING_URL."
        )
    raise Refused(error["message"], status=status, code=error["code"], data=error.get("data") or {})


def _server(slug: str, *rest: str) -> str:
    return "/".join(["servers", *(quote(part, safe="") for part in (slug, *rest))])
