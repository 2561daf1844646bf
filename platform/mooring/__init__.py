"""Mooring: the application around the two domains `tenants` and `servers`."""

__version__ = "0.1.0"
