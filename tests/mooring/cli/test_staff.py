"""Who may open `/admin/` is decided on the machine."""

from __future__ import annotations


def test_somebody_who_signed_up_is_made_staff_listed_and_removed(installation):
    email = f"{installation.tenant()}@example.com"
    assert email not in _staff(installation)
    added = installation.run("staff", "add", email.upper())
    assert (added.returncode, added.stdout) == (0, f"{email} is staff.\n")
    assert '"staff.added"' in added.stderr
    assert email in _staff(installation)
    assert installation.json("staff", "remove", email) == {"email": email, "is_staff": False}
    assert email not in _staff(installation)


def _staff(installation):
    return [row["email"] for row in installation.json("staff", "list")]


def test_a_stranger_is_not_made_staff(installation):
    assert "sign up first" in installation.refused("staff", "add", "stranger@example.com")


def test_staff_are_not_made_through_the_api(installation):
    key = installation.key(installation.tenant())
    for command in (("add", "a@example.com"), ("remove", "a@example.com"), ("list",)):
        assert "on the machine itself" in installation.run("staff", *command, key=key).stderr
