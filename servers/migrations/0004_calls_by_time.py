"""What is too old to keep is found without reading every call."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("servers", "0003_import_states")]

    operations = [migrations.AddIndex("callrecord", models.Index(fields=["time"], name="calls_by_time"))]
