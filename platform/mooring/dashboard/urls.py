"""The dashboard's addresses. `new` stands where a name stands; no organisation and no server may be called that."""

from __future__ import annotations

from django.urls import URLPattern, include, path

from mooring.dashboard.views import (
    composition,
    connect,
    content,
    home,
    imports,
    inbox,
    keys,
    operations,
    playground,
    records,
    servers,
    tools,
    upstreams,
    versions,
)

app_name = "dashboard"

_server: list[URLPattern] = [
    path("", servers.detail, name="server"),
    path("settings/", servers.describe, name="server_settings"),
    path("members/", composition.index, name="members"),
    path("delete/", servers.delete, name="delete_server"),
    path("tools/", tools.index, name="tools"),
    path("tools/new/", tools.new, name="new_tool"),
    path("tools/preview/", tools.preview, name="preview_tool"),
    path("tools/<uuid:tool>/", tools.detail, name="tool"),
    path("tools/<uuid:tool>/toggle/", tools.toggle, name="toggle_tool"),
    path("tools/<uuid:tool>/delete/", tools.delete, name="delete_tool"),
    path("content/", content.overview, name="content"),
    path("content/<slug:kind>/", content.index, name="content_list"),
    path("content/<slug:kind>/new/", content.new, name="new_content_row"),
    path("content/<slug:kind>/<uuid:row>/", content.detail, name="content_row"),
    path("content/<slug:kind>/<uuid:row>/delete/", content.delete, name="delete_content_row"),
    path("secrets/", servers.secrets, name="secrets"),
    path("secrets/delete/", servers.remove_secret, name="delete_secret"),
    path("secrets/variables/", servers.variables, name="variables"),
    path("secrets/live/", servers.live_variables, name="live_variables"),
    path("upstreams/", upstreams.index, name="upstreams"),
    path("upstream/<slug:name>/", upstreams.detail, name="upstream"),
    path("upstream/<slug:name>/progress/", upstreams.progress, name="upstream_progress"),
    path("upstream/<slug:name>/look/", upstreams.look, name="look_at_upstream"),
    path("upstream/<slug:name>/take/", upstreams.take, name="take_parts"),
    path("upstream/<slug:name>/accept/", upstreams.accept, name="accept_drift"),
    path("upstream/<slug:name>/delete/", upstreams.delete, name="delete_upstream"),
    path("operations/", operations.index, name="operations"),
    path("operations/<uuid:row>/clear/", operations.clear, name="clear_override"),
    path("playground/", playground.index, name="playground"),
    path("playground/run/", playground.run, name="run_playground"),
    path("versions/", versions.index, name="versions"),
    path("versions/import/", versions.import_manifest, name="import_manifest"),
    path("versions/draft.<str:kind>", versions.draft_file, name="draft_file"),
    path("versions/<str:number>/", versions.detail, name="version"),
    path("versions/<str:number>/live/", versions.make_live, name="make_live"),
    path("versions/<str:number>/manifest.<str:kind>", versions.version_file, name="version_file"),
    path("connect/", connect.connect, name="connect"),
]

_tenant: list[URLPattern] = [
    path("", home.overview, name="overview"),
    path("servers/", servers.index, name="servers"),
    path("servers/new/", servers.new, name="new_server"),
    path("servers/new/openapi/", servers.new_from_openapi, name="new_from_openapi"),
    path("servers/new/remote/", upstreams.new_server, name="new_remote"),
    path("servers/new/tools/", servers.new_empty, {"way": "tools"}, name="new_with_tools"),
    path("servers/new/content/", servers.new_empty, {"way": "content"}, name="new_with_content"),
    path("servers/new/template/<slug:template>/", servers.new_from_template, name="new_from_template"),
    path("imports/", imports.index, name="imports"),
    path("imports/<uuid:row>/", imports.detail, name="import"),
    path("keys/", keys.index, name="keys"),
    path("keys/new/", keys.new, name="new_key"),
    path("keys/<uuid:key>/revoke/", keys.revoke, name="revoke_key"),
    path("calls/", records.calls, name="calls"),
    path("audit/", records.audit, name="audit"),
    path("settings/", home.settings, name="settings"),
]

urlpatterns = [
    path("", home.landing, name="home"),
    path("inbox/", inbox.inbox, name="inbox"),
    path("app/", home.choose, name="choose"),
    path("app/new/", home.new_organisation, name="new_organisation"),
    path("app/<str:tenant>/", include(_tenant)),
    path("app/<str:tenant>/servers/<str:server>/", include(_server)),
    path("s/<str:tenant>/<str:server>", connect.public, name="public"),
]
