"""Who may read the development inbox: only this machine, and only while no mail server is set up."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest

from mooring.dashboard.requests import is_from_this_machine

_BACKEND = "mooring.accounts.mail.DevelopmentInbox"


def is_inbox_open(request: HttpRequest) -> bool:
    return settings.EMAIL_BACKEND == _BACKEND and is_from_this_machine(request)
