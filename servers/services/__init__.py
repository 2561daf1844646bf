"""Writes about servers. Each is: check, then one transaction with its audit record, then the change announced.

All of them run inside the tenant's scope and raise `mooring.errors`.
"""

from servers.services.accepting import accept_build
from servers.services.builds import start_build, try_again
from servers.services.connecting import connect_server, upload_server
from servers.services.drafts import draft_manifest, replace_draft, settings_manifest
from servers.services.drift import accept_drift, current_definitions, drifts_of, live_drifts, take_parts
from servers.services.gallery import TEMPLATES, Template
from servers.services.health import health_of, unhealthy_upstreams
from servers.services.hosting import (
    create_from_template,
    create_server,
    delete_server,
    missing_variables,
    set_variables,
    update_server,
)
from servers.services.imports import apply_import, import_now, run_import, start_import
from servers.services.offers import Change, Upstream, changes_of, offered, parts_taken, upstreams_of
from servers.services.overrides import active_overrides, clear_override, set_override
from servers.services.publishing import publish, rollback
from servers.services.rows import (
    delete_row,
    save_prompt,
    save_resource,
    save_template,
    save_tool,
    set_tool_enabled,
)
from servers.services.secrets import delete_secret, missing_secrets, secrets_of, set_secret
from servers.services.upstreams import delete_upstream, save_upstream, start_look

__all__ = [
    "TEMPLATES",
    "Change",
    "Template",
    "Upstream",
    "accept_build",
    "accept_drift",
    "active_overrides",
    "apply_import",
    "changes_of",
    "clear_override",
    "connect_server",
    "create_from_template",
    "create_server",
    "current_definitions",
    "delete_row",
    "delete_secret",
    "delete_server",
    "delete_upstream",
    "draft_manifest",
    "drifts_of",
    "health_of",
    "import_now",
    "live_drifts",
    "missing_secrets",
    "missing_variables",
    "offered",
    "parts_taken",
    "publish",
    "replace_draft",
    "rollback",
    "run_import",
    "save_prompt",
    "save_resource",
    "save_template",
    "save_tool",
    "save_upstream",
    "secrets_of",
    "set_override",
    "set_secret",
    "set_tool_enabled",
    "set_variables",
    "settings_manifest",
    "start_build",
    "start_import",
    "start_look",
    "take_parts",
    "try_again",
    "unhealthy_upstreams",
    "update_server",
    "upload_server",
    "upstreams_of",
]
