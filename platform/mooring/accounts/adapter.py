"""How allauth behaves here: where people land, and that mail always speaks of the configured origin."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings
from django.http import HttpRequest
from django.utils.crypto import get_random_string


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    def generate_email_verification_code(self) -> str:
        """Six digits, as people expect of a code they type."""
        return get_random_string(6, "0123456789")

    def get_signup_redirect_url(self, request: HttpRequest) -> str:
        return str(settings.LOGIN_REDIRECT_URL)
