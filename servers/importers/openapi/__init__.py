"""OpenAPI 3.0 and 3.1 → a manifest. Pure: opens no file and no socket, whatever a document refers to.

reading → references → keywords, conversion, closures, schemas      a document's schemas, made self-contained
findings, naming, addresses, security                               what operations share
arguments, parameters, bodies, responses, operations → importing    one tool an operation
"""

from servers.importers.openapi.findings import LeftOut
from servers.importers.openapi.imported import Imported, Operation
from servers.importers.openapi.importing import Progress, import_openapi

__all__ = ["Imported", "LeftOut", "Operation", "Progress", "import_openapi"]
