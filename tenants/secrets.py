"""Sealing of secrets at rest: AES-256-GCM under a data key per tenant, wrapped by the installation's key.

The associated data binds a ciphertext to its row, so that one copied to another tenant's row does not open.
"""

from __future__ import annotations

import os
import uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from mooring.errors import ServerError
from tenants.models import DataKey


def seal(value: str, *, tenant: uuid.UUID, row: str) -> bytes:
    """Ciphertext of a secret for the row named `row` (for example `secret:<server id>:<name>`)."""
    nonce = os.urandom(12)
    return nonce + AESGCM(_data_key(tenant)).encrypt(nonce, value.encode(), _bound(tenant, row))


def unseal(sealed: bytes, *, tenant: uuid.UUID, row: str) -> str:
    """Raises `ServerError` when the ciphertext was made for another row or under a key that is gone."""
    sealed = bytes(sealed)
    try:
        return AESGCM(_data_key(tenant)).decrypt(sealed[:12], sealed[12:], _bound(tenant, row)).decode()
    except InvalidTag:
        raise ServerError(
            "A stored secret cannot be opened. Set it again.", code="secret_unreadable"
        ) from None


def _bound(tenant: uuid.UUID, row: str) -> bytes:
    return f"v1|{tenant}|{row}".encode()


def _data_key(tenant: uuid.UUID) -> bytes:
    kept = DataKey.objects.filter(tenant_id=tenant).first()
    if kept is None:
        DataKey.objects.bulk_create([_wrapped_key(tenant)], ignore_conflicts=True)
        kept = DataKey.objects.get(tenant_id=tenant)
    kek = settings.ENCRYPTION_KEYS.get(kept.kek_id)
    if kek is None:
        raise ServerError(
            f"The encryption key {kept.kek_id!r} is not configured.", code="encryption_key_missing"
        )
    wrapped = bytes(kept.wrapped)
    return AESGCM(kek).decrypt(wrapped[:12], wrapped[12:], _bound(tenant, "data-key"))


def _wrapped_key(tenant: uuid.UUID) -> DataKey:
    kek_id, kek = next(iter(settings.ENCRYPTION_KEYS.items()))
    nonce = os.urandom(12)
    wrapped = nonce + AESGCM(kek).encrypt(nonce, AESGCM.generate_key(256), _bound(tenant, "data-key"))
    return DataKey(tenant_id=tenant, wrapped=wrapped, kek_id=kek_id)
