from django.apps import AppConfig


class HealthConfig(AppConfig):
    name = "mooring.health"
