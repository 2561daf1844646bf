from __future__ import annotations

from django.urls import path

from mooring.admin import records, servers, tenants
from mooring.admin.site import site

for part in (tenants, servers, records):
    part.register(site)

urlpatterns = [path("", site.urls)]
