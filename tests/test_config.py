"""The repository's config is read as Git reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import GIT, fresh, git, git_environment, needs_git

from gitstate import StateReadError
from gitstate.repository.config import entries, remotes_in

PIECES = [
    *('[remote "', "[remote.", "[core]", '[a "b"]', "[x.y]", "]", '"]', '"', '\\"', "\\\\", "\\"),
    *(
        "\n",
        "\r\n",
        " ",
        "\t",
        ";",
        "#",
        "=",
        "url",
        "Bare",
        "a-b",
        "_",
        ".",
        "1",
        "é",
        "\\n",
        "\\x",
    ),
    *(
        '[remote "o"]\n',
        "\turl = x\n",
        "url = a \\\n b\n",
        "; c:\\\n",
        "key\n",
        '[Remote "P\\"q"]',
        "\0",
    ),
]


@needs_git
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_whatever_git_reads_is_read_alike(tmp_path: Path, text: str):
    content = f"[core]\n{text}".encode()
    file = tmp_path / "config"
    file.write_bytes(content)
    listed = subprocess.run(
        [GIT or "git", "config", "--file", file, "--list", "-z"],
        capture_output=True,
        check=False,
        env=git_environment(),
    )
    try:
        found = list(entries(content))
    except ValueError:
        assert listed.returncode != 0 or b"\0" in content
        return
    assert listed.returncode == 0
    names = [line.partition(b"\n")[0] for line in listed.stdout.split(b"\0") if line]
    assert names == [
        b".".join(part for part in (e.section, e.of, e.key) if part is not None)
        for e in found
        if e.key
    ]


@pytest.mark.parametrize(
    "spelling",
    [
        '[user]\n\tname = me ; see D:\\docs\\\n[remote "backup"]\n\turl = nowhere\n',
        '[remote  \t"backup"]\n\turl = nowhere\n',
        '[a "b"] [remote "backup"] url = nowhere\n',
        "[remote.Backup]\n\turl = nowhere\n",
        '[branch "x\\"y"]\n\tdescription = z\n[remote "backup"]\n\turl = nowhere',
    ],
)
@needs_git
def test_what_a_remote_has_not_received_stays_however_it_is_spelt(spelling: str, path: Path):
    state = fresh(path, max_backups=1)
    for number in range(4):
        state.write({"n": number})
    with open(state.git_dir / "config", "a") as config:
        config.write(spelling)
    assert git(state, "remote").split() == [b"backup"]

    assert state.verify().ok
    assert state.prune().held == ("backup",)
    assert len(list(state.log())) == 4


@needs_git
def test_a_config_that_git_writes_is_sound(path: Path):
    state = fresh(path, max_backups=1)
    for number in range(4):
        state.write({"n": number})
    git(state, "remote", "add", 'a"b', "nowhere")
    git(state, "config", "core.bare", "1")
    config = state.git_dir / "config"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())

    assert state.verify().ok
    assert state.repair().mended == ()
    assert state.prune().held == ('a"b',)


def test_a_config_that_makes_no_sense_removes_nothing(path: Path):
    state = fresh(path, max_backups=1)
    for number in range(4):
        state.write({"n": number})
    with open(state.git_dir / "config", "a") as config:
        config.write('[remote "o]\n')

    with pytest.raises(StateReadError) as refused:
        state.prune()

    assert refused.value.code == "config-damaged"
    with pytest.raises(ValueError, match="line 5"):
        remotes_in((state.git_dir / "config").read_bytes())
