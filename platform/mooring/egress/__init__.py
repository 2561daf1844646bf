"""The only way out: HTTP sessions that check every address on connecting."""

from mooring.egress.fetch import fetch
from mooring.egress.guard import Guard, check_url
from mooring.egress.session import Unreachable, session

__all__ = ["Guard", "Unreachable", "check_url", "fetch", "session"]
