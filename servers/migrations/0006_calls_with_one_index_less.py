"""Calls have an index that begins with the tenant already; a second one made recording each call dearer.

Done by hand, since on SQLite altering the field would copy the whole table.
"""

import django.db.models.deletion
from django.db import migrations, models

_INDEX = "servers_callrecord_tenant_id_cdcefa48"


class Migration(migrations.Migration):
    dependencies = [("servers", "0005_upstream_states")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    f"DROP INDEX IF EXISTS {_INDEX}",
                    f"CREATE INDEX {_INDEX} ON servers_callrecord (tenant_id)",
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "callrecord",
                    "tenant",
                    models.ForeignKey(
                        db_index=False,
                        editable=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="tenants.tenant",
                    ),
                )
            ],
        )
    ]
