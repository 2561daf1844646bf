from django.apps import AppConfig
from django.core.checks import Tags, register


class HealthConfig(AppConfig):
    name = "mooring.health"

    def ready(self) -> None:
        from mooring.health import deployment  # settings are complete only now

        register(deployment.hosts, Tags.security, deploy=True)
        register(deployment.database_roles, Tags.security, deploy=True)
