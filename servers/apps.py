from django.apps import AppConfig
from django.db.models.signals import post_migrate


class ServersConfig(AppConfig):
    name = "servers"

    def ready(self) -> None:
        post_migrate.connect(_raise_walls, sender=self)


def _raise_walls(using: str, **_: object) -> None:
    """`servers` is the last app with owned models, so by now every owned table exists."""
    from django.db import connections  # apps are not ready when this module is imported

    from mooring.walls import raise_walls

    raise_walls(connections[using])
