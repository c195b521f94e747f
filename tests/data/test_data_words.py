from __future__ import annotations

import pytest

from segdec_edge.data.words import take_apart, with_absolute_path, without_folders


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("kolektor:/some/where/KolektorSDD", "kolektor:KolektorSDD"),
        ("dagm:/some/where/DAGM,class=1", "dagm:DAGM,class=1"),
        ("magnetic:~/sets/a,b/Tiles,group=picture", "magnetic:Tiles,group=picture"),
        ("synthetic:seed=1,n=240,size=256x256", "synthetic:seed=1,n=240,size=256x256"),
        ("synthetic:", "synthetic:"),
    ],
)
def test_a_record_names_the_data_set_and_no_folder_above_it(spec: str, told: str) -> None:
    assert without_folders(spec) == told


def test_what_is_generated_has_options_and_no_path() -> None:
    spec = "synthetic:seed=1,n=240,size=256x256"
    words = take_apart(spec)
    assert (words.path, words.options) == (None, {"seed": "1", "n": "240", "size": "256x256"})
    assert with_absolute_path(spec) == spec
