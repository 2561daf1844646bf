"""Mail without a mail server: printed in the terminal, and kept for the development inbox page."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from django.conf import settings
from django.core.mail.backends.base import BaseEmailBackend
from django.core.mail.message import EmailMessage
from django.utils import timezone

from mooring.ids import uuid7

KEPT = 50


@dataclass(frozen=True, slots=True)
class Letter:
    time: str
    to: str
    subject: str
    body: str


def folder() -> Path:
    return Path(settings.DATA_DIR) / "mail"


class DevelopmentInbox(BaseEmailBackend):
    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        folder().mkdir(parents=True, exist_ok=True)
        for message in email_messages:
            letter = Letter(
                timezone.now().isoformat(), ", ".join(message.to), str(message.subject), str(message.body)
            )
            (folder() / f"{uuid7()}.json").write_text(json.dumps(asdict(letter)))
            sys.stderr.write(f"\n--- mail to {letter.to}: {letter.subject}\n{letter.body}\n---\n")
        for old in sorted(folder().glob("*.json"))[:-KEPT]:
            old.unlink(missing_ok=True)
        return len(email_messages)


def letters() -> list[Letter]:
    """The newest fifty, newest first."""
    return [
        Letter(**json.loads(path.read_text()))
        for path in sorted(folder().glob("*.json"), reverse=True)[:KEPT]
    ]
