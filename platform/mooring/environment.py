"""Readers of environment variables which fail loudly. Settings come from nowhere else."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

ROOT = Path(__file__).resolve().parents[2]
# Of PostgreSQL's connections, in seconds, the last in milliseconds: one that leads nowhere any more, as after a cable
# was pulled, is noticed after half a minute, whether we wait for an answer or have sent something.
_KEPT_ALIVE: dict[str, object] = {
    "keepalives": 1,
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}


def data_directory(name: str = "MOORING_DATA_DIR") -> Path:
    """The folder that NAME says, else `var` in a checkout, else `var` where we are."""
    base = ROOT if (ROOT / "manage.py").exists() else Path.cwd()
    return Path(text(name) or base / "var").resolve()


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, default).strip()


def flag(name: str, default: bool = False) -> bool:
    value = text(name).lower()
    if value in {"", "1", "true", "yes", "on", "0", "false", "no", "off"}:
        return value in {"1", "true", "yes", "on"} if value else default
    raise ImproperlyConfigured(f"{name}={value!r} is neither true nor false; write 1 or 0.")


def number(name: str, default: int, *, least: int | None = None) -> int:
    value = text(name)
    if not value:
        return default
    try:
        found = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name}={value!r} is not a whole number.") from None
    if least is not None and found < least:
        raise ImproperlyConfigured(f"{name}={value!r} is too little; write {least} or more.")
    return found


def words(name: str, default: str = "") -> list[str]:
    """A comma-separated list without blanks."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def secret(name: str) -> str:
    """The value of NAME, or the content of the file that NAME_FILE names."""
    path = text(f"{name}_FILE")
    if not path:
        return text(name)
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE={path!r} cannot be read: {error.strerror}.") from None


def postgres(name: str) -> dict[str, object] | None:
    """Django's DATABASES entry for a `postgresql://user:password@host:port/name?option=value` URL."""
    url = urlsplit(secret(name))
    if not url.scheme:
        return None
    if url.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(f"{name} must start with postgresql://; {url.scheme}:// is not supported.")
    return {
        "ENGINE": "django_prometheus.db.backends.postgresql",
        "NAME": unquote(url.path.lstrip("/")),
        "USER": unquote(url.username or ""),
        "PASSWORD": unquote(url.password or ""),
        "HOST": unquote(url.hostname or ""),
        "PORT": str(url.port or ""),
        "OPTIONS": _KEPT_ALIVE | dict(parse_qsl(url.query)) | {"connect_timeout": 2},
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
