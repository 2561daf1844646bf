"""The append-only record of who changed what. Each tenant's events form a hash chain."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from mooring.scope import OwnedModel


class AuditHead(OwnedModel):
    """The newest link of a tenant's chain; its row lock puts the tenant's events in one order."""

    sequence = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [models.UniqueConstraint(fields=["tenant"], name="one_audit_head_a_tenant")]

    def __str__(self) -> str:
        return f"audit head {self.sequence}"


class AuditEvent(OwnedModel):
    sequence = models.PositiveBigIntegerField()
    time = models.DateTimeField()
    actor_kind = models.CharField(max_length=20)
    actor_id = models.CharField(max_length=64)
    actor_name = models.CharField(max_length=254)
    action = models.CharField(max_length=60)
    target_kind = models.CharField(max_length=40)
    target_id = models.CharField(max_length=64)
    target_name = models.CharField(max_length=300)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    ip = models.CharField(max_length=45, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "sequence"], name="audit_sequence_of_tenant")
        ]
        indexes: ClassVar = [models.Index(fields=["tenant", "action", "sequence"], name="audit_by_action")]
        ordering: ClassVar = ["-sequence"]

    def __str__(self) -> str:
        return f"{self.action} {self.target_name}"
