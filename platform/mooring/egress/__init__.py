"""The only way out: HTTP sessions that check every address on connecting."""
