"""Mail of an installation without a mail server, shown to people at the machine itself."""

from __future__ import annotations

import re

from django.http import Http404, HttpRequest, HttpResponse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache

from mooring.accounts.mail import letters
from mooring.dashboard.inbox import is_inbox_open
from mooring.dashboard.pages import show

_CODE = re.compile(r"(?m)^\s*(\d{6})\s*$")


@never_cache
def inbox(request: HttpRequest) -> HttpResponse:
    if not is_inbox_open(request):
        raise Http404
    found = [(letter, code[1] if (code := _CODE.search(letter.body)) else "") for letter in letters()]
    return show(request, "dashboard/inbox.html", {"letters": found, "back": _back(request)})


def _back(request: HttpRequest) -> str:
    """The page here that led to the inbox, which is where a code is entered; or ""."""
    path = request.GET.get("from", "")
    return path if url_has_allowed_host_and_scheme(path, allowed_hosts=None) else ""
