"""Reading a manifest that a person uploads or pastes."""

from __future__ import annotations

import json

from mooring.errors import InvalidInput, TooLarge
from servers.importers import documents

# YAML is read in the web process only when it is small: a large one would hold up every other request.
MAX_YAML = 256 * 1024


def read_manifest(text: str) -> object:
    """Raises `InvalidInput` for what is neither JSON nor YAML, `TooLarge` for YAML beyond 256 kB."""
    if text.lstrip().startswith("{"):
        try:
            found: object = json.loads(text)
            return found
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"The manifest starts like JSON but is none: {error}.") from None
    if len(text) > MAX_YAML:
        raise TooLarge("A manifest as YAML may be 256 kB here. Export it as JSON, or use the command line.")
    return documents.parse(text)
