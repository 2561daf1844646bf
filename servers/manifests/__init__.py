"""The whole definition of a server as one document (docs/manifest.md): its shape, its checks, its canonical form.

Pure: nothing here reads or writes a database or the network.
"""

from servers.manifests.canonical import (
    canonical,
    canonical_json,
    digest,
    dump,
    is_small,
    is_storable,
    plain,
    source_of,
    storable,
)
from servers.manifests.checking import MAX_BYTES, check, check_part, check_upstream, secrets_named
from servers.manifests.comparing import differences, precedence, propose_number
from servers.manifests.credentials import Credential, credential_of
from servers.manifests.merging import with_tools_of
from servers.manifests.shape import FORMAT, MOST_UPSTREAMS, SCHEMA, SECRET_NAME, SECTIONS, is_upstream_name

__all__ = [
    "FORMAT",
    "MAX_BYTES",
    "MOST_UPSTREAMS",
    "SCHEMA",
    "SECRET_NAME",
    "SECTIONS",
    "Credential",
    "canonical",
    "canonical_json",
    "check",
    "check_part",
    "check_upstream",
    "credential_of",
    "differences",
    "digest",
    "dump",
    "is_small",
    "is_storable",
    "is_upstream_name",
    "plain",
    "precedence",
    "propose_number",
    "secrets_named",
    "source_of",
    "storable",
    "with_tools_of",
]
