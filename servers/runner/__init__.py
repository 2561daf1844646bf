"""Runs tenants' code: one supervised, sandboxed process a server version, spoken to over a private endpoint.

Knows nothing of Django and is never part of a web process; `mooring runner` starts it (`servers.runner.supervisor`).
"""
