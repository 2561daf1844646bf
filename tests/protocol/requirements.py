"""What the specification asks of a server here, by id, so that every test says which sentence it proves.

An id is `<revision>/<area>/<name>`. The section is a page and heading of that revision's pages at
modelcontextprotocol.io/specification/<revision>/. `@requirement("…")` marks a test; test_requirements.py sees
to it that every id has a test and every mark names an id.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

MODERN = "2026-07-28"
HANDSHAKE = ("2025-03-26", "2025-06-18", "2025-11-25")
EVERY = (*HANDSHAKE, MODERN)
SINCE_JUNE = ("2025-06-18", "2025-11-25", MODERN)


@dataclass(frozen=True, slots=True)
class Requirement:
    """`says` is the requirement in our own words; `revisions` are all that have it."""

    id: str
    section: str
    says: str
    revisions: tuple[str, ...] = (MODERN,)


_ALL = [
    # ---- messages
    Requirement(
        "2026-07-28/messages/request-id",
        "basic/index#requests",
        "The id of a request is text or a whole number and never null.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/messages/result-id",
        "basic/index#result-responses",
        "A result carries the id of its request, text as text and numbers as numbers.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/messages/error-id",
        "basic/index#error-responses",
        "An error carries the id of its request, unless it could not be read; it is never null.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/messages/error-object",
        "basic/index#error-responses",
        "An error has a code, which is a whole number, and a message.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/messages/result-type",
        "basic/index#resulttype",
        "A result says by resultType of which kind it is.",
    ),
    Requirement(
        "2025-11-25/messages/no-result-type",
        "schema#result",
        "Results of the handshake revisions have the members their schema names; resultType came later.",
        HANDSHAKE,
    ),
    Requirement(
        "2026-07-28/messages/own-error-codes",
        "basic/index#error-codes",
        "Codes for what the specification does not define lie outside -32768 to -32000.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/messages/retired-error-codes",
        "basic/index#error-codes",
        "-32002 and -32042 are not used any more.",
    ),
    Requirement(
        "2026-07-28/messages/notification",
        "basic/index#notifications",
        "A notification is never answered; over HTTP it is accepted with 202 and no body.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/messages/one-message",
        "basic/transports/streamable-http#sending-messages",
        "A body is one message; an array is refused.",
        SINCE_JUNE,
    ),
    Requirement(
        "2025-03-26/messages/batch",
        "basic/index#batches",
        "A server takes arrays of requests and notifications.",
        ("2025-03-26",),
    ),
    Requirement(
        "2025-03-26/messages/batch-of-notifications",
        "basic/transports#sending-messages-to-the-server",
        "An array without a request is accepted with 202 and no body.",
        ("2025-03-26",),
    ),
    Requirement(
        "2025-03-26/messages/no-initialize-in-batch",
        "basic/lifecycle#initialization",
        "initialize is no part of a batch.",
        ("2025-03-26",),
    ),
    Requirement(
        "2026-07-28/messages/no-responses",
        "basic/transports/streamable-http#sending-messages",
        "Clients send no responses; one that does is refused.",
    ),
    Requirement(
        "2026-07-28/messages/unreadable",
        "basic/transports/streamable-http#sending-messages",
        "What cannot be accepted gets an HTTP error; what is no JSON has the code -32700.",
        EVERY,
    ),
    # ---- what every request of the newest revision carries
    Requirement(
        "2026-07-28/meta/required",
        "basic/index#meta",
        "A request without its revision or its capabilities in _meta is refused with -32602 and 400.",
    ),
    Requirement(
        "2026-07-28/meta/client-info",
        "basic/index#meta",
        "Who the client says it is changes nothing, nor does its silence.",
    ),
    Requirement(
        "2026-07-28/meta/server-info",
        "basic/index#meta",
        "A result names the server in its _meta.",
    ),
    Requirement(
        "2026-07-28/statelessness/no-earlier-request",
        "basic/index#statelessness",
        "A request is understood by itself, whatever was or was not sent before it.",
    ),
    Requirement(
        "2026-07-28/statelessness/no-session",
        "basic/transports/streamable-http#earlier-streamable-http-revisions",
        "A session header is ignored, and none is handed out.",
    ),
    # ---- versions
    Requirement(
        "2026-07-28/versioning/unsupported",
        "basic/versioning#protocol-version-negotiation",
        "A revision that is not spoken is refused with -32022 and 400, with what is spoken and what was asked for.",
    ),
    Requirement(
        "2026-07-28/versioning/discover",
        "basic/versioning#protocol-version-negotiation",
        "server/discover answers, with revisions and capabilities.",
    ),
    Requirement(
        "2026-07-28/versioning/two-eras",
        "basic/versioning#backward-compatibility-with-initialization-based-versions",
        "On one URL, initialize opens the older revisions and _meta the newest; removed methods do not exist there.",
        EVERY,
    ),
    # ---- lifecycle of the handshake revisions
    Requirement(
        "2025-11-25/lifecycle/initialize",
        "basic/lifecycle#initialization",
        "initialize is answered with the revision, the capabilities and the server's name and version.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/lifecycle/initialized",
        "basic/lifecycle#initialization",
        "The client's notifications/initialized is accepted.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/lifecycle/same-version",
        "basic/lifecycle#version-negotiation",
        "A requested revision that is spoken is the one that is answered.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/lifecycle/other-version",
        "basic/lifecycle#version-negotiation",
        "Any other is answered with the newest of those that have a handshake.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/lifecycle/malformed",
        "basic/lifecycle#error-handling",
        "An initialize without revision, capabilities or client is refused with -32602.",
        HANDSHAKE,
    ),
    # ---- sessions
    Requirement(
        "2025-11-25/sessions/id",
        "basic/transports#session-management",
        "The session's id comes with the answer to initialize, in visible ASCII, and cannot be guessed.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/sessions/required",
        "basic/transports#session-management",
        "A later request without it gets 400.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/sessions/unknown",
        "basic/transports#session-management",
        "An ended or unknown session gets 404, so that the client begins anew.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/sessions/end",
        "basic/transports#session-management",
        "DELETE with the id ends the session.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/sessions/no-credential",
        "basic/security_best_practices#session-hijacking",
        "A session is no credential: it belongs to who opened it and is unknown to others.",
        HANDSHAKE,
    ),
    # ---- transport
    Requirement(
        "2026-07-28/transport/one-endpoint",
        "basic/transports/streamable-http",
        "One URL takes every message, by POST.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/transport/origin",
        "basic/transports/streamable-http#security-endpoint",
        "A request with a foreign Origin gets 403.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/transport/answer-media",
        "basic/transports/streamable-http#sending-messages",
        "A request is answered as JSON or as an event stream, whichever the client accepts.",
        EVERY,
    ),
    Requirement(
        "2025-11-25/transport/get",
        "basic/transports#listening-for-messages-from-the-server",
        "GET opens an event stream or gets 405.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/transport/version-header",
        "basic/transports#protocol-version-header",
        "An unknown or unsupported MCP-Protocol-Version gets 400; without one the session's revision holds.",
        ("2025-06-18", "2025-11-25"),
    ),
    Requirement(
        "2026-07-28/transport/version-header",
        "basic/transports/streamable-http#protocol-version-header",
        "MCP-Protocol-Version is there and equals the revision in _meta.",
    ),
    Requirement(
        "2026-07-28/transport/unknown-method",
        "basic/transports/streamable-http#protocol-version-header",
        "A method that is not there gets 404 with -32601.",
    ),
    Requirement(
        "2025-11-25/transport/unknown-method",
        "basic/transports#sending-messages-to-the-server",
        "A method that is not there is answered with -32601, as any request is.",
        HANDSHAKE,
    ),
    Requirement(
        "2026-07-28/transport/method-header",
        "basic/transports/streamable-http#standard-request-headers",
        "Mcp-Method is there and equals the body's method.",
    ),
    Requirement(
        "2026-07-28/transport/name-header",
        "basic/transports/streamable-http#standard-request-headers",
        "Mcp-Name is there for tools/call, prompts/get and resources/read and equals what the body names.",
    ),
    Requirement(
        "2026-07-28/transport/header-mismatch",
        "basic/transports/streamable-http#server-validation",
        "A header that is missing, malformed or differs gets 400 with -32020.",
    ),
    Requirement(
        "2026-07-28/transport/case",
        "basic/transports/streamable-http#case-sensitivity",
        "Names of headers are compared without regard to case, their values with it.",
    ),
    Requirement(
        "2026-07-28/transport/encoded-values",
        "basic/transports/streamable-http#value-encoding",
        "Values between the markers are decoded from base64 before they are compared; bad ones are refused.",
    ),
    Requirement(
        "2026-07-28/transport/exact-markers",
        "basic/transports/streamable-http#value-encoding",
        "The markers count only exactly as written and together; anything else is the value itself.",
    ),
    Requirement(
        "2026-07-28/transport/parameter-headers",
        "basic/transports/streamable-http#server-behavior-for-custom-headers",
        "A mirrored argument and its Mcp-Param header are equal; one without the other is refused.",
    ),
    Requirement(
        "2026-07-28/transport/absent-parameters",
        "basic/transports/streamable-http#server-behavior-for-custom-headers",
        "For an argument that is null or not given no header is expected.",
    ),
    Requirement(
        "2026-07-28/transport/unknown-parameter-headers",
        "basic/transports/streamable-http#server-behavior-for-custom-headers",
        "A Mcp-Param header that no tool asked for is ignored.",
    ),
    Requirement(
        "2026-07-28/transport/whole-numbers",
        "basic/transports/streamable-http#server-validation",
        "Whole numbers are compared as numbers.",
    ),
    Requirement(
        "2026-07-28/transport/annotations",
        "basic/transports/streamable-http#schema-extension",
        "x-mcp-header is a unique token on a text, whole number or boolean that is reached by properties alone.",
    ),
    Requirement(
        "2026-07-28/transport/disconnect",
        "basic/transports/streamable-http#cancellation",
        "A client that hangs up has cancelled its request: the work stops and nothing more is sent.",
    ),
    # ---- schemas
    Requirement(
        "2026-07-28/schemas/kept",
        "basic/index#json-schema-usage",
        "Schemas are of 2020-12 unless they say otherwise, and reach the client as they were written.",
    ),
    Requirement(
        "2026-07-28/schemas/dialects",
        "basic/index#implementation-requirements",
        "A schema of a dialect that is not understood is refused with an error that says so.",
    ),
    Requirement(
        "2026-07-28/schemas/no-network",
        "basic/index#ref-resolution",
        "A $ref out of the schema is never fetched, and the schema is refused.",
    ),
    Requirement(
        "2026-07-28/schemas/bounded",
        "basic/index#composition-keyword-resource-use",
        "Checking against a schema is bounded in depth, size and time.",
    ),
    # ---- tools
    Requirement(
        "2026-07-28/tools/capability",
        "server/tools#capabilities",
        "A server with tools declares the capability and lists them.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/tools/empty-list",
        "server/tools#capabilities",
        "tools/list answers even when there is no tool.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/tools/order",
        "server/tools#capabilities",
        "The list has the same order each time.",
    ),
    Requirement(
        "2026-07-28/tools/unknown",
        "server/tools#error-handling",
        "A tool that is not there is an error with -32602.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/tools/bad-arguments",
        "server/tools#error-handling",
        "Arguments that do not fit are a result with isError, which says what to mend.",
        ("2025-11-25", MODERN),
    ),
    Requirement(
        "2026-07-28/tools/structured-text",
        "server/tools#structured-content",
        "Structured content comes as text too.",
        SINCE_JUNE,
    ),
    Requirement(
        "2026-07-28/tools/output-schema",
        "server/tools#output-schema",
        "With an output schema the structured content fits it.",
        SINCE_JUNE,
    ),
    Requirement(
        "2025-11-25/tools/object-output",
        "server/tools#output-schema",
        "Before the newest revision structured content and its schema are objects.",
        ("2025-06-18", "2025-11-25"),
    ),
    # ---- resources
    Requirement(
        "2026-07-28/resources/capability",
        "server/resources#capabilities",
        "A server with resources declares the capability and lists them, even when there is none.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/resources/read",
        "server/resources#reading-resources",
        "Text is read as text, bytes as base64, each with its URI.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/resources/templates",
        "server/resources#resource-templates",
        "Templates are listed, and what fits one can be read.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/resources/missing",
        "server/resources#error-handling",
        "A resource that is not there is an error with -32602, never empty contents.",
    ),
    Requirement(
        "2025-11-25/resources/missing",
        "server/resources#error-handling",
        "A resource that is not there is an error with -32002.",
        HANDSHAKE,
    ),
    # ---- prompts
    Requirement(
        "2026-07-28/prompts/capability",
        "server/prompts#capabilities",
        "A server with prompts declares the capability and lists them, even when there is none.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/prompts/get",
        "server/prompts#getting-a-prompt",
        "A prompt gives messages with the arguments filled in.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/prompts/errors",
        "server/prompts#error-handling",
        "An unknown prompt and a missing argument are errors with -32602.",
        EVERY,
    ),
    # ---- completion, pages, ping, logging
    Requirement(
        "2026-07-28/completion/capability",
        "server/utilities/completion#capabilities",
        "A server that completes declares the capability.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/completion/references",
        "server/utilities/completion#reference-types",
        "Arguments of prompts and variables of templates are completed.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/completion/at-most-100",
        "server/utilities/completion#completion-results",
        "At most 100 values are proposed, and whether there are more.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/completion/errors",
        "server/utilities/completion#error-handling",
        "An unknown reference is an error with -32602.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/pagination/cursor",
        "server/utilities/pagination#response-format",
        "A list that goes on has a cursor, and the last page has none.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/pagination/bad-cursor",
        "server/utilities/pagination#error-handling",
        "A cursor that is none of the list's is an error with -32602.",
        EVERY,
    ),
    Requirement(
        "2025-11-25/ping/empty",
        "basic/utilities/ping#behavior-requirements",
        "ping is answered at once with an empty result.",
        HANDSHAKE,
    ),
    Requirement(
        "2025-11-25/logging/set-level",
        "server/utilities/logging#setting-log-level",
        "A known level is taken with an empty result, any other is an error with -32602.",
        HANDSHAKE,
    ),
    Requirement(
        "2026-07-28/logging/level",
        "server/utilities/logging#error-handling",
        "An unknown level in _meta is an error with -32602.",
    ),
    # ---- caching
    Requirement(
        "2026-07-28/caching/hints",
        "server/utilities/caching#cacheable-results",
        "discover, the lists and resources/read say how long and for whom they keep; the other results do not.",
    ),
    Requirement(
        "2026-07-28/caching/ttl",
        "server/utilities/caching#time-to-live-ttl-field",
        "ttlMs is no less than 0.",
    ),
    Requirement(
        "2026-07-28/caching/one-scope",
        "server/utilities/caching#interaction-with-pagination",
        "All pages of a list have the same scope.",
    ),
    Requirement(
        "2026-07-28/caching/private",
        "server/utilities/caching#security-considerations",
        "What a credential was needed for is private.",
    ),
    # ---- authorization
    Requirement(
        "2026-07-28/authorization/metadata",
        "basic/authorization/index#overview",
        "Each endpoint has its protected resource metadata (RFC 9728), which names exactly that endpoint.",
        SINCE_JUNE,
    ),
    Requirement(
        "2026-07-28/authorization/challenge",
        "basic/authorization/authorization-server-discovery#protected-resource-metadata-discovery-requirements",
        "401 comes with WWW-Authenticate, which names the metadata.",
        SINCE_JUNE,
    ),
    Requirement(
        "2026-07-28/authorization/bad-token",
        "basic/authorization/index#token-handling",
        "A token that is malformed, unknown, expired or revoked gets 401.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/authorization/header-only",
        "basic/authorization/index#token-requirements",
        "A token is taken from the Authorization header of every request, never from the URL.",
        EVERY,
    ),
    Requirement(
        "2026-07-28/authorization/for-this-server",
        "basic/authorization/index#token-handling",
        "A token that was not issued for this server opens nothing.",
        EVERY,
    ),
]
REQUIREMENTS = {each.id: each for each in _ALL}


def requirement(*ids: str) -> pytest.MarkDecorator:
    """Marks a test with the requirements it proves. Raises `KeyError` for an id that is not in the table."""
    for each in ids:
        REQUIREMENTS[each]
    return pytest.mark.requirement(*ids)
