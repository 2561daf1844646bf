"""Why an upload does not become an artifact."""

from __future__ import annotations

from servers.runner.errors import Refused


class Unbuildable(Refused):
    """The upload is at fault, in a sentence that says how to mend it.

    `data` may hold `stage`, `file`, `line` (from 1), `block` (text to paste into the file) and `log` (last lines).
    """

    code = "unbuildable"
    status = 422


class BuildFailed(Refused):
    """Not the upload's fault: the package index or this machine. Trying again later may help."""

    code = "build_failed"
    status = 502


class Tampered(Refused):
    """An artifact or an environment is not what was built; it must not run."""

    code = "tampered"
    status = 500
