"""Address: the URLs that Git takes are taken, what could run a program or keep a secret is not."""

import os

import pytest

from gitstate import StateRemoteError
from gitstate.sync.address import Address, parse


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("/srv/a.git", Address("folder", "/srv/a.git", "/srv/a.git")),
        ("file:///srv/a%20b.git", Address("folder", "/srv/a b.git", "/srv/a b.git")),
        ("host:a.git", Address("ssh", "host:a.git", "a.git", "host")),
        (
            "me@host:/srv/a.git",
            Address("ssh", "me@host:/srv/a.git", "/srv/a.git", "host", None, "me"),
        ),
        ("ssh://host/srv/a.git", Address("ssh", "ssh://host/srv/a.git", "/srv/a.git", "host")),
        ("ssh://me@host:22/~/a", Address("ssh", "ssh://me@host:22/~/a", "~/a", "host", 22, "me")),
        ("ssh://[::1]:22/a.git", Address("ssh", "ssh://[::1]:22/a.git", "/a.git", "::1", 22)),
        ("git://host:9418/a", Address("git", "git://host:9418/a", "/a", "host", 9418)),
        ("https://host/a.git", Address("https", "https://host/a.git", "/a.git", "host")),
        (
            "https://me@host:8443/a",
            Address("https", "https://me@host:8443/a", "/a", "host", 8443, "me"),
        ),
        ("http://127.0.0.1:80/a", Address("http", "http://127.0.0.1:80/a", "/a", "127.0.0.1", 80)),
    ],
)
def test_the_forms_of_git_are_taken(url, address):
    assert parse(url) == address


def test_a_relative_folder_is_stored_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert parse("a.git").url == os.path.join(os.getcwd(), "a.git")
    assert parse("./b:c").kind == "folder"


def test_a_folder_whose_name_looks_like_a_host_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host:a").mkdir()

    assert parse("host:a").kind == "folder"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a\nb",
        "ext::sh -c true",
        "ftp://host/a",
        "ssh://-oProxyCommand=true/a",
        "-oProxyCommand=true:a",
        "ssh://host/-a\0",
        "host:-a",
        "ssh://-me@host/a",
        "ssh:///a",
        "git://me@host/a",
        "https://host",
        "https://host/a?token=x",
        "https://host:port/a",
        "file://host/a",
        "https://host/%0aa",
        "https://x%0ahost=other%0ausername=victim@evil/x.git",
        "https:host/a",
        "ssh://[::1/a",
    ],
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(StateRemoteError) as caught:
        parse(url)

    assert caught.value.code == "remote-url"


@pytest.mark.parametrize(
    "url",
    [
        "https://me:secret@host/a",
        "ssh://me:secret@host/a",
        "https://:secret@host/a",
        "https://me:secret@host:badport/x",
        "https://me:a#secret@host/x",
        "https://me:secret/x@host/x",
        "https://me:secret@[::1/x",
        "me:secret@host:path",
        "me:secret@host/x.git",
        "https:/me:secret@host/x",
        "https:me:secret@host/x",
        "https://me%3asecret@host/x",
        "https://ghp_secret@host/x",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(url):
    with pytest.raises(StateRemoteError) as caught:
        parse(url)

    assert caught.value.code == "remote-url"
    error = caught.value
    assert "secret" not in f"{error} {error.url} {error.__cause__} {error.__context__}"


def test_what_is_no_text_is_a_type_error():
    with pytest.raises(TypeError):
        parse(b"/srv/a.git")
