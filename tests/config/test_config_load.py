"""Settings as users write them: what is taken, what is refused, and that every mistake is told at once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, field_validator, model_validator

from segdec_edge.config.load import Settings, check, load_toml
from segdec_edge.errors import ConfigError


class Speed(Enum):
    SLOW = "slow"
    FAST = "fast"


class Camera(Settings):
    kind: Literal["replay"] = "replay"
    folder: Path = Path("pictures")
    rate_hz: float = 5.0


class Generator(Settings):
    kind: Literal["generator"] = "generator"
    seed: int = 0


class Whole(Settings):
    size_hw: tuple[int, int] = (64, 64)
    epochs: int = 1
    rate: float = 0.1
    name: str = ""
    loop: bool = False
    speed: Speed = Speed.SLOW
    camera: Camera = Camera()
    spare: Camera | None = None
    sources: tuple[Annotated[Camera | Generator, Field(discriminator="kind")], ...] = ()
    by_line: dict[str, Camera] = Field(default={})

    @field_validator("name")
    @classmethod
    def _short(cls, name: str) -> str:
        if len(name) > 8:
            raise ValueError(f"{name!r} has more than 8 letters. Shorten it.")
        return name

    @model_validator(mode="after")
    def _slow_is_short(self) -> Whole:
        if self.speed is Speed.SLOW and self.epochs > 100:
            raise ValueError("over 100 epochs at slow speed. Set speed = 'fast'.")
        return self


class Strict(Settings):
    needed: int


def load(folder: Path, text: str) -> Whole:
    path = folder / "whole.toml"
    path.write_text(text, encoding="utf-8")
    return load_toml(Whole, path)


def mistakes(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value).splitlines()


def test_toml_arrays_and_strings_stand_for_tuples_paths_and_enums(tmp_path: Path) -> None:
    text = 'size_hw = [704, 256]\nspeed = "fast"\n[camera]\nfolder = "more/pictures"\nrate_hz = 5\n'
    whole = load(tmp_path, text + '[[sources]]\nkind = "generator"\nseed = 3\n')
    assert whole.size_hw == (704, 256)
    assert whole.speed is Speed.FAST
    assert whole.camera == Camera(folder=Path("more/pictures"), rate_hz=5.0)
    assert isinstance(whole.camera.rate_hz, float)
    assert whole.sources == (Generator(seed=3),)


def test_the_command_line_may_give_paths_and_tuples() -> None:
    values = {"size_hw": (704, 256), "camera": {"folder": Path("more")}}
    assert check(Whole, values, "options") == Whole(size_hw=(704, 256), camera=Camera(folder=Path("more")))


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Whole()


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbfepochs = 7\r\n")
    assert load_toml(Whole, path).epochs == 7


def test_a_date_without_quotes_is_a_text(tmp_path: Path) -> None:
    assert load(tmp_path, "name = 07:32:00").name == "07:32:00"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('epochs = "5"', "epochs is '5': input should be a valid integer"),
        ("epochs = 5.0", "epochs is 5.0: input should be a valid integer"),
        ("epochs = true", "epochs is True: input should be a valid integer"),
        ('rate = "0.1"', "rate is '0.1': input should be a valid number"),
        ("rate = nan", "rate is nan: input should be a finite number"),
        ("rate = -inf", "rate is -inf: input should be a finite number"),
        ("name = 5", "name is 5: input should be a valid string"),
        ("loop = 1", "loop is 1: input should be a valid boolean"),
        ("size_hw = 704", "size_hw is 704: input should be a valid array"),
        ('size_hw = [704, "256"]', "size_hw.1 is '256': input should be a valid integer"),
        ("size_hw = [704]", "size_hw.1 is missing. Add it."),
        ("size_hw = [1, 2, 3]", "size_hw is [1, 2, 3]: tuple should have at most 2 items"),
        ('speed = "quick"', "speed is 'quick': input should be 'slow' or 'fast'"),
        ("camera = 5", "camera is 5: input should be a table."),
        ("[camera]\nfolder = 5", "camera.folder is 5: input should be a valid string"),
        ('name = "much too long"', "name: 'much too long' has more than 8 letters. Shorten it."),
        ("epochs = 200", "over 100 epochs at slow speed. Set speed = 'fast'."),
    ],
)
def test_a_wrong_value_is_refused_and_told(tmp_path: Path, text: str, told: str) -> None:
    (line,) = mistakes(tmp_path, text)
    assert line.startswith(f"{tmp_path / 'whole.toml'}: {told}")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("epoch = 5", "unknown setting epoch. Did you mean epochs?"),
        ("[camera]\nrate = 5", "unknown setting camera.rate. Did you mean rate_hz?"),
        ("[spare]\nflder = 5", "unknown setting spare.flder. Did you mean folder?"),
        ('[[sources]]\nkind = "generator"\nsede = 5', "unknown setting sources.0.sede. Did you mean seed?"),
        (
            '[[sources]]\nkind = "generator"\nfolder = "x"',
            "unknown setting sources.0.folder. Known here: kind, seed.",
        ),
        ("[by_line.left]\nfoldr = 5", "unknown setting by_line.left.foldr. Did you mean folder?"),
        ("[camera]\nzzz = 5", "unknown setting camera.zzz. Known here: folder, kind, rate_hz."),
    ],
)
def test_an_unknown_setting_gets_a_suggestion(tmp_path: Path, text: str, told: str) -> None:
    assert mistakes(tmp_path, text) == [f"{tmp_path / 'whole.toml'}: {told}"]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    lines = mistakes(tmp_path, 'epoch = 5\nrate = "fast"\nsize_hw = [1]\n[camera]\nfolder = 3\n')
    assert len(lines) == 4
    assert all(line.startswith(str(tmp_path / "whole.toml")) for line in lines)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^here: needed is missing\. Add it\.$"):
        check(Strict, {}, "here")


def test_a_value_that_no_setting_can_be_is_a_bug() -> None:
    with pytest.raises(TypeError):
        check(Strict, {"needed": object()}, "here")


@pytest.mark.parametrize(
    "content", [b"epochs = ", b"epochs = 1\nepochs = 2\n", b"[camera\n", b"name = '\xff\xfe'", b"\x00\x01"]
)
def test_invalid_toml_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not valid TOML") as caught:
        load_toml(Whole, path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read \(No such file or directory\)"):
        load_toml(Whole, tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        load_toml(Whole, tmp_path)


def test_settings_are_frozen() -> None:
    field: Any = "epochs"
    with pytest.raises(ValueError, match="frozen"):
        setattr(Whole(), field, 2)
