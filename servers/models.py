"""What is hosted: servers, the rows of their drafts, frozen versions, channels, and the record of calls."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from mooring.ordered_json import OrderedJSONField
from mooring.scope import OwnedModel


class Server(OwnedModel):
    """One hosted MCP server, `<tenant>/<slug>`. Deleting keeps the row, so the slug is never given out again."""

    slug = models.CharField(max_length=63)
    is_public = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    # ---- settings of the draft
    title = models.CharField(max_length=120)
    description = models.TextField(blank=True, max_length=2_000)
    instructions = models.TextField(blank=True, max_length=20_000)
    variables = OrderedJSONField(default=dict, blank=True, help_text="name → {default, description}")
    secrets_needed = OrderedJSONField(default=dict, blank=True, help_text="name → {description}")
    draft_number = models.PositiveIntegerField(
        default=1, help_text="counts changes; tells a stale form apart"
    )
    changed_at = models.DateTimeField(auto_now=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "slug"], name="server_slug_once_a_tenant")
        ]

    def __str__(self) -> str:
        return self.slug


class DraftRow(OwnedModel):
    """A part of a server's draft."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="%(class)ss")
    name = models.CharField(max_length=128)
    title = models.CharField(max_length=200, blank=True)
    description = models.TextField(blank=True, max_length=20_000)
    position = models.PositiveIntegerField(default=0)
    is_enabled = models.BooleanField(default=True)

    class Meta(OwnedModel.Meta):
        abstract = True
        ordering: ClassVar = ["position", "id"]

    def __str__(self) -> str:
        return self.name


class Tool(DraftRow):
    """`binding` is one runtime's definition: `{"http": {...}}` or `{"static": {...}}` (see docs/manifest.md)."""

    input_schema = OrderedJSONField(default=dict)
    output_schema = OrderedJSONField(null=True, blank=True)
    annotations = OrderedJSONField(default=dict, blank=True)
    binding = OrderedJSONField(default=dict)

    class Meta(DraftRow.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "server", "name"], name="tool_name_once_a_server")
        ]


class Resource(DraftRow):
    uri = models.CharField(max_length=1_000)
    mime_type = models.CharField(max_length=120, blank=True)
    text = models.TextField(blank=True)
    blob = models.TextField(blank=True, help_text="base64; used when there is no text")
    annotations = OrderedJSONField(default=dict, blank=True)

    class Meta(DraftRow.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "server", "uri"], name="resource_uri_once_a_server")
        ]


class ResourceTemplate(DraftRow):
    uri_template = models.CharField(max_length=1_000)
    mime_type = models.CharField(max_length=120, blank=True)
    text = models.TextField(blank=True, help_text="text with {variable} in the places of the URI's variables")
    completions = OrderedJSONField(default=dict, blank=True, help_text="variable → list of proposed values")
    annotations = OrderedJSONField(default=dict, blank=True)

    class Meta(DraftRow.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "server", "uri_template"], name="template_once_a_server"
            )
        ]


class Prompt(DraftRow):
    arguments = OrderedJSONField(
        default=list, blank=True, help_text="[{name, description, required, completions}]"
    )
    messages = OrderedJSONField(default=list, help_text="[{role, text}] with {argument} in the text")

    class Meta(DraftRow.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "server", "name"], name="prompt_name_once_a_server")
        ]


class Secret(OwnedModel):
    """A value a request template names; write-only for people."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=64)
    ciphertext = models.BinaryField()
    last_four = models.CharField(max_length=4, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "server", "name"], name="secret_name_once_a_server")
        ]

    def __str__(self) -> str:
        return self.name


class Version(OwnedModel):
    """A frozen manifest. Nothing in it ever changes but its retirement."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="versions")
    number = models.CharField(max_length=40)
    ordinal = models.PositiveIntegerField(help_text="1, 2, 3 … in the order of publishing")
    digest = models.CharField(max_length=64)
    manifest = OrderedJSONField()
    notes = models.TextField(blank=True, max_length=5_000)
    author = models.CharField(max_length=254)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    replaced_by = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "server", "number"], name="version_number_once_a_server"
            ),
            models.UniqueConstraint(
                fields=["tenant", "server", "ordinal"], name="version_ordinal_once_a_server"
            ),
        ]
        ordering: ClassVar = ["-ordinal"]

    def __str__(self) -> str:
        return self.number


class Channel(OwnedModel):
    """A name clients connect to; `live` unless they say otherwise."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="channels")
    name = models.CharField(max_length=63, default="live")
    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="+")
    variables = OrderedJSONField(
        default=dict, blank=True, help_text="name → value, over the manifest's defaults"
    )

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "server", "name"], name="channel_name_once_a_server")
        ]

    def __str__(self) -> str:
        return self.name


class CallRecord(OwnedModel):
    """One JSON-RPC request that reached a server. The id comes from the journal, so shipping twice is harmless."""

    server_id = models.UUIDField()
    server_slug = models.CharField(max_length=63)
    time = models.DateTimeField()
    request_id = models.CharField(max_length=36)
    principal_kind = models.CharField(max_length=12)
    principal_id = models.CharField(max_length=64, blank=True)
    principal_name = models.CharField(max_length=254, blank=True)
    method = models.CharField(max_length=64)
    subject = models.CharField(max_length=300, blank=True, help_text="tool, prompt or URI")
    version = models.CharField(max_length=40, blank=True)
    channel = models.CharField(max_length=63, blank=True)
    client = models.CharField(max_length=120, blank=True)
    revision = models.CharField(max_length=10, blank=True)
    status = models.CharField(max_length=12, help_text="ok, error (the tool said so) or refused")
    code = models.CharField(max_length=40, blank=True)
    duration_us = models.PositiveIntegerField()
    request_bytes = models.PositiveIntegerField()
    answer_bytes = models.PositiveIntegerField()

    class Meta(OwnedModel.Meta):
        abstract = False
        indexes: ClassVar = [
            models.Index(fields=["tenant", "-time", "-id"], name="calls_of_tenant"),
            models.Index(fields=["tenant", "server_id", "-time"], name="calls_of_server"),
        ]
        ordering: ClassVar = ["-time", "-id"]

    def __str__(self) -> str:
        return f"{self.method} {self.subject} {self.status}"


class IdempotencyKey(OwnedModel):
    """What a repeated REST request is answered with, for a day."""

    key = models.CharField(max_length=200)
    request_digest = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0, help_text="0 while the first request runs")
    body = OrderedJSONField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    actor = models.CharField(max_length=64)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "actor", "key"], name="idempotency_key_once")
        ]

    def __str__(self) -> str:
        return self.key


class Import(OwnedModel):
    """An OpenAPI document on its way to becoming tools: read by a worker, then chosen from by a person."""

    name = models.CharField(max_length=200, help_text="file name or URL it came from")
    source = models.CharField(max_length=2_000, blank=True, help_text="URL, when it is to be fetched")
    document = models.TextField(blank=True)
    job = models.ForeignKey("jobs.Job", null=True, on_delete=models.SET_NULL, related_name="+")
    result = OrderedJSONField(default=dict, help_text='{"manifest", "operations", "left_out"}')
    server = models.ForeignKey(Server, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        indexes: ClassVar = [models.Index(fields=["tenant", "-created_at"], name="imports_of_tenant")]

    def __str__(self) -> str:
        return self.name


class SessionState(OwnedModel):
    """What became of a handshake session, once there is anything to say; the session itself is its token."""

    nonce = models.CharField(max_length=32, unique=True)
    server_id = models.UUIDField()
    has_ended = models.BooleanField(default=False)
    log_level = models.CharField(max_length=12, blank=True)
    expires_at = models.DateTimeField()

    class Meta(OwnedModel.Meta):
        abstract = False
        indexes: ClassVar = [models.Index(fields=["expires_at"], name="session_states_by_expiry")]

    def __str__(self) -> str:
        return self.nonce
