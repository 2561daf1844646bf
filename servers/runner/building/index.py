"""Where packages come from: whatever the operator has told uv or pip, read when it is needed and written down nowhere.

uv's configuration counts where there is any, else pip's; pip's way of taking the best version of all its indexes comes
with it. Without either, uv's own default is the index.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import http.client
import json
import os
import re
import ssl
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from servers.runner.egress import Allowed
from servers.runner.errors import BuildFailed
from servers.runner.sandbox.launcher import Tree

SECONDS = 15.0
# Folders of this machine are mounted below this one, certificates in it.
INSIDE = "/index"
CERTIFICATES = f"{INSIDE}-certificates.pem"
_PAGE_BYTES = 32 * 2**20
_PROJECTS_LOOKED_AT, _FOLDERS_LOOKED_INTO = 3, 5
_PORTS = {"http": 80, "https": 443}
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_DEFAULT = re.compile(r"default: <(https?://[^>\s]+)>")
_UV_FILES = ("/etc/uv/uv.toml", "~/.config/uv/uv.toml")
_ABOUT_INDEXES = {"index", "index-url", "extra-index-url", "find-links", "no-index"}


@dataclass(frozen=True, slots=True)
class Index:
    """`default` and `extra` are indexes, `links` pages or folders with files; addresses may hold credentials.

    `default` is None until uv has been asked for its own, and empty where there is to be none. `is_merged` says that
    the best version of all indexes is taken, as pip does it, instead of the first index that knows a package.
    `insecure` names hosts whose certificates are not checked.
    """

    default: str | None
    extra: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    is_merged: bool = False
    insecure: tuple[str, ...] = ()
    certificates: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.default, *self.extra, *self.links)))

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of the addresses must not be shown."""
        parts = [urlsplit(each) for each in self.addresses]
        return tuple(unquote(secret) for part in parts if (secret := part.password or part.username))

    def environment(self) -> dict[str, str]:
        """For uv inside. Not as options: those can be read by everybody on the machine."""
        found = {
            "UV_DEFAULT_INDEX": _inside(self.default or ""),
            "UV_INDEX": " ".join(map(_inside, self.extra)),
            "UV_FIND_LINKS": ",".join(map(_inside, self.links)),
            "UV_INDEX_STRATEGY": "unsafe-best-match" if self.is_merged else "",
            "UV_INSECURE_HOST": " ".join(self.insecure),
            "SSL_CERT_FILE": CERTIFICATES if self.certificates else "",
        }
        return {name: value for name, value in found.items() if value}

    @property
    def options(self) -> tuple[str, ...]:
        """What uv reads no variable for."""
        return () if self.default or self.extra else ("--no-index",)


@dataclass(frozen=True, slots=True)
class Reach:
    """An index and what a build has to get at: hosts through the proxy, folders and files of this machine by mounts."""

    index: Index
    hosts: tuple[Allowed, ...] = ()
    trees: tuple[Tree, ...] = ()


# For what needs no package.
NOWHERE = Reach(Index(default=""))


async def configured(uv: Path, environ: Mapping[str, str] | None = None) -> Index:
    """Read the operator's configuration. Raises `BuildFailed`."""
    environ = os.environ if environ is None else environ
    found = _from_uv(environ)
    if found is None:
        found = _from_pip(await _pip_configuration(environ))
    certificates = found.certificates or environ.get("SSL_CERT_FILE", "")
    return replace(
        found,
        default=await _default(uv) if found.default is None else found.default,
        certificates=certificates if Path(certificates).is_file() else "",
    )


async def reach(index: Index, projects: Iterable[str]) -> Reach:
    """Where the index keeps its files, found by looking at its pages of some projects. Raises `BuildFailed`."""
    names = sorted(projects)[:_PROJECTS_LOOKED_AT]
    pages = [(address, names) for address in (index.default, *index.extra) if address]
    pages += [(address, []) for address in index.links]
    found = await asyncio.gather(*(asyncio.to_thread(_places, each, names, index) for each, names in pages))
    places = {place for each in found for place in each}
    hosts = {(part.hostname, part.port or _PORTS[part.scheme]) for part in places if part.scheme in _PORTS}
    folders = {Path(unquote(part.path)) for part in places if part.scheme == "file"}
    trees = [Tree(str(path), f"{INSIDE}{path}") for path in _outermost(folders)]
    if index.certificates:
        trees.append(Tree(str(Path(index.certificates).resolve()), CERTIFICATES))
    allowed = (
        Allowed(str(host), frozenset({port}), is_trusted=True) for host, port in sorted(hosts, key=str)
    )
    return Reach(index, tuple(allowed), tuple(trees))


# ---- uv's configuration --------------------------------------------------------------------------------------


def _from_uv(environ: Mapping[str, str]) -> Index | None:
    """None when uv is told nothing about indexes. Variables count before files, and files in their order."""
    tables = [_uv_variables(environ), *map(_uv_table, _UV_FILES)]
    if not any(set(table) & _ABOUT_INDEXES for table in tables):
        return None
    merged = {name: value for table in reversed(tables) for name, value in table.items()}
    named = [each for each in merged.get("index", ()) if isinstance(each, dict) and "url" in each]
    defaults = [str(each["url"]) for each in named if each.get("default")]
    default = "" if merged.get("no-index") else merged.get("index-url") or next(iter(defaults), None)
    return Index(
        default=default,
        extra=tuple([str(each["url"]) for each in named if not each.get("default")])
        + tuple(merged.get("extra-index-url", ())),
        links=tuple(map(_link, merged.get("find-links", ()))),
        is_merged=str(merged.get("index-strategy", "")).startswith("unsafe"),
        insecure=tuple(merged.get("allow-insecure-host", ())),
    )


def _uv_variables(environ: Mapping[str, str]) -> dict[str, Any]:
    words = {
        name: environ.get(f"UV_{name}", "").split() for name in ("INDEX", "EXTRA_INDEX_URL", "INSECURE_HOST")
    }
    # An index may be given a name: `internal=https://…`.
    indexes = [{"url": re.sub(r"^[A-Za-z0-9._-]+=", "", each)} for each in words["INDEX"]]
    found = {
        "index": indexes,
        "index-url": environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL"),
        "extra-index-url": words["EXTRA_INDEX_URL"],
        "find-links": [each for each in environ.get("UV_FIND_LINKS", "").split(",") if each],
        "index-strategy": environ.get("UV_INDEX_STRATEGY"),
        "allow-insecure-host": words["INSECURE_HOST"],
    }
    return {name: value for name, value in found.items() if value}


def _uv_table(path: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(Path(path).expanduser().read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RuntimeError) as error:
        raise BuildFailed(f"uv's configuration at {path} cannot be read ({type(error).__name__}).") from None
    return {**table, **table.get("pip", {})}


async def _default(uv: Path) -> str:
    """The index uv uses when it is told nothing, by its own word."""
    output = await _output([str(uv), "pip", "compile", "--help"], {})
    match = _DEFAULT.search(" ".join(output.split()))
    if match is None:
        raise BuildFailed("No package index is configured for uv or pip.")
    return match[1]


# ---- pip's configuration -------------------------------------------------------------------------------------


async def _pip_configuration(environ: Mapping[str, str]) -> dict[str, str]:
    """What counts for an installation, by name: variables before `install` before `global`."""
    output = await _output([sys.executable, "-m", "pip", "config", "list"], environ)
    found: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for line in output.splitlines():
            key, equals, value = line.partition("=")
            if equals and key.startswith(f"{section}."):
                found[key.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    return found


def _from_pip(values: Mapping[str, str]) -> Index:
    is_closed = values.get("no-index", "").lower() in {"1", "true", "yes", "on"}
    return Index(
        default="" if is_closed else values.get("index-url"),
        extra=() if is_closed else tuple(values.get("extra-index-url", "").split()),
        links=tuple(map(_link, values.get("find-links", "").split())),
        is_merged=True,
        insecure=tuple(values.get("trusted-host", "").split()),
        certificates=values.get("cert", ""),
    )


def _link(value: object) -> str:
    """A folder as a `file:` address, like everything else."""
    text = str(value)
    return text if "://" in text else Path(text).expanduser().absolute().as_uri()


async def _output(command: list[str], environ: Mapping[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=dict(environ),
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BuildFailed(f"{command[0]} has not answered within {SECONDS:g} s.") from None
    return output.decode("utf-8", "replace")


# ---- looking at the index ------------------------------------------------------------------------------------


def _places(address: str, projects: list[str], index: Index) -> set[SplitResult]:
    """The address itself and where its pages link to: folders of this machine, or hosts. Runs in a thread."""
    own = urlsplit(address)
    if own.scheme == "file":
        return {own, *_linked_folders(Path(unquote(own.path)), projects)}
    if own.scheme not in _PORTS or not own.hostname:
        raise BuildFailed("The package index is not an address of http, https or file.")
    found = {own}
    for page in [f"{address.rstrip('/')}/{project}/" for project in projects] or [address]:
        where, links = _page(page, index)
        found |= {urlsplit(urljoin(where, link)) for link in (where, *links)}
    return {urlsplit(f"{each.scheme}://{each.netloc.rpartition('@')[2]}/") for each in found if each.hostname}


def _linked_folders(folder: Path, projects: list[str]) -> Iterator[SplitResult]:
    """Pages of an index on this machine link to files that may lie elsewhere on it."""
    try:
        every = [folder / project for project in projects] + sorted(folder.iterdir())[:_FOLDERS_LOOKED_INTO]
    except OSError as error:
        raise BuildFailed(f"The package index at {folder} cannot be read ({type(error).__name__}).") from None
    for page in (each / "index.html" for each in every):
        if page.is_file():
            for link in _Links.of(page.read_text("utf-8", "replace")):
                target = urlsplit(urljoin(page.as_uri(), link))
                if target.scheme == "file":
                    yield urlsplit(Path(unquote(target.path)).parent.as_uri())


def _page(url: str, index: Index) -> tuple[str, list[str]]:
    """Where the page was found in the end, and its links; none for a project that the index does not know."""
    parts = urlsplit(url)
    request = urllib.request.Request(
        parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers={"Accept": _ACCEPT}
    )
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")
    try:
        with _opener(index, str(parts.hostname)).open(request, timeout=SECONDS) as response:
            where, body = response.geturl(), response.read(_PAGE_BYTES)
            is_json = "json" in response.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in {404, 410}:
            return url, []
        raise BuildFailed(f"The package index at {parts.hostname} answers {error.code}.") from None
    except (OSError, http.client.HTTPException) as error:
        raise BuildFailed(f"The package index at {parts.hostname} cannot be reached ({error}).") from None
    return where, _links_of(body, is_json)


def _opener(index: Index, host: str) -> urllib.request.OpenerDirector:
    """Straight to the host, as the proxy of the sandbox goes."""
    context = ssl.create_default_context(cafile=index.certificates or None)
    if host in index.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )


def _links_of(body: bytes, is_json: bool) -> list[str]:
    if not is_json:
        return _Links.of(body.decode("utf-8", "replace"))
    try:
        return [str(file["url"]) for file in json.loads(body)["files"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BuildFailed("A page of the package index cannot be read.") from None


class _Links(HTMLParser):
    """The targets of the links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]

    @classmethod
    def of(cls, page: str) -> list[str]:
        parser = cls()
        parser.feed(page)
        return parser.found


def _outermost(folders: set[Path]) -> list[Path]:
    return sorted(folder for folder in folders if folders.isdisjoint(folder.parents))


def _inside(address: str) -> str:
    """The same index as a sandbox sees it."""
    parts = urlsplit(address)
    return f"file://{INSIDE}{parts.path}" if parts.scheme == "file" else address
