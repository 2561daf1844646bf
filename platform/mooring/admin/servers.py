"""Servers, their tools and versions."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest

from mooring.admin.site import ReadOnlyAdmin, StaffAdmin, staff_actor
from mooring.errors import MooringError
from mooring.scope import tenant_scope
from servers import manifests, services
from servers.models import Channel, Server, Tool, Version
from servers.services.kinds import TOOL

# Parts of a tool's definition that its form shows; what it does not show stays.
_TEXTS = ("name", "title", "description", "input_schema", "output_schema", "annotations")
_SHOWN = {*_TEXTS, "enabled", "http", "remote", "static"}


class ServerAdmin(StaffAdmin):
    list_display = ("slug", "tenant", "title", "is_public", "created_at", "deleted_at")
    list_select_related = ("tenant",)
    search_fields = ("slug", "title", "tenant__slug")
    list_filter = ("is_public",)
    fields = (
        "tenant",
        "slug",
        "title",
        "description",
        "instructions",
        "is_public",
        "created_at",
        "deleted_at",
    )
    readonly_fields = ("tenant", "slug", "created_at", "deleted_at")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is not None and obj.deleted_at is None

    def save_model(self, request: HttpRequest, obj: Server, form: Any, change: bool) -> None:
        server = Server.objects.get(id=obj.id)
        changed = {name: form.cleaned_data[name] for name in form.changed_data}
        with tenant_scope(server.tenant_id):
            services.update_server(server, actor=staff_actor(request), **changed)

    def delete_model(self, request: HttpRequest, obj: Server) -> None:
        with tenant_scope(obj.tenant_id):
            services.delete_server(obj, actor=staff_actor(request))

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Deleting ends the server; its rows stay, so nothing else would go with it."""
        return [str(obj) for obj in objs], {"servers": len(objs)}, set(), []


class ToolForm(forms.ModelForm):  # type: ignore[type-arg]  # generic only in the stubs
    """Refuses what the service would refuse, beside the field and before anything is saved."""

    class Meta:
        model = Tool
        fields = (*_TEXTS, "binding", "is_enabled")

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors:
            try:
                within = services.settings_manifest(self.instance.server)
                manifests.check_part("tools", definition_of(self.instance, cleaned), within=within)
            except MooringError as error:
                raise ValidationError(error.message) from None
        return cleaned


def definition_of(stored: Tool, fields: dict[str, Any]) -> dict[str, Any]:
    """A tool of a manifest: the stored one, with the form's fields laid over it."""
    kept = {name: part for name, part in TOOL.definition_of(stored).items() if name not in _SHOWN}
    shown = {name: fields[name] for name in _TEXTS if fields.get(name)}
    return kept | shown | {"enabled": fields["is_enabled"]} | dict(fields["binding"])


class ToolAdmin(StaffAdmin):
    form = ToolForm
    list_display = ("name", "server", "tenant", "is_enabled")
    list_select_related = ("tenant", "server")
    search_fields = ("name", "server__slug", "tenant__slug")
    list_filter = ("is_enabled",)
    actions = ["enable", "disable"]

    def save_model(self, request: HttpRequest, obj: Tool, form: Any, change: bool) -> None:
        tool = Tool.objects.select_related("server").get(id=obj.id)
        with tenant_scope(tool.tenant_id):
            services.save_tool(
                tool.server,
                actor=staff_actor(request),
                tool=tool,
                definition=definition_of(tool, form.cleaned_data),
            )

    @admin.action(description="Enable in the draft")
    def enable(self, request: HttpRequest, tools: Any) -> None:
        self._set_enabled(request, tools, enabled=True)

    @admin.action(description="Disable in the draft")
    def disable(self, request: HttpRequest, tools: Any) -> None:
        self._set_enabled(request, tools, enabled=False)

    def _set_enabled(self, request: HttpRequest, tools: Any, *, enabled: bool) -> None:
        for tool in tools.select_related("server"):
            with tenant_scope(tool.tenant_id):
                services.set_tool_enabled(tool, enabled=enabled, actor=staff_actor(request))


class VersionAdmin(ReadOnlyAdmin):
    list_display = ("number", "server", "tenant", "author", "created_at", "digest", "retired_at")
    list_select_related = ("tenant", "server")
    search_fields = ("server__slug", "tenant__slug", "digest")


class ChannelAdmin(ReadOnlyAdmin):
    list_display = ("name", "server", "tenant", "version")
    list_select_related = ("tenant", "server", "version")
    search_fields = ("server__slug", "tenant__slug")


def register(site: admin.AdminSite) -> None:
    site.register(Server, ServerAdmin)
    site.register(Tool, ToolAdmin)
    site.register(Version, VersionAdmin)
    site.register(Channel, ChannelAdmin)
