"""A server's tools made anew from a document, with everything else left as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from servers.manifests.canonical import canonical_json
from servers.manifests.checking import secrets_named

Json = dict[str, Any]


def with_tools_of(new: Json, draft: Json, *, title: str = "") -> Json:
    """The draft with the tools of `new`, and the variables and secrets that these and the draft's upstreams need.

    A variable for which the document has no value keeps what the draft says of it.
    """
    upstreams = draft.get("upstreams", {})
    known = draft.get("variables", {})
    variables = {
        name: known[name] if name in known and not about.get("default") else about
        for name, about in new.get("variables", {}).items()
    }
    return draft | {
        "server": draft["server"] | ({"title": title} if title else {}),
        "tools": new.get("tools", []),
        "variables": _variables_of(upstreams, draft) | variables,
        "secrets": _secrets_of(upstreams, draft) | new.get("secrets", {}),
    }


def _variables_of(upstreams: Mapping[str, Any], draft: Json) -> Json:
    sent = canonical_json(upstreams).decode()
    return {name: about for name, about in draft.get("variables", {}).items() if f"{{{name}}}" in sent}


def _secrets_of(upstreams: Mapping[str, Any], draft: Json) -> Json:
    named = {name for upstream in upstreams.values() for name in secrets_named(upstream)}
    return {name: about for name, about in draft.get("secrets", {}).items() if name in named}
