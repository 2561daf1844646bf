"""The whole definition of a server as one document (docs/manifest.md): its shape, its checks, its canonical form.

Pure: nothing here reads or writes a database or the network.
"""

from servers.manifests.canonical import canonical, digest, dump, is_storable
from servers.manifests.checking import check, check_part, secrets_named
from servers.manifests.comparing import differences, precedence, propose_number
from servers.manifests.shape import FORMAT, SCHEMA, SECRET_NAME

__all__ = [
    "FORMAT",
    "SCHEMA",
    "SECRET_NAME",
    "canonical",
    "check",
    "check_part",
    "differences",
    "digest",
    "dump",
    "is_storable",
    "precedence",
    "propose_number",
    "secrets_named",
]
