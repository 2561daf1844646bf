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
    upstreams = OrderedJSONField(
        default=dict, blank=True, help_text="name → {url, headers, …} or {code, hosts, …}"
    )
    members = OrderedJSONField(
        default=list, blank=True, help_text="[{server, channel, prefix}]: servers this one is made of"
    )
    health_letters = OrderedJSONField(
        default=list,
        blank=True,
        editable=False,
        help_text="when owners were written to about its health lately",
    )
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
    """`binding` is one runtime's definition: `http`, `remote` or `static` → {...} (see docs/manifest.md)."""

    input_schema = OrderedJSONField(default=dict)
    output_schema = OrderedJSONField(null=True, blank=True)
    annotations = OrderedJSONField(default=dict, blank=True)
    binding = OrderedJSONField(default=dict)
    cache = OrderedJSONField(default=dict, blank=True, help_text="{seconds, stale_seconds, shared}, or empty")

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
    remote = OrderedJSONField(default=dict, blank=True, help_text="where it is read from, if elsewhere")
    annotations = OrderedJSONField(default=dict, blank=True)
    cache = OrderedJSONField(default=dict, blank=True, help_text="{seconds, stale_seconds, shared}, or empty")

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
    remote = OrderedJSONField(default=dict, blank=True, help_text="where it is read from, if elsewhere")
    annotations = OrderedJSONField(default=dict, blank=True)
    cache = OrderedJSONField(default=dict, blank=True, help_text="{seconds, stale_seconds, shared}, or empty")

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
    messages = OrderedJSONField(
        default=list, blank=True, help_text="[{role, text}] with {argument} in the text"
    )
    remote = OrderedJSONField(default=dict, blank=True, help_text="where it is asked for, if elsewhere")

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


class UpstreamDefinition(OwnedModel):
    """A part as the MCP server elsewhere defines it: what was pinned, and what it says today."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="definitions")
    source = models.CharField(max_length=64, help_text="digest of the upstream's declaration")
    section = models.CharField(max_length=20, help_text="of the manifest: tools, resources …")
    name = models.CharField(max_length=1_000, help_text="its name or URI there")
    digest = models.CharField(max_length=64)
    definition = OrderedJSONField()
    is_current = models.BooleanField(default=True, help_text="listed like this when it was last looked at")
    first_seen_at = models.DateTimeField(auto_now_add=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "server", "source", "section", "digest"], name="definition_once_a_source"
            )
        ]

    def __str__(self) -> str:
        return self.name


class UpstreamState(OwnedModel):
    """What is known of an upstream that the draft or a channel declares: when it was looked at, what it said.

    `about` is `{"name", "version", "revision", "instructions", "problems"}`; `error` is why the last look failed.
    """

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="upstream_states")
    source = models.CharField(max_length=64, help_text="digest of the declaration")
    upstream = models.CharField(max_length=32, help_text="its name in the manifest")
    declared = OrderedJSONField(help_text="its entry in the manifest")
    job = models.ForeignKey("jobs.Job", null=True, on_delete=models.SET_NULL, related_name="+")
    due_at = models.DateTimeField(help_text="when it is to be looked at again")
    looked_at = models.DateTimeField(null=True)
    about = OrderedJSONField(default=dict, blank=True)
    error = models.CharField(max_length=2_000, blank=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "server", "source"], name="one_state_a_source")
        ]
        indexes: ClassVar = [models.Index(fields=["due_at"], name="upstreams_by_due")]

    def __str__(self) -> str:
        return self.upstream


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


class Override(OwnedModel):
    """An operational switch over one tool, or over all of them: it holds at once and needs no new version.

    `settings` by kind: disable `{}`; mock `{"content": [...], "structured": any}`; fault `{"share": 0..1,
    "delay_ms", "error"}`.
    """

    KINDS = (("disable", "Disabled"), ("mock", "Mocked"), ("fault", "Fault injected"))

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="overrides")
    tool = models.CharField(max_length=128, blank=True, help_text="empty: every tool of the server")
    kind = models.CharField(max_length=10, choices=KINDS)
    settings = OrderedJSONField(default=dict, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    author = models.CharField(max_length=254)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "server", "tool", "kind"], name="override_once_a_tool_and_kind"
            )
        ]
        ordering: ClassVar = ["tool", "kind"]

    def __str__(self) -> str:
        return f"{self.kind} {self.tool or 'all tools'}"


class CallRecord(OwnedModel):
    """One JSON-RPC request that reached a server.

    The id comes from the journal, so shipping twice is harmless. It sorts by time, so the oldest are found by it.
    """

    # Without an index of its own, which every call would pay for: `calls_of_tenant` begins with it.
    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.PROTECT, editable=False, related_name="+", db_index=False
    )
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
            # Ascending, though they are read backwards: what is added to the end of an index costs half as much.
            models.Index(fields=["tenant", "time", "id"], name="calls_of_tenant"),
            models.Index(fields=["tenant", "server_id", "time", "id"], name="calls_of_server"),
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
    """A document on its way into a draft: read, mostly by a worker, then chosen from and applied by a person."""

    name = models.CharField(max_length=200, help_text="file name or URL it came from")
    source = models.CharField(max_length=2_000, blank=True, help_text="URL, when it is to be fetched")
    document = models.TextField(blank=True)
    size = models.PositiveIntegerField(
        default=0, db_default=0, help_text="bytes of the document, then of the result"
    )
    job = models.ForeignKey("jobs.Job", null=True, on_delete=models.SET_NULL, related_name="+")
    result = OrderedJSONField(default=dict, help_text='{"kind", "manifest", "operations", "left_out"}')
    error = models.CharField(max_length=500, blank=True, help_text="why it was refused, when no job says so")
    server = models.ForeignKey(
        Server,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="where it goes or went",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True)
    applied_at = models.DateTimeField(null=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        indexes: ClassVar = [models.Index(fields=["tenant", "-created_at"], name="imports_of_tenant")]

    def __str__(self) -> str:
        return self.name

    @property
    def state(self) -> str:
        """waiting, running, done (read, and to be applied), applied or failed."""
        if self.applied_at is not None:
            return "applied"
        if self.read_at is not None and not self.error:
            return "done"
        return "failed" if self.error or self.job is None else str(self.job.state)

    @property
    def is_manifest(self) -> bool:
        return bool(self.result.get("kind") == "manifest")

    @property
    def problem(self) -> str:
        """Why it failed, or may fail if the worker's next attempt does too."""
        return self.error or (self.job.error if self.job is not None else "")


class Upload(OwnedModel):
    """Python code as somebody handed it in: one file, or an archive. Kept, so that it can be built once more."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="uploads")
    name = models.CharField(max_length=200, help_text="what the file was called")
    digest = models.CharField(max_length=64, help_text="SHA-256 of the bytes")
    size = models.PositiveIntegerField(help_text="bytes")
    data = models.BinaryField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["tenant", "server", "digest", "name"], name="upload_once_a_server"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Build(OwnedModel):
    """An upload on its way to an artifact, done by a worker, then accepted into the draft by a person.

    `settings` is what the upstream is to be run with: `hosts`, `environment`, `memory_mb`, as in the manifest. `when`
    decides which versions of packages are taken; building again at the same `when` gives the same artifact.
    `offer` is `{"mode", "era", "target", "name", "title", "version", "instructions", "problems", "tools",
    "resources", "resource_templates", "prompts"}`, the lists as the server has sent them.
    """

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="builds")
    upload = models.ForeignKey(Upload, on_delete=models.RESTRICT, related_name="builds")
    upstream = models.CharField(max_length=32, help_text="its name in the manifest")
    settings = OrderedJSONField(default=dict, blank=True)
    when = models.DateTimeField()
    job = models.ForeignKey("jobs.Job", null=True, on_delete=models.SET_NULL, related_name="+")
    attempt = models.PositiveIntegerField(
        default=0, help_text="counts beginnings; who has begun an earlier one has nothing more to say"
    )
    stage = models.CharField(max_length=20, blank=True)
    log = models.TextField(blank=True)
    log_dropped = models.PositiveIntegerField(
        default=0, help_text="characters at its beginning that are not kept"
    )
    artifact = models.CharField(max_length=64, blank=True, help_text="digest; empty until it is built")
    artifact_size = models.PositiveBigIntegerField(default=0, help_text="bytes")
    python = models.CharField(max_length=20, blank=True)
    packages = OrderedJSONField(default=list, blank=True, help_text='["name==version", …]')
    offer = OrderedJSONField(default=dict, blank=True)
    error = models.TextField(blank=True, max_length=4_000, help_text="why it failed, for good")
    failure = OrderedJSONField(
        default=dict, blank=True, help_text='{"code", "stage", "file", "line", "block"}'
    )
    author = models.CharField(max_length=254)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(null=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        indexes: ClassVar = [
            models.Index(fields=["tenant", "server", "-created_at"], name="builds_of_server"),
            models.Index(fields=["tenant", "artifact"], name="builds_by_artifact"),
            models.Index(fields=["created_at"], name="builds_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.upstream} {self.id}"

    @property
    def state(self) -> str:
        """waiting, running, done (to be accepted), accepted or failed."""
        if self.artifact:
            return "accepted" if self.accepted_at is not None else "done"
        if self.finished_at is not None or self.job is None:
            return "failed"
        return str(self.job.state)

    @property
    def is_under_way(self) -> bool:
        return self.state in {"waiting", "running"}

    @property
    def problem(self) -> str:
        """Why it failed, or may fail if the worker's next attempt does too."""
        return self.error or (self.job.error if self.job is not None else "")


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


class UpstreamWatch(OwnedModel):
    """An address elsewhere that published versions depend on, and how it was when it was last probed.

    `declared` is an upstream's entry in the manifest, `{"origin"}` of http tools, or `{"code"}`, whose digest changes
    from version to version while the row stays. `values` are the variables it names. `run` counts the probes in a row
    that agree on whether it is alive.
    """

    KINDS = (("remote", "MCP server"), ("http", "HTTP API"), ("code", "Uploaded code"))
    STATES = tuple((state, state) for state in ("unknown", "healthy", "degraded", "unhealthy"))

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="watches")
    kind = models.CharField(max_length=10, choices=KINDS)
    name = models.CharField(max_length=300, help_text="the upstream's name in the manifest, or the origin")
    source = models.CharField(max_length=64, help_text="digest of all that tells it from others")
    declared = OrderedJSONField()
    values = OrderedJSONField(default=dict, blank=True)
    channels = OrderedJSONField(default=list, help_text="names of those whose versions depend on it")
    created_at = models.DateTimeField(auto_now_add=True)
    due_at = models.DateTimeField(help_text="when it is to be probed again")
    probed_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=10, choices=STATES, default="unknown")
    detail = models.CharField(max_length=500, blank=True, help_text="why it is not healthy")
    log = models.TextField(blank=True, help_text="last lines of code that does not run, without secrets")
    milliseconds = models.FloatField(null=True)
    since = models.DateTimeField(null=True, help_text="when it came into this state")
    run = models.PositiveIntegerField(default=0)
    told_at = models.DateTimeField(null=True, help_text="when its owners were told that it is unhealthy")

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "server", "source"], name="one_watch_a_source")
        ]
        indexes: ClassVar = [models.Index(fields=["due_at"], name="watches_by_due")]
        ordering: ClassVar = ["kind", "name", "id"]

    def __str__(self) -> str:
        return self.name


class UpstreamProbe(OwnedModel):
    """One look at whether an upstream is there. Kept for two days; `UpstreamHour` has what is known of older ones."""

    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.PROTECT, editable=False, related_name="+", db_index=False
    )
    watch = models.ForeignKey(UpstreamWatch, on_delete=models.CASCADE, related_name="probes", db_index=False)
    time = models.DateTimeField()
    state = models.CharField(max_length=10, choices=UpstreamWatch.STATES)
    milliseconds = models.FloatField()
    code = models.CharField(max_length=40, blank=True, help_text="what failed, as in a call's record")
    detail = models.CharField(max_length=500, blank=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        indexes: ClassVar = [
            models.Index(fields=["watch", "-time"], name="probes_of_watch"),
            models.Index(fields=["time"], name="probes_by_time"),
        ]
        ordering: ClassVar = ["-time", "-id"]

    def __str__(self) -> str:
        return f"{self.watch_id} {self.state}"


class UpstreamHour(OwnedModel):
    """The probes of one hour. `mean` and `slowest` are milliseconds, of those that found it alive."""

    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.PROTECT, editable=False, related_name="+", db_index=False
    )
    watch = models.ForeignKey(UpstreamWatch, on_delete=models.CASCADE, related_name="hours", db_index=False)
    hour = models.DateTimeField()
    probes = models.PositiveIntegerField()
    alive = models.PositiveIntegerField(help_text="healthy or degraded")
    degraded = models.PositiveIntegerField()
    mean = models.FloatField(null=True)
    slowest = models.FloatField(null=True)

    class Meta(OwnedModel.Meta):
        abstract = False
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["tenant", "watch", "hour"], name="one_row_a_watch_and_hour")
        ]
        indexes: ClassVar = [
            models.Index(fields=["watch", "hour"], name="hours_of_watch"),
            models.Index(fields=["hour"], name="hours_by_time"),
        ]
        ordering: ClassVar = ["hour"]

    def __str__(self) -> str:
        return f"{self.watch_id} {self.hour:%Y-%m-%d %H}"
