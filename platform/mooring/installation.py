"""Secrets an embedded installation makes for itself on its first start, kept in its data directory."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from mooring import environment as env


class Installation:
    """Hands out secrets: from the environment, else (embedded only) from `<data dir>/secrets.json`."""

    def __init__(self, directory: Path, *, embedded: bool) -> None:
        self.directory = directory
        self.embedded = embedded

    def secret(self, name: str) -> str:
        return env.secret(name) or self._kept(name, lambda: secrets.token_urlsafe(48))

    def keyring(self, name: str) -> dict[str, bytes]:
        """Key id → 32-byte key, newest first, from `id:base64,id:base64`."""
        value = env.secret(name) or self._kept(
            name, lambda: "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()
        )
        ring: dict[str, bytes] = {}
        for pair in value.split(","):
            key_id, _, encoded = pair.strip().partition(":")
            key = base64.b64decode(encoded)
            if not key_id or len(key) != 32:
                raise ImproperlyConfigured(f"{name} holds an entry that is not `id:base64 of 32 bytes`.")
            ring[key_id] = key
        return ring

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        if not self.embedded:
            raise ImproperlyConfigured(
                f"Set {name} (or {name}_FILE): production does not invent its own secrets."
            )
        path = self.directory / "secrets.json"
        kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        if name not in kept:
            kept[name] = make()
            self._write(path, kept)
        return kept[name]

    def _write(self, path: Path, kept: dict[str, str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "w") as file:
            json.dump(kept, file, indent=1)
        fresh.replace(path)
