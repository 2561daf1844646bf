"""What a build gave, and how that differs from what the draft takes: for people and programs to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from servers.importers.code import STAGES
from servers.importers.remote import Found, warnings_of
from servers.models import Build
from servers.services.artifacts import build_of, found_in
from servers.services.drafts import draft_manifest
from servers.services.drift import Listed, remote_parts

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class BuiltPart:
    """`change` is new, changed or same, against what the draft runs; "" when it runs none of this upstream.

    `was` is the definition that it had there. `part` is what the draft made of it, if it takes it. `is_proposed`:
    what was left out before stays out, and all else is taken unless a person says otherwise.
    """

    found: Found
    part: Json | None
    was: Json | None
    change: str
    is_proposed: bool
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`gone` are parts the draft takes that the new code does not offer."""

    parts: list[BuiltPart]
    gone: list[Listed]
    replaces: str

    @property
    def changes(self) -> int:
        return sum(part.change in {"new", "changed"} for part in self.parts) + len(self.gone)


def comparison_of(build: Build) -> Comparison:
    """What a finished build offers beside what the draft takes of the same upstream."""
    draft = draft_manifest(build.server)
    current = draft.get("upstreams", {}).get(build.upstream, {}).get("code", "")
    taken = {
        key[1:]: part for key, part in remote_parts(draft) if part["remote"]["upstream"] == build.upstream
    }
    before = build_of(build.server, current) if current else None
    listed = found_in(before) if before is not None else {}
    found = found_in(build)
    parts = [_part(one, taken.get(key), listed.get(key), bool(current)) for key, one in found.items()]
    return Comparison(parts, [key for key in taken if key not in found], current)


def _part(found: Found, part: Json | None, before: Found | None, is_update: bool) -> BuiltPart:
    pinned = part["remote"]["digest"] if part is not None else before and before.digest
    change = ("same" if pinned == found.digest else "changed" if pinned else "new") if is_update else ""
    return BuiltPart(
        found,
        part,
        before.definition if before is not None else None,
        change,
        is_proposed=part is not None or before is None,
        warnings=warnings_of(found.definition),
    )


# ---- rows, as the API and the command line show them -----------------------------------------------------


def build_row(build: Build) -> Json:
    """`state` is waiting, running, done (to be accepted), accepted or failed."""
    return {
        "id": str(build.id),
        "upstream": build.upstream,
        "state": build.state,
        "stage": build.stage,
        "percent": percent_of(build),
        "file": build.upload.name,
        "size": build.upload.size,
        "sha256": build.upload.digest,
        "settings": build.settings,
        "artifact": build.artifact or None,
        "artifact_size": build.artifact_size,
        "python": build.python,
        "packages": build.packages,
        "error": build.problem,
        "failure": build.failure,
        "author": build.author,
        "created_at": build.created_at,
        "finished_at": build.finished_at,
        "accepted_at": build.accepted_at,
    }


def percent_of(build: Build) -> int:
    return 100 if build.artifact else STAGES.get(build.stage, ("", 0))[1]


def build_detail(build: Build, log_from: int = 0) -> Json:
    """The row, what it offers, and the log from that character on; ask again from `log_next`."""
    log, start = log_of(build, log_from)
    told = ("mode", "era", "target", "name", "title", "version", "instructions", "problems")
    comparison = comparison_of(build) if build.artifact else None
    return build_row(build) | {
        "log": log,
        "log_from": start,
        "log_next": start + len(log),
        "about": {name: build.offer.get(name) for name in told} if build.artifact else None,
        "parts": [_part_row(part) for part in comparison.parts] if comparison else [],
        "gone": [{"section": section, "name": name} for section, name in comparison.gone]
        if comparison
        else [],
    }


def _part_row(part: BuiltPart) -> Json:
    return {
        "section": part.found.section,
        "name": part.found.name,
        "digest": part.found.digest,
        "definition": part.found.definition,
        "change": part.change or None,
        "taken_as": part.part["name"] if part.part is not None else None,
        "warnings": part.warnings,
    }


def log_of(build: Build, log_from: int = 0) -> tuple[str, int]:
    """The log from a character on, and where that really begins: the beginning of a long log is not kept."""
    start = min(max(log_from, build.log_dropped), build.log_dropped + len(build.log))
    return build.log[start - build.log_dropped :], start


def code_upstreams(server_upstreams: Json) -> dict[str, Json]:
    """Those of a draft that are uploaded code, their defaults in place."""
    usual = {"mode": "shared", "hosts": [], "environment": {}, "memory_mb": 256}
    return {name: usual | one for name, one in server_upstreams.items() if "code" in one}
