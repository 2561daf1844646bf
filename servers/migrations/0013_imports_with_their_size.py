from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("servers", "0012_builds_forgotten"),
    ]

    operations = [
        migrations.AddField(
            model_name="import",
            name="size",
            field=models.PositiveIntegerField(
                db_default=0, default=0, help_text="bytes of the document, then of the result"
            ),
        ),
    ]
