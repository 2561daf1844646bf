"""A server made of others of its tenant: their parts under one roof, named apart by a prefix.

A member that is missing costs only its own parts; one whose upstream is down keeps them listed. What is called through
a composition runs as its member's: with the member's variables, secrets and switches.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from servers.pipeline.material import Material, Member
from servers.pipeline.overriding import overridden
from servers.pipeline.parts import Content, Parts, Runtimes, Tool, parts_of
from servers.runtimes.static import UriTemplate

LONGEST_NAME = 128
MOST_TOLD = 20
LONGEST_INSTRUCTIONS = 20_000
Templates = tuple[tuple[UriTemplate, Content], ...]


def composed(material: Material, runtimes: Runtimes) -> tuple[Parts, tuple[str, ...]]:
    """The server's own parts and its members', and sentences on what is missing or may fail.

    Of two parts with one name or URI the first is served: the server's own, then in the order of its members.
    """
    parts = parts_of(material, runtimes)
    missing: list[str] = []
    for member in material.members:
        if member.missing:
            missing.append(f"{member.slug}: {member.missing}")
        if member.material is None:
            continue
        parts, refused = _joined(parts, parts_of(member.material, runtimes), member, material)
        missing += [f"{member.slug}: {what}" for what in refused]
    if len(missing) > MOST_TOLD:
        missing[MOST_TOLD:] = [f"{len(missing) - MOST_TOLD} more parts are missing."]
    return parts, tuple(missing)


def _joined(parts: Parts, added: Parts, member: Member, whole: Material) -> tuple[Parts, list[str]]:
    refused: list[str] = []
    tools = {
        name: _renamed(tool, name, whole)
        for name, tool in _free(added.tools, parts.tools, member.prefix, "tool", refused)
    }
    prompts = {
        name: replace(prompt, part=prompt.part | {"name": name})
        for name, prompt in _free(added.prompts, parts.prompts, member.prefix, "prompt", refused)
    }
    resources = dict(_free(added.resources, parts.resources, "", "resource", refused))
    taken = _by_uri(parts.templates)
    templates = _free(_by_uri(added.templates), taken, "", "resource template", refused)
    joined = Parts(
        tools=parts.tools | tools,
        resources=parts.resources | resources,
        templates=parts.templates + tuple(pair for _, pair in templates),
        prompts=parts.prompts | prompts,
        code=parts.code + added.code,
    )
    return joined, refused


def _by_uri(templates: Templates) -> dict[str, tuple[UriTemplate, Content]]:
    return {template.part["uri_template"]: (parsed, template) for parsed, template in templates}


def _free(
    added: dict[str, Any], taken: dict[str, Any], prefix: str, noun: str, refused: list[str]
) -> Iterator[tuple[str, Any]]:
    """What can be served under its prefixed name; why the rest cannot goes to `refused`."""
    for name, part in added.items():
        full = prefix + name
        if full in taken:
            refused.append(f"its {noun} {name} is not served, since {full} is there already.")
        elif len(full) > LONGEST_NAME and prefix:
            refused.append(f"its {noun} {name} is not served, since its name with the prefix is too long.")
        else:
            yield full, part


def _renamed(tool: Tool, name: str, whole: Material) -> Tool:
    return replace(
        tool,
        definition=tool.definition | {"name": name},
        binding=overridden(name, tool.binding, whole.switches),
    )


def instructions(material: Material) -> str:
    """The server's own, then its members', each under the member's title and prefix."""
    texts = [material.manifest.get("server", {}).get("instructions", "")]
    for member in material.members:
        settings = member.material.manifest.get("server", {}) if member.material is not None else {}
        if settings.get("instructions"):
            named = f" (names begin with {member.prefix})" if member.prefix else ""
            texts.append(f"# {settings['title']}{named}\n{settings['instructions']}")
    return "\n\n".join(text for text in texts if text)[:LONGEST_INSTRUCTIONS]
