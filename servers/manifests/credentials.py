"""A header that carries a credential, taken apart: what stands in the manifest, and what is kept as a secret."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SCHEME = re.compile(r"(Bearer|Basic|Token|ApiKey) +(\S.*)", re.IGNORECASE | re.DOTALL)
_NOT_IN_NAMES = re.compile(r"[^a-z0-9_]+")


@dataclass(frozen=True, slots=True)
class Credential:
    """`template` is the header's value in the manifest. Without a secret in it `secret` and `value` are ""."""

    header: str
    template: str
    secret: str = ""
    value: str = ""


def credential_of(header: str, value: str) -> Credential:
    """`Authorization`, `Bearer abc` → `Bearer {secret:token}` and `abc`. What names a secret already stays."""
    header, value = header.strip(), value.strip()
    if "{secret:" in value or not value:
        return Credential(header, value)
    is_usual = header.lower() == "authorization"
    name = "token" if is_usual else _NOT_IN_NAMES.sub("_", header.lower()).strip("_")[:64] or "token"
    name = name if name[0].isalpha() else f"key_{name}"[:64]
    if scheme := _SCHEME.fullmatch(value):
        return Credential(header, f"{scheme[1]} {{secret:{name}}}", name, scheme[2].strip())
    # A bare token is what people paste; the scheme it needs is Bearer unless they said another.
    return Credential(header, f"{'Bearer ' if is_usual else ''}{{secret:{name}}}", name, value)
