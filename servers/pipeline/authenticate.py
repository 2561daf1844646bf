"""Who is calling, from headers alone, and whether that lets them in."""

from __future__ import annotations

import time

from mooring.errors import ClientError, NotFound, Unauthenticated
from servers.pipeline.call import Call
from servers.pipeline.directory import Directory, Endpoint
from servers.pipeline.principals import Principal, anonymous
from tenants import playground_tokens

MAX_CREDENTIAL = 4_096


async def authenticate(call: Call, directory: Directory) -> Principal | None:
    """The principal of the request's credential; None without one.

    Raises `Unauthenticated` for a credential that is malformed, unknown, revoked or expired, and `ClientError`
    (400) for two of them.
    """
    header = call.headers.get("authorization")
    if header is None:
        return None
    if "authorization" in call.duplicated:
        raise ClientError("Send one Authorization header.", code="two_credentials")
    scheme, _, credential = header.partition(" ")
    if scheme.lower() != "bearer" or not credential or len(credential) > MAX_CREDENTIAL:
        raise Unauthenticated("Send `Authorization: Bearer <key>`.", code="malformed_credential")
    if credential.startswith(playground_tokens.PREFIX):
        principal = await _principal_of_pass(credential, directory)
    elif (digest := directory.digest_of(credential)) is None:
        principal = None
    else:
        principal = directory.principals.peek(digest) or await directory.principal_of_key(digest)
    if principal is None or principal.is_barred or (principal.expires and principal.expires <= time.time()):
        call.principal = principal
        raise Unauthenticated("This key is unknown, revoked or expired.", code="invalid_credential")
    return principal


async def _principal_of_pass(token: str, directory: Directory) -> Principal | None:
    found = playground_tokens.read(token)
    if found is None:
        return None
    member = await directory.principal_of_pass(found.user, found.tenant)
    if member is None:
        return None
    return Principal(
        kind=member.kind,
        id=member.id,
        name=member.name,
        key=member.key,
        tenant=member.tenant,
        user=member.user,
        permissions=member.permissions,
        servers=frozenset({str(found.server)}),
        expires=found.expires,
    )


def admit_principal(call: Call, endpoint: Endpoint | None, principal: Principal | None) -> Principal:
    """The principal as this endpoint sees it (DESIGN 4, "Who learns what").

    Raises `Unauthenticated` without a credential at a private or missing endpoint, and `NotFound` with one that
    has no right there: foreign and missing alike.
    """
    is_open = endpoint is not None and endpoint.facts.is_public and not call.is_draft
    if endpoint is not None and principal is not None and principal.tenant == endpoint.facts.tenant:
        permission = "servers:test" if call.is_draft else "servers:call"
        if principal.may(permission, endpoint.facts.id):
            return principal
    if is_open:
        return anonymous(call.address)
    if principal is None:
        raise Unauthenticated("This endpoint needs a key: `Authorization: Bearer moor_…`.")
    call.principal = principal
    raise NotFound("There is no server here that this key may call.")
