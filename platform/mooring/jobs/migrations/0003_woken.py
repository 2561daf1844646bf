from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0002_queues"),
    ]

    operations = [
        # Null for rows of older processes too, which is what the database puts where they say nothing.
        migrations.AddField(
            model_name="job",
            name="woken_at",
            field=models.DateTimeField(
                help_text="when the sweep last sent a message nobody has taken", null=True
            ),
        ),
    ]
