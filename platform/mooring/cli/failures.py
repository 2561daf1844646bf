"""What a command says when it does not work: one line, and 1 for a refusal or 2 for a wrong command line."""

from __future__ import annotations

import json

import typer
from typer.exceptions import TyperException

from mooring.errors import ClientError, InvalidInput, MooringError, ServerError

REFUSED, USAGE = 1, 2


class UsageError(TyperException):
    """A command line that makes no sense."""

    exit_code = USAGE


class Refused(ClientError):
    """What the API of another installation refused; `status` is its HTTP status."""

    def __init__(self, message: str, *, status: int, code: str, data: dict[str, object]) -> None:
        super().__init__(message, code=code, **data)
        self.answered = status


class Unreachable(ServerError):
    code = "unreachable"


def explain(error: Exception, *, as_json: bool) -> tuple[str, int]:
    """The line, empty when help was printed instead, and the exit code. Raises again what is a bug."""
    if isinstance(error, typer.Abort):
        return "Stopped.", REFUSED
    if isinstance(error, TyperException):
        return _usage(error), error.exit_code
    known = error if isinstance(error, MooringError) else _of_the_machine(error)
    if known is None:
        raise error
    if as_json:
        return json.dumps({"error": known.as_dict()}, default=str), REFUSED
    return f"mooring: {one_line(known.message)}{_more(known)}", REFUSED


def _usage(error: TyperException) -> str:
    if type(error).__name__ == "NoArgsIsHelpError":
        return error.format_message()
    context = getattr(error, "ctx", None)
    hint = f" Try `{context.command_path} --help`." if context else ""
    return f"mooring: {one_line(error.format_message())}{hint}"


def _more(error: MooringError) -> str:
    fields = error.data.get("fields")
    more = len(fields) - 1 if isinstance(fields, dict) else 0
    return f" (and {more} more; `--json` lists all)" if more > 0 else ""


def _of_the_machine(error: Exception) -> MooringError | None:
    """Failures of the installation that a person can mend. Django is loaded only if it raised."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return InvalidInput(f"{where}{error.strerror or error}.", code="file")
    name, text = type(error).__name__, str(error)
    if name == "ImproperlyConfigured":
        return ServerError(text, code="misconfigured")
    if name in {"OperationalError", "ProgrammingError"}:
        if "no such table" in text or "does not exist" in text or "no such column" in text:
            return ServerError(
                "The database is not set up yet. Run `mooring migrate` first.", code="not_migrated"
            )
        return ServerError(f"The database does not answer: {text}", code="database")
    return None


def one_line(text: str) -> str:
    return " ".join(text.split())
