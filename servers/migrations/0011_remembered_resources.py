"""Resources and resource templates may remember what was read, as tools remember their answers."""

from django.db import migrations

import mooring.ordered_json


def cache():
    return mooring.ordered_json.OrderedJSONField(
        blank=True, default=dict, help_text="{seconds, stale_seconds, shared}, or empty"
    )


class Migration(migrations.Migration):
    dependencies = [("servers", "0010_health_of_code")]

    operations = [
        migrations.AddField("resource", "cache", cache()),
        migrations.AddField("resourcetemplate", "cache", cache()),
    ]
