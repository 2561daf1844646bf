"""What may be permitted, and the built-in roles. A permission is `<noun>:<verb>`."""

from __future__ import annotations

PERMISSIONS: dict[str, str] = {
    "servers:read": "see servers, their tools and versions",
    "servers:write": "create servers and change drafts",
    "servers:publish": "publish versions and roll back",
    "servers:delete": "delete servers",
    "servers:test": "call the draft",
    "servers:call": "call published servers",
    "servers:operate": "switch tools off, mock their answers, inject faults",
    "secrets:write": "set and remove secrets",
    "keys:read": "see API keys",
    "keys:write": "create and revoke API keys",
    "members:read": "see members",
    "members:write": "add, change and remove members",
    "calls:read": "read the call log",
    "audit:read": "read the audit log",
    "tenant:write": "change the organisation",
}
_ALL = frozenset(PERMISSIONS)
_READ = frozenset({"servers:read", "members:read", "calls:read"})

ROLES: dict[str, frozenset[str]] = {
    "owner": _ALL,
    "admin": _ALL - {"tenant:write"},
    "developer": _READ
    | {
        "servers:write",
        "servers:publish",
        "servers:test",
        "servers:call",
        "servers:operate",
        "secrets:write",
        "keys:read",
        "keys:write",
    },
    "auditor": _READ | {"audit:read", "keys:read"},
    "viewer": _READ | {"servers:call"},
}
# What a key may be given; the default lets a client call and nothing else.
KEY_SCOPES = _ALL - {"members:write", "tenant:write"}
DEFAULT_KEY_SCOPES = ("servers:call",)
