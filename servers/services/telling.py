"""Mail to those who can do something about it."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.core.mail import send_mass_mail
from django.db import transaction

from servers.models import Server
from servers.services.drift import Drift
from tenants.models import Membership

MOST_NAMED = 20
MOST_READERS = 100


def tell_of_drifts(server: Server, drifts: Sequence[Drift]) -> None:
    """Write, once the change is committed, to the members who may publish, that parts of `live` are held back."""
    if not drifts:
        return
    members = Membership.objects.filter(tenant_id=server.tenant_id, user__is_active=True).select_related(
        "user", "tenant"
    )
    readers = [member for member in members if "servers:publish" in member.permissions][:MOST_READERS]
    subject, text = _letter(server, drifts)
    letters = [(subject, text, None, [member.user.email]) for member in readers]
    transaction.on_commit(lambda: send_mass_mail(letters, fail_silently=True))


def _letter(server: Server, drifts: Sequence[Drift]) -> tuple[str, str]:
    count = len(drifts)
    noun = "part" if count == 1 else "parts"
    named = [f"  {drift.section[:-1].replace('_', ' ')} {drift.name[:100]}" for drift in drifts[:MOST_NAMED]]
    more = [f"  and {count - MOST_NAMED} more"] if count > MOST_NAMED else []
    page = f"{settings.ORIGIN}/app/{server.tenant.slug}/servers/{server.slug}/upstreams/"
    lines = [
        f"{server.title} takes {count} {noun} from a server elsewhere that has changed what it says of",
        "them. Calls of what changed are held back until somebody has looked at it:",
        "",
        *named,
        *more,
        "",
        f"See what changed, and accept it: {page}",
    ]
    return f"{server.title}: {count} {noun} changed upstream", "\n".join(lines)
