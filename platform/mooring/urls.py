"""The control plane's URLs. The data plane's stand before Django, in `mooring.asgi`."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("accounts/", include("allauth.account.urls")),
    path("admin/", include("mooring.admin.urls")),
    path("api/v1/", include("mooring.api.urls")),
    path("", include("mooring.dashboard.urls")),
]

handler500 = "mooring.dashboard.views.faults.server_error"
