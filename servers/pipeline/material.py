"""What a snapshot is built from: one version on one channel, with the values it refers to."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from servers.pipeline.overriding import Switch

Json = dict[str, Any]
# The channels that every server has.
LIVE, DRAFT = "live", "draft"


@dataclass(frozen=True, slots=True)
class Member:
    """One of the servers that another is made of. Without `material` it is missing, and `missing` says why; with it,
    `missing` says why calls of it may fail.
    """

    slug: str
    prefix: str
    server: uuid.UUID | None
    material: Material | None = None
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Material:
    """What a snapshot is built from.

    `ordinal` counts a server's versions; a draft's is 0. `definitions` are the digests of what upstreams were last
    seen to list, by source, section and name there.
    """

    tenant: uuid.UUID
    server: uuid.UUID
    slug: str
    version: str
    channel: str
    manifest: Json
    variables: Mapping[str, str]
    secrets: Mapping[str, str]
    ordinal: int = 0
    switches: tuple[Switch, ...] = ()
    members: tuple[Member, ...] = ()
    definitions: Mapping[tuple[str, str, str], str] = field(default_factory=dict)

    def digest_for(self, part: Json) -> bytes:
        """Of all that a tool's or resource's answers depend on, besides what is asked and by whom. Secrets cannot be
        read back.
        """
        parts = (
            str(self.server),
            part,
            self.manifest.get("upstreams", {}),
            self.variables,
            self.secrets,
        )
        return hashlib.sha256(msgspec.msgpack.encode(parts, order="deterministic")).digest()
