"""Variables and secrets of a server, filled into the texts of a definition while a tool is made ready."""

from __future__ import annotations

import re
from collections.abc import Callable

_PLACEHOLDER = re.compile(r"\{(secret:)?([A-Za-z_][A-Za-z0-9_.-]*)\}")

Lookup = Callable[[str], str | None]


class NotReady(Exception):
    """The tool cannot be called as the server is set up; a call is answered with this sentence and code."""

    def __init__(self, failure: str, sentence: str) -> None:
        super().__init__(sentence)
        self.failure = failure
        self.sentence = sentence


class Values:
    """Looks up what texts ask for. Remembers what was missing: a definition is checked to its end first."""

    def __init__(self, variable: Lookup, secret: Lookup) -> None:
        self._variable = variable
        self._secret = secret
        self.missing_variables: list[str] = []
        self.missing_secrets: list[str] = []
        self.used_secrets: dict[str, str] = {}

    def fill(self, text: str) -> str:
        """Replace `{variable}` and `{secret:NAME}`; other braces stay as they are."""
        return _PLACEHOLDER.sub(
            lambda match: self.secret(match[2]) if match[1] else self.variable(match[2]), text
        )

    def variable(self, name: str) -> str:
        value = self._variable(name)
        if value is None:
            self.missing_variables.append(name)
        return value or ""

    def secret(self, name: str) -> str:
        value = self._secret(name)
        if not value:
            self.missing_secrets.append(name)
            return ""
        self.used_secrets[name] = value
        return value

    def check(self) -> None:
        """Raise NotReady naming the first thing that was asked for and has no value."""
        if self.missing_secrets:
            raise NotReady(
                "secret_missing",
                f"This tool needs the secret {self.missing_secrets[0]}, which has no value yet. "
                "Set it in the server's settings.",
            )
        if self.missing_variables:
            raise NotReady(
                "variable_missing",
                f"This tool needs the variable {self.missing_variables[0]}, which has no value here. "
                "Set it in the server's settings.",
            )
