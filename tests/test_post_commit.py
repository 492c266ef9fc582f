"""The hook `post-commit`: it tells a webhook what was committed, and has the version pushed."""

import http.server
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gitstate import PipelineState
from gitstate.hooks import install

HOOK = Path(__file__).resolve().parents[1] / "hooks" / "post-commit"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="hooks are scripts")


class Listener(http.server.BaseHTTPRequestHandler):
    """Keeps what it is told, and answers with the status of its server."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self):
        self.server.told.append("GET")

    def log_message(self, *arguments):
        """Says nothing."""


@pytest.fixture(autouse=True)
def _directly(monkeypatch):
    """No proxy of this machine's comes between."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as made:
        made.told, made.status = [], 204
        made.url = f"http://127.0.0.1:{made.server_port}/told?key=1"
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def warnings(caplog):
    caplog.set_level(logging.WARNING, logger="gitstate")
    return lambda: [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.fixture
def folder(path):
    """Where the hooks of the state are; the one that is tried is among them."""
    PipelineState(path).write({})
    return install("post-commit", path.parent / ".pipeline" / "hooks").parent


def test_a_webhook_is_told_what_was_committed(state, path, folder, server, warnings, monkeypatch):
    monkeypatch.setenv("GITSTATE_WEBHOOK", server.url)

    version = state.write({"a": 1}, operation="chunking", message="B\u00fccher\n\nsecond try")

    assert warnings() == []
    body = {
        "state": str(path),
        "version": version.id,
        "serial": 2,
        "operation": "chunking",
        "message": "B\u00fccher\n\nsecond try",
        "time": version.timestamp.isoformat(),
    }
    assert server.told == [("/told?key=1", "application/json", body)]


def test_its_address_can_be_in_a_file(state, folder, server, warnings):
    (folder / "post-commit.url").write_text(f"{server.url}\n")

    state.write({"a": 1})

    assert warnings() == []
    assert [body["serial"] for _, _, body in server.told] == [2]


def test_an_answer_that_is_no_success_is_a_warning(state, folder, server, warnings, monkeypatch):
    monkeypatch.setenv("GITSTATE_WEBHOOK", server.url)
    server.status = 500

    state.write({"a": 1})

    assert len(warnings()) == 1
    assert "500" in warnings()[0]
    assert "key=1" not in warnings()[0]


def test_it_is_not_led_elsewhere(state, folder, server, warnings, monkeypatch):
    monkeypatch.setenv("GITSTATE_WEBHOOK", server.url)
    server.status = 302

    state.write({"a": 1})

    assert len(server.told) == 1
    assert "302" in warnings()[0]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "nothing",
        "http://",
        "http://127.0.0.1:x/",
        "http://a b/",
        "http://me:key@127.0.0.1/",
    ],
)
def test_an_address_of_another_kind_is_refused(url, state, folder, warnings, monkeypatch):
    monkeypatch.setenv("GITSTATE_WEBHOOK", url)

    state.write({"a": 1})

    assert len(warnings()) == 1
    assert "the webhook was not told: " in warnings()[0]
    assert "Traceback" not in warnings()[0]
    assert "key" not in warnings()[0]


def test_nobody_there_is_a_warning(state, folder, warnings, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("GITSTATE_WEBHOOK", f"http://127.0.0.1:{port}/")

    state.write({"a": 1})

    assert len(warnings()) == 1
    assert "refused" in warnings()[0]


def test_one_that_does_not_answer_is_given_up_after_ten_seconds(
    state, folder, warnings, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("GITSTATE_WEBHOOK", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        begun = time.monotonic()

        state.write({"a": 1})

    assert 9 < time.monotonic() - begun < 30
    assert "timed out" in warnings()[0]


def run(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The hook by itself, as gitstate calls it, with a program that stands in for its Python."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"json.dump(sys.argv[1:], open({str(tmp_path / 'asked')!r}, 'w'))\nsys.exit(len(sys.argv[-1]) - 6)\n"
    )
    stand_in.chmod(0o755)
    told = {
        "STATE": str(tmp_path / "pipeline.json"),
        "VERSION": "1" * 40,
        "SERIAL": "1",
        "OPERATION": "write",
        "MESSAGE": "write: a",
        "TIME": "2026-01-01T00:00:00+00:00",
        "PYTHON": str(stand_in),
    }
    given = {f"GITSTATE_{name}": value for name, value in {**told, **environment}.items()}
    return subprocess.run(
        [HOOK], env={**os.environ, **given}, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_version_is_pushed_by_the_python_that_has_gitstate(tmp_path):
    done = run(tmp_path, PUSH="origin")

    assert (done.returncode, done.stderr) == (0, "")
    flag, option, program, *arguments = json.loads((tmp_path / "asked").read_text())
    assert (flag, option) == ("-P", "-c")  # nothing is imported from beside the state file
    assert arguments == [str(tmp_path / "pipeline.json"), "origin"]
    compile(program, "program", "exec")
    assert ".push(" in program


def test_a_push_that_fails_is_a_failure(tmp_path):
    assert run(tmp_path, PUSH="elsewhere").returncode == 1


def test_both_are_done_where_both_are_asked_for_and_neither_keeps_the_other(tmp_path, server):
    assert run(tmp_path, PUSH="elsewhere", WEBHOOK=server.url).returncode == 1

    assert len(server.told) == 1
    assert (tmp_path / "asked").exists()

    done = run(tmp_path, PUSH="origin", WEBHOOK="nothing")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_one_that_is_asked_for_nothing_says_so(tmp_path):
    done = run(tmp_path)

    assert done.returncode == 1
    assert "GITSTATE_WEBHOOK" in done.stderr
    assert len(done.stderr.splitlines()) == 1
