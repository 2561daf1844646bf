"""Security schemes → what a request carries, with secrets in the places of credentials."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from servers.importers.openapi.findings import LeaveOut
from servers.importers.openapi.naming import Names, numbered, snake
from servers.importers.openapi.reading import mapping, named, shorten, text
from servers.importers.openapi.references import References
from servers.importers.openapi.wire_names import MAX_LENGTH, OF_THE_CONNECTION, is_token

MAX_DESCRIPTION = 500
_AUTHORIZATION = ("header", "authorization")
# These answer a challenge of the server, which a fixed header cannot do.
_CHALLENGES = (
    "digest",
    "hoba",
    "mutual",
    "negotiate",
    "ntlm",
    "scram-sha-1",
    "scram-sha-256",
    "dpop",
    "vapid",
)


@dataclass(frozen=True)
class Authentication:
    """Parts of a request template. `covers` are the (place, casefolded name) pairs that arguments need not fill."""

    constants: list[dict[str, str]] = field(default_factory=list)
    basic_auth: dict[str, str] | None = None
    covers: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class _Scheme:
    """One way in. Exactly one of `constant` and `basic_auth` is set."""

    place: tuple[str, str]
    constant: dict[str, str] | None = None
    basic_auth: dict[str, str] | None = None


class Security:
    def __init__(self, document: dict[str, Any], references: References) -> None:
        self._default = document.get("security")
        self.secrets: dict[str, dict[str, str]] = {}
        self._names = Names()
        self._schemes: dict[str, _Scheme | LeaveOut] = {}
        for name, node in named(mapping(document.get("components")).get("securitySchemes")):
            self._schemes[name] = self._read(name, node, references)

    def authentication(self, operation: dict[str, Any]) -> Authentication:
        """By the first alternative that can be met. Raises `LeaveOut` when none can."""
        given = operation.get("security", self._default)
        alternatives = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
        obstacles = []
        for alternative in alternatives:
            try:
                return self._together(alternative)
            except LeaveOut as error:
                obstacles.append(str(error))
        if obstacles:
            raise LeaveOut(" ".join(dict.fromkeys(obstacles)))
        return Authentication()

    def _together(self, alternative: dict[str, Any]) -> Authentication:
        schemes = [self._usable(name) for name in alternative if isinstance(name, str)]
        places = [scheme.place for scheme in schemes]
        if len(set(places)) < len(places):
            raise LeaveOut(f"It asks for two credentials in the same {places[0][0]} at once.")
        return Authentication(
            constants=[scheme.constant for scheme in schemes if scheme.constant],
            basic_auth=next((scheme.basic_auth for scheme in schemes if scheme.basic_auth), None),
            covers=frozenset(places),
        )

    def _usable(self, name: str) -> _Scheme:
        scheme = self._schemes.get(name)
        if scheme is None:
            raise LeaveOut(
                f"It asks for the security scheme `{name[:100]}`, which the document does not describe."
            )
        if isinstance(scheme, LeaveOut):
            raise LeaveOut(str(scheme))
        return scheme

    # ---- reading the schemes

    def _read(self, name: str, given: object, references: References) -> _Scheme | LeaveOut:
        try:
            node = mapping(references.follow(given))
            return self._scheme(name, node)
        except LeaveOut as error:
            return error

    def _scheme(self, name: str, node: dict[str, Any]) -> _Scheme:
        match text(node.get("type")).lower():
            case "apikey":
                return self._api_key(name, node)
            case "http":
                return self._http(name, node)
            case "oauth2" | "openidconnect":
                secret = self._secret(name, "", node, "OAuth access token, sent as a bearer token.")
                return _authorization(f"Bearer {{secret:{secret}}}")
            case "mutualtls":
                raise LeaveOut("It asks for a client certificate (mutual TLS), which cannot be sent.")
            case other:
                raise LeaveOut(
                    f"It asks for the security scheme `{name[:100]}` of an unknown type `{other[:40]}`."
                )

    def _api_key(self, name: str, node: dict[str, Any]) -> _Scheme:
        place, key = text(node.get("in")), text(node.get("name"))
        if not _can_carry(place, key):
            raise LeaveOut(
                f"Its API key `{name[:100]}` does not name a header, query parameter or cookie to go in."
            )
        where = "query parameter" if place == "query" else place
        secret = self._secret(name, "", node, f"API key, sent as the {where} `{key[:100]}`.")
        return _Scheme((place, key.casefold()), {"in": place, "name": key, "value": f"{{secret:{secret}}}"})

    def _http(self, name: str, node: dict[str, Any]) -> _Scheme:
        scheme = text(node.get("scheme"))
        match scheme.lower():
            case "basic":
                username = self._secret(name, "username", node, "User name for basic authentication.")
                password = self._secret(name, "password", {}, "Password for basic authentication.")
                return _Scheme(
                    _AUTHORIZATION,
                    basic_auth={"username": f"{{secret:{username}}}", "password": f"{{secret:{password}}}"},
                )
            case "bearer":
                kind = text(node.get("bearerFormat"))[:40]
                what = f"Bearer token ({kind})." if kind else "Bearer token."
                return _authorization(f"Bearer {{secret:{self._secret(name, '', node, what)}}}")
            case known if known in _CHALLENGES or not is_token(scheme):
                raise LeaveOut(
                    f"It asks for HTTP {scheme[:40] or 'authentication of no kind'}, which cannot be sent."
                )
            case _:
                what = f"Credential, sent in the Authorization header after `{scheme[:40]}`."
                return _authorization(f"{scheme} {{secret:{self._secret(name, '', node, what)}}}")

    def _secret(self, scheme: str, part: str, node: dict[str, Any], how: str) -> str:
        name = self._names.claim(numbered(snake(f"{scheme}_{part}")))
        told = shorten(text(node.get("description")), MAX_DESCRIPTION)
        self.secrets[name] = {"description": f"{how} {told}".strip()}
        return name


def _authorization(value: str) -> _Scheme:
    return _Scheme(_AUTHORIZATION, {"in": "header", "name": "Authorization", "value": value})


def _can_carry(place: str, name: str) -> bool:
    match place:
        case "query":
            return 0 < len(name) <= MAX_LENGTH
        case "cookie":
            return is_token(name)
        case "header":
            return is_token(name) and name.casefold() not in OF_THE_CONNECTION
        case _:
            return False
