"""What a server here offers, and what a client said it can do, as bits for a session's token."""

from __future__ import annotations

from typing import Any

# Client capabilities that a server may rely on later in a session. The order is the bit; never reorder.
_KNOWN = (
    ("roots",),
    ("roots", "listChanged"),
    ("sampling",),
    ("sampling", "tools"),
    ("sampling", "context"),
    ("elicitation",),
    ("elicitation", "form"),
    ("elicitation", "url"),
    ("tasks",),
)


def server_capabilities() -> dict[str, Any]:
    return {"tools": {}, "resources": {}, "prompts": {}, "completions": {}, "logging": {}}


def to_bits(capabilities: Any) -> int:
    bits = 0
    for index, path in enumerate(_KNOWN):
        node: Any = capabilities
        for step in path:
            node = node.get(step) if isinstance(node, dict) else None
        if node is not None and node is not False:
            bits |= 1 << index
    return bits


def from_bits(bits: int) -> dict[str, Any]:
    capabilities: dict[str, Any] = {}
    for index, path in enumerate(_KNOWN):
        if bits >> index & 1:
            node = capabilities
            for step in path:
                node = node.setdefault(step, {})
    return capabilities
