from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_migrate


class ServersConfig(AppConfig):
    name = "servers"

    def ready(self) -> None:
        from tenants.changes import on_announce  # models cannot be imported before this moment

        post_migrate.connect(_raise_walls, sender=self)
        if settings.REDIS_URL:
            on_announce(_tell_other_processes)
        else:
            on_announce(_tell_the_gateway)


def _tell_other_processes() -> None:
    from servers.gateway.wakeups import (
        announce_to_others,
    )  # the bus is loaded by the first change, not at start

    announce_to_others()


def _tell_the_gateway() -> None:
    from servers.gateway.knocking import knock  # as above

    knock(settings.DATA_DIR)


def _raise_walls(using: str, **_: object) -> None:
    """`servers` is the last app with owned models, so by now every owned table exists."""
    from django.db import connections  # apps are not ready when this module is imported

    from mooring.walls import raise_walls

    raise_walls(connections[using])
