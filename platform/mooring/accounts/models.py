"""People. A user is known by an e-mail address; there is no user name."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = User(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    username = None  # type: ignore[assignment]  # the way Django documents to drop the field
    first_name = None  # type: ignore[assignment]  # likewise
    last_name = None  # type: ignore[assignment]  # likewise
    email = models.EmailField("e-mail address", unique=True)
    name = models.CharField(max_length=120, blank=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]  # the stubs want their own

    def __str__(self) -> str:
        return self.email

    @property
    def label(self) -> str:
        return self.name or self.email

    def get_full_name(self) -> str:
        """Where Django and its applications ask for a person's name."""
        return self.label

    def get_short_name(self) -> str:
        return self.label
