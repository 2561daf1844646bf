from django.db import migrations


def add(apps, schema_editor):
    alias = schema_editor.connection.alias
    apps.get_model("tenants", "ChangeHead").objects.using(alias).get_or_create(id=1)
    apps.get_model("tenants", "Plan").objects.using(alias).get_or_create(name="standard")


class Migration(migrations.Migration):
    dependencies = [("tenants", "0001_initial")]
    operations = [migrations.RunPython(add, migrations.RunPython.noop)]
