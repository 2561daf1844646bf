"""A small linter for deploy/: no container engine runs here, so what can be checked by reading is checked by reading.

Prints one line a finding, `file:line: sentence`, and exits with an error when there is one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
MOORING = ROOT / "platform" / "mooring"
SETTINGS = (MOORING / "settings.py").read_text()
RUNNER = "".join((MOORING / "cli" / name).read_text() for name in ("running.py", "runner.py"))
# Read by programs other than ours.
FOREIGN = {
    "POSTGRES_DB",
    "POSTGRES_PASSWORD",
    "MOORING_OWNER_PASSWORD",
    "MOORING_APP_PASSWORD",
    "MOORING_SYSTEM_PASSWORD",
}
COMPOSE_ONLY = {"MOORING_VERSION", "MOORING_LISTEN", *FOREIGN}
SERVICE_KEYS = set(
    "image build restart init read_only tmpfs cap_drop security_opt environment depends_on volumes ports healthcheck "
    "command entrypoint stop_grace_period deploy shm_size user cap_add cgroup".split()
)
# What the runner is tried with (tests/servers/runner/test_supervisor.py). With one less it does not start, or runs
# nobody's code.
RUNNER_POWERS = {"SETUID", "SETGID", "KILL", "CHOWN", "DAC_OVERRIDE"}
ASKS_THE_RUNNER = {"dashboard", "gateway", "worker"}
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|PEPPER|ENCRYPTION|DSN")


def runner_read() -> set[str]:
    """Names of the environment variables that `mooring runner` reads, apart from the settings."""
    found = set(re.findall(r'envvar="([A-Z_]+)"|environment\.\w+\(\s*"([A-Z_]+)"', RUNNER))
    return {name for pair in found for name in pair if name}


class Instruction(NamedTuple):
    line: int
    name: str
    words: str


def settings_read() -> set[str]:
    """Names of the environment variables that settings.py reads."""
    return set(re.findall(r'(?:env|INSTALLATION)\.\w+\(\s*"([A-Z_]+)"', SETTINGS))


# ---- Dockerfile ------------------------------------------------------------------------------------------


def instructions(text: str) -> list[Instruction]:
    """Logical lines: comments dropped, continued lines joined."""
    found: list[Instruction] = []
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        start = start if pending else number
        pending += line.strip()
        if pending.endswith("\\"):
            pending = pending[:-1]
            continue
        name, _, words = pending.partition(" ")
        found.append(Instruction(start, name.upper(), words.strip()))
        pending = ""
    return found


def check_dockerfile(text: str) -> Iterator[tuple[int, str]]:
    lines = instructions(text)
    last_stage = lines[max(i for i, line in enumerate(lines) if line.name == "FROM") :]
    for line in lines:
        yield from ((line.line, sentence) for sentence in check_instruction(line))
    yield from ((last_stage[0].line, sentence) for sentence in check_last_stage(last_stage))


def check_instruction(line: Instruction) -> Iterator[str]:
    rules = {
        "FROM": check_from,
        "RUN": check_run,
        "COPY": check_copy,
        "ENV": check_env,
        "ARG": check_env,
        "WORKDIR": check_workdir,
        "CMD": check_exec_form,
        "ENTRYPOINT": check_exec_form,
    }
    known = set(rules) | {"LABEL", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL"}
    if line.name not in known:
        yield f"{line.name} is not used here (ADD, SHELL and ONBUILD hide what they do)."
    elif rule := rules.get(line.name):
        yield from rule(line.words)


def check_from(words: str) -> Iterator[str]:
    image = words.split()[0]
    if ":" not in image or image.endswith(":latest"):
        yield f"{image} has no fixed tag."


def check_run(words: str) -> Iterator[str]:
    tidy = ("--no-install-recommends", "rm -rf /var/lib/apt/lists/*")
    if "apt-get install" in words and not all(part in words for part in tidy):
        yield "apt-get install without --no-install-recommends, or the lists stay in the layer."
    if "pip install" in words and not re.search(r"--require-hashes|--no-deps", words):
        yield "pip install without --require-hashes."
    if re.search(r"\bsudo\b|\bcurl\b.*\|\s*(?:ba)?sh", words):
        yield "sudo, or a script from the network."


def check_copy(words: str) -> Iterator[str]:
    parts = [word for word in words.split() if not word.startswith("--")]
    if "--from=" in words:
        return
    for source in parts[:-1]:
        if not (ROOT / source).exists():
            yield f"COPY of {source}, which is not in the repository."


def check_env(words: str) -> Iterator[str]:
    for name in re.findall(r"(\w+)=", words):
        if SECRET.search(name):
            yield f"{name} would stay in the image."


def check_workdir(words: str) -> Iterator[str]:
    if not words.startswith("/"):
        yield "WORKDIR must be absolute."


def check_exec_form(words: str) -> Iterator[str]:
    if not words.startswith("["):
        yield 'Use the form ["program", "argument"], so that signals reach the program.'


def check_last_stage(stage: list[Instruction]) -> Iterator[str]:
    users = [line.words for line in stage if line.name == "USER"]
    if not users or users[-1].split(":")[0] in {"0", "root"}:
        yield "The image runs as root."
    if not any(line.name == "HEALTHCHECK" and "/healthz" in line.words for line in stage):
        yield "No health check on /healthz."
    if not any("bubblewrap" in line.words and "libseccomp2" in line.words for line in stage):
        yield "The runner cannot make sandboxes: bubblewrap and libseccomp2 are not installed."
    if not any(line.name == "VOLUME" and "journal" in line.words for line in stage):
        yield "The journal has no volume."


# ---- compose.yaml ----------------------------------------------------------------------------------------

NEEDED = {"postgres", "redis", "dashboard", "gateway", "worker", "beat", "runner", "migrate"}


def check_compose(document: Mapping[str, Any]) -> Iterator[str]:
    services: Mapping[str, Mapping[str, Any]] = document["services"]
    for missing in NEEDED - set(services):
        yield f"The service {missing} is missing."
    volumes = set(document.get("volumes", {}))
    for name, service in services.items():
        findings = [
            *check_service(service),
            *check_rights(name, service),
            *check_wiring(service, set(services), volumes),
        ]
        yield from (f"{name}: {finding}" for finding in findings)
    yield from check_socket(services)


def check_service(service: Mapping[str, Any]) -> Iterator[str]:
    if unknown := set(service) - SERVICE_KEYS:
        yield f"unknown keys {sorted(unknown)}."
    if not re.search(r":[\w${}:.-]+$", service.get("image", "")) or service["image"].endswith(":latest"):
        yield "the image has no fixed tag."
    if "healthcheck" not in service and "build" not in service:
        yield "no health check."
    if service.get("privileged") or service.get("network_mode") == "host":
        yield "too many rights."
    for port in service.get("ports", []):
        if not re.match(r"\$\{\w+:-127\.0\.0\.1:|127\.0\.0\.1:", str(port)):
            yield f"port {port} is open to the network by default."
    for name, value in service.get("environment", {}).items():
        if SECRET.search(name) and not str(value).startswith("${"):
            yield f"{name} is written out."
        if name not in settings_read() | runner_read() | FOREIGN:
            yield f"{name} is read by nobody."


def check_rights(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    """One service is root, with no more than it was found to need; it knows nothing of the others."""
    is_ours = "build" in service
    if is_ours and service.get("cap_drop") != ["ALL"]:
        yield "keeps capabilities that it was not given."
    if is_ours and "no-new-privileges:true" not in service.get("security_opt", []):
        yield "may gain rights."
    if name == "runner":
        if set(service.get("cap_add", [])) != RUNNER_POWERS:
            yield f"has other capabilities than {', '.join(sorted(RUNNER_POWERS))}."
        for known in sorted(service["environment"].keys() - runner_read()):
            yield f"knows {known}, which is none of its business."
        return
    if service.get("cap_add") or "user" in service or "unconfined" in str(service.get("security_opt")):
        yield "has rights that only the runner needs."


def check_socket(services: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The runner's folder is where those who ask it look for it."""
    for name in sorted((ASKS_THE_RUNNER | {"runner"}) & set(services)):
        service = services[name]
        folder = service["environment"].get("MOORING_RUNNER_DIR")
        mode = "" if name == "runner" else ":ro"
        if f"runner:{folder}{mode}" not in service.get("volumes", []):
            yield f"{name}: the runner's socket is not at {folder}."


def check_wiring(service: Mapping[str, Any], services: set[str], volumes: set[str]) -> Iterator[str]:
    for other, how in service.get("depends_on", {}).items():
        if other not in services:
            yield f"depends on {other}, which does not exist."
        if "condition" not in how:
            yield f"starts before {other} is ready."
    for volume in service.get("volumes", []):
        source = str(volume).split(":")[0]
        if source.startswith("."):
            if not (DEPLOY / source).exists():
                yield f"mounts {source}, which is not in the repository."
        elif source not in volumes:
            yield f"the volume {source} is not declared."


def check_variables(compose: str, example: str) -> Iterator[str]:
    """What compose.yaml asks of the person is in example.env, and nothing there is idle."""
    asked = set(re.findall(r"\$\{(\w+)", compose))
    required = set(re.findall(r"\$\{(\w+):\?", compose))
    offered = set(re.findall(r"^(\w+)=", example, re.M))
    yield from (f"{name} is required and not in example.env." for name in sorted(required - offered))
    yield from (f"{name} in example.env is not used." for name in sorted(offered - asked))
    read = settings_read() | runner_read() | COMPOSE_ONLY
    yield from (f"{name} is read by nobody." for name in sorted(asked - read))


# ---- nginx.conf ------------------------------------------------------------------------------------------


def check_nginx(text: str) -> Iterator[tuple[int, str]]:
    depth = 0
    for number, line in enumerate(text.splitlines(), 1):
        code = line.split("#")[0].strip()
        depth += code.count("{") - code.count("}")
        if code and not code.endswith((";", "{", "}")):
            yield number, "a directive ends with ; or opens a block."
    if depth:
        yield 1, "the braces do not match."
    calls = text.partition("location /t/ {")[2].partition("}")[0]
    if "proxy_buffering off;" not in calls:
        yield 1, "event streams under /t/ are buffered."


# ---- all -------------------------------------------------------------------------------------------------


def findings() -> Iterator[str]:
    for line, sentence in check_dockerfile((DEPLOY / "Dockerfile").read_text()):
        yield f"deploy/Dockerfile:{line}: {sentence}"
    compose = (DEPLOY / "compose.yaml").read_text()
    for sentence in check_compose(yaml.safe_load(compose)):
        yield f"deploy/compose.yaml:1: {sentence}"
    for sentence in check_variables(compose, (DEPLOY / "example.env").read_text()):
        yield f"deploy/compose.yaml:1: {sentence}"
    for line, sentence in check_nginx((DEPLOY / "nginx.conf").read_text()):
        yield f"deploy/nginx.conf:{line}: {sentence}"


def main() -> int:
    found = list(findings())
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
