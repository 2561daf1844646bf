"""Writes about servers. Each is: check, then one transaction with its audit record, then the change announced.

All of them run inside the tenant's scope and raise `mooring.errors`.
"""

from servers.services.drafts import draft_manifest, replace_draft
from servers.services.gallery import TEMPLATES, Template
from servers.services.hosting import (
    create_from_template,
    create_server,
    delete_server,
    set_variables,
    update_server,
)
from servers.services.imports import apply_import, run_import, start_import
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

__all__ = [
    "TEMPLATES",
    "Template",
    "apply_import",
    "create_from_template",
    "create_server",
    "delete_row",
    "delete_secret",
    "delete_server",
    "draft_manifest",
    "missing_secrets",
    "publish",
    "replace_draft",
    "rollback",
    "run_import",
    "save_prompt",
    "save_resource",
    "save_template",
    "save_tool",
    "secrets_of",
    "set_secret",
    "set_tool_enabled",
    "set_variables",
    "start_import",
    "update_server",
]
