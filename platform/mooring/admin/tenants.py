"""Organisations, plans, people and keys."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from mooring.accounts.models import User
from mooring.admin.site import ReadOnlyAdmin, StaffAdmin, staff_actor
from mooring.scope import tenant_scope
from tenants import services
from tenants.models import ApiKey, Membership, Plan, Tenant


class TenantAdmin(StaffAdmin):
    list_display = ("slug", "name", "plan", "created_at", "state")
    search_fields = ("slug", "name")
    fields = ("slug", "name", "plan", "created_at", "suspended")
    readonly_fields = ("slug", "created_at", "suspended")
    actions = ["suspend", "resume"]

    @admin.display(description="state")
    def state(self, tenant: Tenant) -> str:
        if tenant.deleted_at:
            return "deleted"
        return "suspended" if tenant.suspended_at else "active"

    @admin.display(description="suspended since")
    def suspended(self, tenant: Tenant) -> str:
        return str(tenant.suspended_at or "no")

    def save_model(self, request: HttpRequest, obj: Tenant, form: Any, change: bool) -> None:
        tenant = Tenant.objects.get(id=obj.id)
        with tenant_scope(tenant.id):
            if "name" in form.changed_data:
                services.rename_tenant(tenant, name=obj.name, actor=staff_actor(request))
            if "plan" in form.changed_data:
                services.change_plan(tenant, plan=obj.plan, actor=staff_actor(request))

    @admin.action(description="Suspend: endpoints answer as if missing")
    def suspend(self, request: HttpRequest, tenants: Any) -> None:
        self._set_suspended(request, tenants, suspended=True)

    @admin.action(description="Resume")
    def resume(self, request: HttpRequest, tenants: Any) -> None:
        self._set_suspended(request, tenants, suspended=False)

    def _set_suspended(self, request: HttpRequest, tenants: Any, *, suspended: bool) -> None:
        for tenant in tenants:
            with tenant_scope(tenant.id):
                services.set_suspended(tenant, suspended=suspended, actor=staff_actor(request))


class PlanAdmin(StaffAdmin):
    list_display = ("name", "calls_per_minute", "calls_per_minute_per_key", "concurrent_calls", "servers")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def save_model(self, request: HttpRequest, obj: Plan, form: Any, change: bool) -> None:
        services.save_plan(obj, actor=staff_actor(request))


class UserAdmin(ReadOnlyAdmin):
    list_display = ("email", "name", "is_active", "is_staff", "date_joined", "last_login")
    search_fields = ("email", "name")
    fields = ("email", "name", "is_active", "is_staff", "is_superuser", "date_joined", "last_login")


class MembershipAdmin(ReadOnlyAdmin):
    list_display = ("tenant", "user", "role", "created_at")
    list_select_related = ("tenant", "user")
    search_fields = ("tenant__slug", "user__email")
    list_filter = ("role",)


class ApiKeyAdmin(ReadOnlyAdmin):
    list_display = (
        "prefix",
        "name",
        "tenant",
        "user",
        "created_at",
        "expires_at",
        "revoked_at",
        "last_used_at",
    )
    list_select_related = ("tenant", "user")
    search_fields = ("prefix", "name", "tenant__slug")
    exclude = ("digest",)
    actions = ["revoke"]

    @admin.action(description="Revoke")
    def revoke(self, request: HttpRequest, keys: Any) -> None:
        for key in keys:
            with tenant_scope(key.tenant_id):
                services.revoke_key(key, actor=staff_actor(request))


def register(site: admin.AdminSite) -> None:
    site.register(Tenant, TenantAdmin)
    site.register(Plan, PlanAdmin)
    site.register(User, UserAdmin)
    site.register(Membership, MembershipAdmin)
    site.register(ApiKey, ApiKeyAdmin)
