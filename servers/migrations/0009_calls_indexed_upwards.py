"""Rows of the call log are added in the order of time, and an index that grows at its end is cheaper to keep.

What is too old is found by its identifier, which sorts by time, and needs no index of its own.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("servers", "0008_health")]

    operations = [
        migrations.RemoveIndex("callrecord", "calls_of_tenant"),
        migrations.RemoveIndex("callrecord", "calls_of_server"),
        migrations.RemoveIndex("callrecord", "calls_by_time"),
        migrations.AddIndex(
            "callrecord", models.Index(fields=["tenant", "time", "id"], name="calls_of_tenant")
        ),
        migrations.AddIndex(
            "callrecord", models.Index(fields=["tenant", "server_id", "time", "id"], name="calls_of_server")
        ),
    ]
