"""An import knows where it goes before it is applied, and when it was."""

import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F

import mooring.ordered_json


def mark_applied(apps, schema_editor):
    """Until now only an applied import had a server."""
    imports = apps.get_model("servers", "Import").objects.using(schema_editor.connection.alias)
    imports.filter(server__isnull=False).update(applied_at=F("created_at"))


class Migration(migrations.Migration):
    dependencies = [("servers", "0002_upstreams_and_overrides")]

    operations = [
        migrations.AddField("import", "applied_at", models.DateTimeField(null=True)),
        migrations.AddField(
            "import",
            "error",
            models.CharField(
                blank=True, default="", help_text="why it was refused, when no job says so", max_length=500
            ),
            preserve_default=False,
        ),
        migrations.AlterField(
            "import",
            "result",
            mooring.ordered_json.OrderedJSONField(
                default=dict, help_text='{"kind", "manifest", "operations", "left_out"}'
            ),
        ),
        migrations.AlterField(
            "import",
            "server",
            models.ForeignKey(
                blank=True,
                help_text="where it goes or went",
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="servers.server",
            ),
        ),
        migrations.RunPython(mark_applied, migrations.RunPython.noop),
    ]
