from django.apps import AppConfig
from django.conf import settings
from django.core.checks import Tags, register

from mooring.reporting import start_reporting


class HealthConfig(AppConfig):
    name = "mooring.health"

    def ready(self) -> None:
        from mooring.health import deployment  # settings are complete only now

        register(deployment.egress, Tags.security)
        register(deployment.hosts, Tags.security, deploy=True)
        register(deployment.database_roles, Tags.security, deploy=True)
        if settings.SENTRY_DSN:
            start_reporting(settings.SENTRY_DSN)
