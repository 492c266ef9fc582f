"""Trailers: what a commit message says comes back, whatever a user writes, and stock git reads the same fields."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitstate import PipelineState, trailers
from gitstate.trailers import Note

NOTE = Note("write", 41, datetime(2026, 3, 1, 9, 30, 0, 123456, UTC), 4711, "worker-3", ("a", "b"))
FIELDS = {
    "Operation": "write",
    "Serial": "41",
    "Time": "2026-03-01T09:30:00.123456+00:00",
    "Changed-Keys": '["a", "b"]',
    "Pid": "4711",
    "Host": "worker-3",
}
FAKE = "\n".join(f"{name}: fake" for name in FIELDS) + "\nSerial: 99\nRestores: " + "f" * 40

# Text that leans on the edges of the format as well as any text at all.
PIECES = st.sampled_from(
    [
        "\n", "\n\n", "\r\n", "\r", " ", "---", "--- ", "---\n", "#", "Operation: x", "Serial: 7", ": ", "\x00", "\x0b",
        "\x1b[0m", "\x85", "\u2028", "\ufeff", "é", "Signed-off-by: A <a@b>", "(cherry picked from commit 1)", "\t",
        "diff --git a/x b/x", ">8", "------------------------ >8 ------------------------", "Conflicts:",
    ]
)  # fmt: skip
TEXTS = st.text() | st.lists(PIECES, max_size=8).map("".join)
NOTES = st.builds(
    Note,
    operation=TEXTS.map(lambda text: trailers.one_line(text) or "write"),
    serial=st.integers(0, 10**9),
    time=st.datetimes(min_value=datetime(2000, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  gets one
    pid=st.integers(1, 2**22),
    host=TEXTS.map(lambda text: trailers.one_line(text) or "host"),
    changed_keys=st.lists(TEXTS, max_size=4).map(tuple),
    message=TEXTS.map(trailers.clean_message),
    extra=st.dictionaries(
        st.sampled_from(["Restores", "Undoes", "Reason", "Error"]), TEXTS.map(trailers.one_line)
    ),
)


def expected(note: Note) -> Note:
    return replace(note, message=note.message or note.subject)


@given(NOTES)
@example(replace(NOTE, message=FAKE))
@example(replace(NOTE, message="subject\n\n" + FAKE))
@example(replace(NOTE, changed_keys=("a\nSerial: 9", "\n\nPid: 1", "")))
def test_a_note_comes_back_whatever_the_user_wrote(note):
    assert trailers.decode(trailers.encode(note)) == expected(note)


@given(TEXTS.map(trailers.clean_message))
@example(FAKE)
@example("x\n\n" + FAKE + "\n\n")
def test_a_message_cannot_change_the_fields(message):
    decoded = trailers.decode(trailers.encode(replace(NOTE, message=message)))

    assert replace(decoded, message="") == NOTE


@given(TEXTS)
def test_text_in_a_field_stays_on_its_line(text):
    note = replace(NOTE, host=text, extra={"Error": text})

    encoded = trailers.encode(note).decode()

    assert len(encoded.rpartition("\n\n")[2].splitlines()) == len(FIELDS) + 1


@given(TEXTS)
def test_cleaning_a_message_twice_changes_nothing_more(text):
    once = trailers.clean_message(text)

    assert trailers.clean_message(once) == once


@given(st.text(alphabet=st.characters(categories=["Cs", "Ll", "Cc"])))
def test_a_lone_surrogate_in_a_message_does_no_harm(text):
    note = replace(NOTE, message=trailers.clean_message(text))

    assert replace(trailers.decode(trailers.encode(note)), message="") == NOTE


def test_the_fields_are_the_last_block_in_their_order():
    encoded = trailers.encode(
        replace(NOTE, message="Subject\n\nBody", extra={"Reason": "rollback"})
    )

    block = "".join(f"{name}: {value}\n" for name, value in FIELDS.items())
    assert encoded.decode() == f"Subject\n\nBody\n\n{block}Reason: rollback\n"


@pytest.mark.parametrize(
    ("note", "subject"),
    [
        (replace(NOTE, message="what I did\nand why"), "what I did"),
        (NOTE, "write: a, b"),
        (replace(NOTE, changed_keys=()), "write"),
        (replace(NOTE, changed_keys=("a\n\nb",)), "write: a b"),
        (replace(NOTE, extra={"Error": "ValueError: no"}), "write: ValueError: no"),
    ],
)
def test_the_subject_is_the_users_or_says_what_changed(note, subject):
    assert note.subject == subject
    assert (
        trailers.encode(note)
        .decode()
        .startswith(subject + "\n\n" if "why" not in note.message else subject)
    )


def test_a_long_subject_is_cut_and_the_keys_are_all_in_their_field():
    keys = tuple(f"key{n}" for n in range(100))
    note = replace(NOTE, changed_keys=keys)

    assert len(note.subject) == 72
    assert note.subject.endswith("...")
    assert trailers.decode(trailers.encode(note)).changed_keys == keys


def test_a_time_in_another_zone_is_read_as_the_same_moment():
    moment = NOTE.time.astimezone(timezone(timedelta(hours=5, minutes=30)))

    decoded = trailers.decode(trailers.encode(replace(NOTE, time=moment)))

    assert decoded.time == NOTE.time
    assert decoded.time.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a commit of somebody else\n",
        b"subject\n\nSigned-off-by: A <a@b>\n",
        trailers.encode(NOTE).replace(b"Serial: 41", b"Serial: many"),
        trailers.encode(NOTE).replace(b"Serial: 41", b"Serial: -1"),
        trailers.encode(NOTE).replace(b"Serial: 41\n", b""),
        trailers.encode(NOTE).replace(b"+00:00", b""),
        trailers.encode(NOTE).replace(b"2026-03-01T", b"yesterday "),
        trailers.encode(NOTE).replace(b'["a", "b"]', b"a, b"),
        trailers.encode(NOTE).replace(b'["a", "b"]', b"null"),
        trailers.encode(NOTE).replace(b'["a", "b"]', b"[" * 100_000),
        trailers.encode(NOTE).replace(b"4711", b"9" * 5000),
        trailers.encode(NOTE) + b"\nsomething below\n",
        b"\xff\xfe",
    ],
    ids=lambda content: ascii(content[:20]),
)
def test_a_message_that_is_not_ours_is_a_value_error(content):
    with pytest.raises(ValueError, match=r".") as caught:
        trailers.decode(content)
    assert not isinstance(caught.value, UnicodeError)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Ada <ada@example.org>", "Ada ada@example.org"),
        ("a\nb\0c\u2028d", "a b c d"),
        ("  .,Ada;:\"'  ", "Ada"),
        ("<>", "unknown"),
        ("", "unknown"),
        ("Ada Lovelace", "Ada Lovelace"),
    ],
)
def test_an_identity_is_made_fit_for_git(text, cleaned):
    assert trailers.clean_identity(text) == cleaned


# -- stock git ---------------------------------------------------------------------------------------------------------


def parse(printed: str) -> list[tuple[str, str]]:
    # Not splitlines: a field may hold characters that only Python takes for a line's end.
    pairs = (line.partition(": ") for line in printed.split("\n") if line)
    return [(name.removesuffix(":"), value) for name, _, value in pairs]


def fields_of(note: Note) -> list[tuple[str, str]]:
    fields = {
        "Operation": note.operation,
        "Serial": str(note.serial),
        "Time": note.time.isoformat(timespec="microseconds"),
        "Changed-Keys": json.dumps(list(note.changed_keys)),
        "Pid": str(note.pid),
        "Host": note.host,
        **note.extra,
    }
    return list(fields.items())


@settings(max_examples=60)
@given(note=NOTES)
@example(note=replace(NOTE, message=FAKE))
@example(note=replace(NOTE, message="subject\n\n" + FAKE))
@example(note=replace(NOTE, message=trailers.clean_message("a\n---\nb")))
@example(note=replace(NOTE, message=trailers.clean_message("---")))
@example(note=replace(NOTE, message=trailers.clean_message("--- x")))
@example(note=replace(NOTE, message=trailers.clean_message("a\n\n---\n\n" + FAKE)))
@example(note=replace(NOTE, message="# a comment\n#\n"))
@example(note=replace(NOTE, message="a\n\nConflicts:\n\tb"))
@example(note=replace(NOTE, operation="---", changed_keys=()))
@example(note=replace(NOTE, operation="--- x"))
@example(note=replace(NOTE, extra={"Error": ""}))
def test_git_interpret_trailers_reads_our_fields_and_no_others(git, note):
    printed = git("interpret-trailers", "--parse", stdin=trailers.encode(note))

    assert parse(printed) == fields_of(note)


@pytest.mark.parametrize(
    "message",
    [
        "",
        FAKE,
        "subject\n\n" + FAKE,
        "a\n---\nb",
        "---",
        "a\n\n---\n" + FAKE,
        "# comment\n\x00",
        "é\u2028",
    ],
)
def test_git_log_reads_our_fields_whatever_the_message(git, path, message):
    state = PipelineState(path, author="Ada <ada@example.org>")
    version = state.write({"a": 1, "b, c": 2}, message=message)

    for printed in (
        git("--git-dir", state.git_dir, "log", "-1", "--format=%(trailers)"),
        git(
            "interpret-trailers",
            "--parse",
            stdin=git("--git-dir", state.git_dir, "log", "-1", "--format=%B").encode(),
        ),
    ):
        fields = parse(printed)
        assert [name for name, _ in fields] == list(FIELDS)
        assert dict(fields)["Operation"] == "write"
        assert dict(fields)["Serial"] == "1"
        assert dict(fields)["Changed-Keys"] == '["a", "b, c"]'
        assert datetime.fromisoformat(dict(fields)["Time"]) == version.timestamp
    state.close()
