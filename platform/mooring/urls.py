"""The control plane's URLs. The data plane's are in `servers.gateway`, before Django is reached."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("accounts/", include("allauth.account.urls")),
]
