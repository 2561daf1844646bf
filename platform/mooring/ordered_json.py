"""A JSON column that keeps the order of an object's members.

PostgreSQL's `jsonb` sorts them, but the order in which a schema lists its properties is the order in which
people and models read them.
"""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper


class OrderedJSONField(models.JSONField):
    """For values that are read whole: a `json` column has no operators to look into it."""

    def db_type(self, connection: BaseDatabaseWrapper) -> str | None:
        return "json" if connection.vendor == "postgresql" else super().db_type(connection)

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        if connection.vendor == "postgresql":
            from psycopg.types.json import Json  # SQLite needs no driver of PostgreSQL

            return None if value is None else Json(value)
        return super().get_db_prep_value(value, connection, prepared)

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        # psycopg has read a `json` value already; SQLite hands out its text.
        if connection.vendor == "postgresql" or value is None:
            return value
        return super().from_db_value(value, expression, connection)
