"""`penstock submit --input`: what a pair stands for, which member a path is, and what one is told who is wrong."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest

from penstock.cli.input_members import member_for_files, parse_inputs
from penstock.cli.run_plan import SubmitOptions, files_for
from penstock.cli.sources import SourceFile, alone, files_of, request_id
from penstock.client import Model
from penstock.client.model_views import Member
from penstock.errors import ConfigurationError

KINDS = {"image": "image", "mask": "image", "audio": "file", "text": "json"}

SPEECH = {"audio": Member(kind="file", media_types=("audio/*",)), "text": Member(kind="json")}
INPAINT = {"image": Member(), "mask": Member(), "text": Member(kind="json", required=False)}
CLONE = {
    "voice": Member(kind="file", required=False),
    "script": Member(kind="file"),
    "photo": Member(kind="image", required=False),
    "cover": Member(kind="image", required=False),
}


def parsed(*pairs: str) -> dict[str, Any]:
    return parse_inputs(pairs, KINDS)


def test_members_are_files_urls_or_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.wav").write_bytes(b"RIFF")
    Path("a=b.png").write_bytes(b"PNG")

    assert parsed("audio=@a.wav", "mask=@a=b.png", "image=HTTPS://x.example/a.png?b=c", 'text="hi"') == {
        "audio": Path("a.wav"),
        "mask": Path("a=b.png"),
        "image": "HTTPS://x.example/a.png?b=c",
        "text": "hi",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hi there", "hi there"),
        ("7", 7),
        ('"7"', "7"),
        ('{"a": [null]}', {"a": [None]}),
        ("", ""),
        ("NaN", "NaN"),
        ("[" * 100_000, "[" * 100_000),
        ("https://x.example", "https://x.example"),
        ('"@you"', "@you"),
    ],
)
def test_a_value_is_json_where_it_can_be_and_else_a_text(text: str, value: Any) -> None:
    assert parsed(f"text={text}") == {"text": value}


def test_the_value_of_a_member_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("Es war einmal")
    (tmp_path / "data.json").write_text('{"a": 1}')

    assert parsed(f"text=@{tmp_path / 'story.txt'}") == {"text": "Es war einmal"}
    assert parsed(f"text=@{tmp_path / 'data.json'}") == {"text": {"a": 1}}


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["audio"], "'audio' is not of the form name=value"),
        (["=@a.wav"], "is not of the form name=value"),
        (["sound=@a.wav"], "the model has no member 'sound'; it takes image, mask, audio, text"),
        (["audio=a.wav"], "audio is a file: write audio=@a.wav, or a URL"),
        (["mask="], "mask is an image: write mask=@path, or a URL"),
        (["audio=@nowhere.wav"], "audio: there is no file nowhere.wav"),
        (["audio=@"], "audio: there is no file"),
        (["audio=@."], "audio: there is no file"),
        ([f"audio=@{'x' * 5000}"], "audio: there is no file"),
        (["audio=@a\0b"], "audio: there is no file"),
        (["text=1", "text=2"], "text is given twice"),
    ],
)
def test_a_pair_that_means_nothing_is_refused_with_its_member(pairs: list[str], says: str) -> None:
    with pytest.raises(click.BadParameter, match=re.escape(says)):
        parsed(*pairs)


def test_bytes_that_are_no_text_are_no_value(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\xff\xfe")

    with pytest.raises(click.BadParameter, match="not text in UTF-8"):
        parsed(f"text=@{tmp_path / 'a.bin'}")


@pytest.mark.parametrize(
    ("members", "given", "name"),
    [(SPEECH, [], "audio"), (INPAINT, ["mask"], "image"), (INPAINT, ["image"], "mask"), (CLONE, [], "script")],
)
def test_a_path_is_the_one_file_that_the_model_needs(members: dict[str, Member], given: list[str], name: str) -> None:
    kinds = {member: of.kind for member, of in members.items()}
    required = [member for member, of in members.items() if of.required]

    assert member_for_files(kinds, required, given) == name


def test_a_path_that_could_be_several_members_or_none_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="--input image=@path --input mask=@path"):
        member_for_files({"image": "image", "mask": "image"}, ["image", "mask"], [])
    with pytest.raises(click.BadParameter, match="takes no file"):
        member_for_files({"text": "json"}, ["text"], [])


def options(paths: list[Path], *inputs: str, output: Path) -> SubmitOptions:
    return SubmitOptions(
        paths=paths, inputs=inputs, output=output, model="speech@2", params={}, priority="normal", written={},
        concurrency=1, overwrite=False, as_json=False,
    )  # fmt: skip


def model(members: dict[str, Member], produces: str = "any") -> Model:
    return Model(name="speech", title="", version="2", produces=produces, inputs=members)


def test_a_folder_is_searched_for_what_the_model_takes_and_its_files_share_the_other_members(tmp_path: Path) -> None:
    for name in ("a.WAV", "b.mp3", "photo.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")

    jobs = files_for(model(SPEECH), options([tmp_path], "text=hi", output=tmp_path / "out"), Counter())

    assert [job.inputs for job in jobs] == [
        {"audio": tmp_path / "a.WAV", "text": "hi"},
        {"audio": tmp_path / "b.mp3", "text": "hi"},
    ]
    assert [job.target.name for job in jobs] == ["a", "b"]


def test_a_folder_without_files_for_the_model_says_which_types_it_takes(tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"x")

    with pytest.raises(ConfigurationError, match=r"there are no files of audio/\*"):
        files_for(model(SPEECH), options([tmp_path], output=tmp_path / "out"), Counter())


def test_members_alone_are_one_task_that_is_called_after_its_first_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF")
    given = options([], f"audio=@{tmp_path / 'a.wav'}", "text=hi", output=tmp_path / "out")

    (job,) = files_for(model(SPEECH), given, Counter())

    assert job.sent == {"audio": tmp_path / "a.wav", "text": "hi"}
    assert job.of_type("audio/wav").target == tmp_path / "out" / "a.wav"


def test_a_task_without_a_file_is_called_after_the_model_and_what_is_asked(tmp_path: Path) -> None:
    texts = ({"text": "hi"}, {"text": "hi"}, {"text": "ho"})
    names = [alone(inputs, tmp_path, None, name="speech@1.2").target.name for inputs in texts]

    assert names[0] == names[1] != names[2]
    assert all(name.startswith("speech-1.2-") and len(name) == 19 for name in names)


def test_the_name_of_a_task_is_the_bytes_of_all_its_files(tmp_path: Path) -> None:
    for name, data in (("a", b"1"), ("copy", b"1"), ("b", b"2")):
        (tmp_path / name).write_bytes(data)
    first = {"audio": tmp_path / "a", "text": "hi"}

    assert request_id(first, {}) == request_id({"text": "hi", "audio": tmp_path / "copy"}, {})
    others = [{"audio": tmp_path / "b", "text": "hi"}, {"audio": tmp_path / "a", "text": "ho"}, {"text": "hi"}]
    assert len({request_id(inputs, {}) for inputs in [first, *others]}) == 4


@pytest.mark.parametrize(
    ("content_type", "name"),
    [("image/png", "photo.jpg.png"), ("application/json; charset=utf-8", "photo.jpg.json"), ("", "photo.jpg.png")],
)
def test_a_result_is_called_what_it_is_also_if_the_card_says_otherwise(
    tmp_path: Path, content_type: str, name: str
) -> None:
    for source in ("photo.jpg", "photo.webp"):
        (tmp_path / source).write_bytes(b"x")
    (file, _) = files_of([tmp_path], tmp_path / "out", "png")

    assert file.of_type(content_type).target.name == name


def test_what_is_sent_for_a_path_alone_is_the_path() -> None:
    assert SourceFile(source=Path("a.png"), target=Path("out/a.png")).sent == Path("a.png")
