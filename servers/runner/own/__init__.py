"""Runs one's own program on one's own machine, as oneself: no sandbox, but the same life and the same endpoints."""
