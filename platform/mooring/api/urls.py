"""Everything under `/api/v1/`; included there by `mooring.urls`."""

from __future__ import annotations

from django.urls import path, re_path

from mooring.api.views import (
    builds,
    drafts,
    health,
    keys,
    missing,
    overrides,
    records,
    reference,
    running,
    secrets,
    servers,
    tenant,
    tools,
    upstreams,
    versions,
)

app_name = "api"
_SERVER = "servers/<str:slug>"
_UPSTREAM = f"{_SERVER}/upstreams/<str:name>"
_BUILD = f"{_SERVER}/builds/<str:build_id>"

urlpatterns = [
    path("schema", reference.schema, name="schema"),
    path("docs", reference.docs, name="docs"),
    path("tenant", tenant.TenantDetailView.as_view(), name="tenant"),
    path("servers", servers.ServerListView.as_view(), name="servers"),
    path(_SERVER, servers.ServerView.as_view(), name="server"),
    path(f"{_SERVER}/draft", drafts.DraftView.as_view(), name="draft"),
    path(f"{_SERVER}/draft/import", drafts.DraftImportView.as_view(), name="draft-import"),
    path(
        f"{_SERVER}/draft/imports/<str:import_id>",
        drafts.DraftImportResultView.as_view(),
        name="draft-import-result",
    ),
    path(f"{_SERVER}/tools", tools.ToolListView.as_view(), name="tools"),
    path(f"{_SERVER}/tools/<path:name>", tools.ToolView.as_view(), name="tool"),
    path(f"{_SERVER}/versions", versions.VersionListView.as_view(), name="versions"),
    path(f"{_SERVER}/versions/<str:number>", versions.VersionView.as_view(), name="version"),
    path(f"{_SERVER}/rollback", versions.RollbackView.as_view(), name="rollback"),
    path(f"{_SERVER}/channels", servers.ChannelListView.as_view(), name="channels"),
    path(
        f"{_SERVER}/channels/<str:channel>/variables",
        servers.ChannelVariablesView.as_view(),
        name="channel-variables",
    ),
    path(f"{_SERVER}/secrets", secrets.SecretListView.as_view(), name="secrets"),
    path(f"{_SERVER}/secrets/<str:name>", secrets.SecretView.as_view(), name="secret"),
    path(f"{_SERVER}/upstreams", upstreams.UpstreamListView.as_view(), name="upstreams"),
    path(_UPSTREAM, upstreams.UpstreamView.as_view(), name="upstream"),
    path(f"{_UPSTREAM}/look", upstreams.UpstreamLookView.as_view(), name="upstream-look"),
    path(f"{_UPSTREAM}/listing", upstreams.UpstreamListingView.as_view(), name="upstream-listing"),
    path(f"{_UPSTREAM}/take", upstreams.UpstreamTakeView.as_view(), name="upstream-take"),
    path(f"{_SERVER}/drifts", upstreams.DriftListView.as_view(), name="drifts"),
    path(f"{_SERVER}/drifts/accept", upstreams.DriftAcceptView.as_view(), name="drift-accept"),
    path(f"{_SERVER}/builds", builds.BuildListView.as_view(), name="builds"),
    path(_BUILD, builds.BuildView.as_view(), name="build"),
    path(f"{_BUILD}/again", builds.BuildAgainView.as_view(), name="build-again"),
    path(f"{_BUILD}/accept", builds.BuildAcceptView.as_view(), name="build-accept"),
    path(f"{_SERVER}/processes", running.ProcessListView.as_view(), name="processes"),
    path(f"{_SERVER}/processes/<str:instance>", running.ProcessView.as_view(), name="process"),
    path(f"{_SERVER}/logs", running.LogView.as_view(), name="logs"),
    path(f"{_SERVER}/health", health.HealthView.as_view(), name="health"),
    path(f"{_SERVER}/overrides", overrides.OverrideListView.as_view(), name="overrides"),
    path(f"{_SERVER}/overrides/<str:override_id>", overrides.OverrideView.as_view(), name="override"),
    path("imports", drafts.ImportListView.as_view(), name="imports"),
    path("keys", keys.KeyListView.as_view(), name="keys"),
    path("keys/<uuid:key_id>", keys.KeyView.as_view(), name="key"),
    path("calls", records.CallListView.as_view(), name="calls"),
    path("audit", records.AuditListView.as_view(), name="audit"),
    re_path(r"^(?P<rest>.*)$", missing.missing, name="missing"),
]
