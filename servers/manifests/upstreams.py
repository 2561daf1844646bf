"""What is wrong with the upstreams that a manifest names, elsewhere or uploaded, and with the parts taken from them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from servers.manifests.bindings import Problem, placeholder_problems
from servers.runner.egress import allowed
from servers.runtimes.http.addresses import compile_address
from servers.runtimes.http.values import NotReady, Values
from servers.runtimes.remote.endpoint import check_headers

Json = dict[str, Any]
_CREDENTIALS = frozenset({"authorization", "x-api-key", "api-key", "x-auth-token"})
# Names that people give to nothing but credentials.
_CREDENTIAL_NAME = re.compile(r"(.*_)?(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY)", re.I)
_OF_A_URL = ("headers", "transport")
_OF_CODE = ("mode", "hosts", "environment", "memory_mb")


def upstream_problems(
    upstream: Json, variables: Mapping[str, Any], secrets: Mapping[str, Any]
) -> Iterator[Problem]:
    """Problems of one upstream, with their places in it."""
    for name in _OF_A_URL if "code" in upstream else _OF_CODE:
        if name in upstream:
            yield name, f"It belongs to an upstream with {'a url' if 'code' in upstream else 'code'}."
    if "code" in upstream:
        yield from _code_problems(upstream, variables, secrets)
        return
    yield from _address_problems(upstream["url"], variables)
    for name, value in upstream.get("headers", {}).items():
        yield from _header_problems(name, value)
        yield from placeholder_problems(f"headers.{name}", value, variables, secrets)


def _code_problems(
    upstream: Json, variables: Mapping[str, Any], secrets: Mapping[str, Any]
) -> Iterator[Problem]:
    for index, host in enumerate(upstream.get("hosts", [])):
        try:
            if "/" in host:
                raise ValueError("Write the host alone, such as api.example.com or example.com:8443.")
            allowed(host)
        except ValueError as error:
            yield f"hosts[{index}]", str(error)
    for name, value in upstream.get("environment", {}).items():
        yield from placeholder_problems(f"environment.{name}", value, variables, secrets)
        if _CREDENTIAL_NAME.fullmatch(name) and value and "{" not in value:
            yield (
                f"environment.{name}",
                f"Keep the credential in a secret: write {{secret:{name.lower()}}} for it.",
            )


def _address_problems(url: str, variables: Mapping[str, Any]) -> Iterator[Problem]:
    if "{secret:" in url:
        yield "url", "A URL is written to logs; put the credential into a header."
        return
    defaults = {name: about.get("default", "") for name, about in variables.items()}
    values = Values(lambda name: defaults.get(name) or _stand_in(name, defaults, url), lambda name: None)
    try:
        compile_address(url, [], values)
    except NotReady as error:
        if all(defaults.values()):
            yield "url", error.sentence
    except ValueError as error:
        yield "url", str(error)
    for name in dict.fromkeys(values.missing_variables):
        yield "url", f"It names {{{name}}}, which is not a variable of the server."


def _stand_in(name: str, defaults: Mapping[str, str], url: str) -> str | None:
    if name not in defaults:
        return None
    return "https://stand-in.example" if url.startswith(f"{{{name}}}") else "stand-in"


def _header_problems(name: str, value: str) -> Iterator[Problem]:
    try:
        check_headers(((name, value),))
    except ValueError as error:
        yield f"headers.{name}", str(error)
    if name.lower() in _CREDENTIALS and "{secret:" not in value:
        yield f"headers.{name}", "Keep the credential in a secret: write {secret:token} for it."


def remote_problems(part: Json, upstreams: Mapping[str, Any]) -> Iterator[Problem]:
    """Problems of a part's `remote`, if it has one."""
    named = part.get("remote", {}).get("upstream")
    if named is not None and named not in upstreams:
        yield "remote.upstream", f"The server has no upstream {named!r}. Declare it under upstreams."
