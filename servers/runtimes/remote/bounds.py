"""How much of an upstream's time, memory and patience with it is spent. Each number says what it guards."""

from __future__ import annotations

# Upstream sessions of one client, one a principal. More than the calls that run at once at one upstream, so that
# there is always an idle one to give up.
SESSIONS = 256
# A session nobody used for so long is ended. Shorter than what upstreams' own pools wait, so that it is still known.
IDLE_SECONDS = 240.0
# Finding the era, or opening a session: shared by callers, so it does not end with the deadline of one of them.
OPENING_SECONDS = 20.0
# Courtesies that nobody waits for: ending a session, telling of a cancellation, refusing a request of the upstream.
ERRAND_SECONDS = 3.0
ERRANDS = 32
# A stream whose answer has come is left this long to end by itself, so that its connection can be used again.
LINGER_SECONDS = 0.25
LINGERING = 16

# Enough of a refusal's body for a JSON-RPC error with its data.
ERROR_BYTES = 64 * 1024
# What surrounds an answer on an event stream: the member names, the id, the field's name.
FRAME_BYTES = 1024
# A stream may carry this many times an answer's limit, and this much more, before the answer: progress, logs.
STREAM_FACTOR = 4
STREAM_BYTES = 1024 * 1024
# Events on the stream of an HTTP+SSE session, which is shared by calls of different limits.
SESSION_EVENT_BYTES = 16 * 1024 * 1024
MESSAGES = 10_000
# Messages that are no JSON-RPC, or answer something that was not asked.
STRAYS = 100
# A batch in one event (2025-03-26).
BATCH = 100
# Requests of the upstream that are refused politely while one answer is awaited; the rest are passed over.
REFUSALS = 20
# How often a stream that broke off is taken up again (2025-11-25), and how long the upstream may ask us to wait.
RESUMPTIONS = 8
RESUME_SECONDS = 5.0

SESSION_ID = 2_048
ADDRESS = 4_096
MIRRORED = 8_000
# Deeper structures could be read here and yet break what encodes the whole answer, further down the stack.
DEEPEST = 200
SENTENCE = 2_000

PAGES = 100
DEFINITIONS = 5_000
LIST_BYTES = 16 * 1024 * 1024
COMPLETIONS = 100
