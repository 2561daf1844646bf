"""Commands on the data directory find the installation that runs on it, whatever its port."""

from __future__ import annotations

import pytest

from tests.installation import installed

pytestmark = pytest.mark.skipif(
    "config.getoption('--setup') == 'production'", reason="there MOORING_URL says it, and many processes run"
)


def test_a_command_speaks_of_the_port_that_the_running_installation_has(installation, echo_file):
    tenant = installation.tenant()
    here = installation.but(MOORING_URL="", PORT="")
    printed = here.ok("deploy", str(echo_file), "--tenant", tenant, "--server", "echo", "--public")
    assert printed.splitlines()[-1] == f"{installation.origin}/t/{tenant}/echo/mcp"
    assert here.ok("call", f"{tenant}/echo", "hello", '{"name": "Ada"}') == "Hello Ada\n"
    (row,) = here.json("servers", "list", "--tenant", tenant)
    assert row["endpoint"].startswith(installation.origin)


def test_what_the_environment_says_goes_first(installation):
    elsewhere = installation.but(MOORING_URL="", PORT="1")
    assert "localhost:1 does not answer" in elsewhere.refused("call", "a/b", "c")
    elsewhere = installation.but(MOORING_URL="http://127.0.0.1:2", PORT="")
    assert "127.0.0.1:2 does not answer" in elsewhere.refused("call", "a/b", "c")


def test_an_installation_that_has_died_or_stopped_is_not_believed(tmp_path, echo_file):
    with installed(tmp_path) as made:
        tenant = made.tenant()
        deploy = ["deploy", str(echo_file), "--tenant", tenant, "--server", "echo"]
        here = made.but(MOORING_URL="", PORT="")

        def said() -> str:
            return here.ok(*deploy).splitlines()[-1].removesuffix(f"/t/{tenant}/echo/mcp")

        assert said() == made.origin
        made.kill()
        assert (tmp_path / "web.origin").read_text() == made.origin, "nobody could remove it"
        assert said() == "http://localhost:8000"
        made.start()
        assert said() == made.origin
        made.stop()
        assert not (tmp_path / "web.origin").exists()
        assert said() == "http://localhost:8000"
