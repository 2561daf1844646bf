from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("servers", "0011_remembered_resources")]

    operations = [migrations.RemoveField(model_name="build", name="is_published")]
