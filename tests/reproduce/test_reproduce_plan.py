"""The paper's tables as settings: what each row switches, which runs it needs."""

from __future__ import annotations

from pathlib import Path
from typing import get_type_hints

import pytest

from segdec_edge.cli.reproduce import reproduce
from segdec_edge.errors import ConfigError
from segdec_edge.reproduce.notes import notes
from segdec_edge.reproduce.paper import SWITCHES, open_table
from segdec_edge.reproduce.plan import VARIANTS, plan

DATA = "kolektor:KolektorSDD"


def switches_on(job) -> list[str]:
    return [name for name in SWITCHES if getattr(job.settings, name)]


def test_table_v_switches_the_components_on_one_by_one() -> None:
    table = open_table("V", "kolektor")
    jobs = plan(table, DATA, folds=[0])
    assert [switches_on(job) for job in jobs] == [list(SWITCHES[:count]) for count in range(5)]
    assert {(job.settings.rate, job.settings.epochs, job.settings.boxes) for job in jobs} == {(0.5, 35, True)}
    assert [row.paper.average_precision for row in table.rows if row.paper] == [99.77, 99.88, 99.90, 99.88, 100.0]


def test_table_iii_switches_one_component_off() -> None:
    jobs = plan(open_table("III", "severstal"), "severstal:x")
    assert [set(SWITCHES) - set(switches_on(job)) for job in jobs] == [*({name} for name in SWITCHES), set()]
    assert {job.settings.batch for job in jobs} == {10}


def test_table_ii_keeps_the_number_of_steps_and_has_both_schemes() -> None:
    jobs = plan(open_table("II", "kolektor"), DATA, folds=[2])
    assert {job.settings.items: job.settings.epochs for job in jobs} == {33: 35, 25: 40, 20: 50, 15: 70, 10: 90, 5: 150}
    separate = [job.settings for job in jobs if job.settings.scheme == "separate"]
    assert len(separate) == 6 == len(jobs) - 6
    assert not any(one.distance_weights or one.frequency_sampling for one in separate)
    assert all(one.boxes and one.total_epochs == 2 * one.epochs for one in separate)


def test_table_iv_trains_longer_on_fewer() -> None:
    jobs = plan(open_table("IV", "severstal"), "severstal:x")
    assert [(job.settings.items, job.settings.epochs) for job in jobs] == [(3000, 40), (1500, 50), (750, 70), (300, 90)]


@pytest.mark.parametrize("key", ["III", "V"])
def test_the_ablation_on_severstal_is_of_a_thousand_for_fifty_epochs(key: str) -> None:
    table = open_table(key, "severstal")
    settings = [job.settings for job in plan(table, "severstal:x")]
    assert {(one.items, one.epochs, one.keep) for one in settings} == {(1000, 50, "best")}
    assert all(row.paper and row.paper.pictures == ((1000, 1000), (1000, 1000)) for row in table.rows)


@pytest.mark.parametrize("key", ["III", "V"])
def test_all_four_on_kolektor_is_the_training_of_table_ii(key: str) -> None:
    first = plan(open_table("II", "kolektor"), DATA, rows=["end-to-end-33"])
    assert [one.settings for one in plan(open_table(key, "kolektor"), DATA, rows=["all"])] == [
        one.settings for one in first
    ]


def test_severstal_is_evaluated_at_its_best_epoch_and_says_so() -> None:
    table = open_table("IV", "severstal")
    assert {job.variants for job in plan(table, "severstal:x")} == {(("ours", "best.pt"),)}
    assert "the epoch of the best AP on the validation pictures" in table.notes["keep"]


def test_the_classes_of_dagm_are_what_folds_are_elsewhere() -> None:
    jobs = plan(open_table("I", "dagm"), "dagm:DAGM", variants=["ours", "authors"])
    assert [job.settings.data for job in jobs[::2]] == [f"dagm:DAGM,class={number}" for number in range(1, 11)]
    assert {job.settings.fold for job in jobs} == {0}
    assert jobs[2].folder == "end-to-end/ours/class2-seed1337"
    assert [job.settings.epochs for job in jobs[:2]] == [50, 60]
    one = open_table("V", "dagm", one_class=True)
    assert {row.paper for row in one.rows} == {None}
    assert [job.folder for job in plan(one, "dagm:DAGM,class=2", rows=["all"])] == ["all/ours/fold0-seed1337"]


@pytest.mark.parametrize(
    ("key", "variants", "owner"),
    [
        ("items", ["ours"], "row end-to-end-33"),
        ("average_epochs", ["ours"], "variant averaged"),
        ("flips", ["improved"], "variant improved"),
        ("distance_per", ["authors"], "variant authors"),
        ("gradient_stop", ["ours"], "the rows of tables II, III and V"),
        ("seed", ["ours"], "--seeds"),
        ("fold", ["ours"], "--folds"),
    ],
)
def test_what_names_a_row_or_column_cannot_be_changed(key: str, variants: list[str], owner: str) -> None:
    with pytest.raises(ConfigError, match=f"--set {key}: {owner} sets it"):
        plan(open_table("II", "kolektor"), DATA, variants=variants, changes={key: 1})


def test_a_table_without_figures_for_a_data_set_has_none() -> None:
    assert [row.paper for row in open_table("V", "magnetic").rows] == [None] * 5
    assert open_table("V", "magnetic").folds == (None,)
    assert open_table("I", "dagm").preset == "dagm"


def test_rows_folds_seeds_and_changes_choose_what_is_run() -> None:
    table = open_table("II", "kolektor")
    jobs = plan(
        table, DATA, rows=["separate-5", "end-to-end-33"], seeds=[1, 2], changes={"size_hw": [704, 256], "epochs": 3}
    )
    assert len(jobs) == 2 * 2 * 3
    assert [job.row for job in jobs[:6]] == ["end-to-end-33"] * 6
    assert {(job.seed, job.fold) for job in jobs} == {(seed, fold) for seed in (1, 2) for fold in (0, 1, 2)}
    assert {(job.settings.size_hw, job.settings.epochs) for job in jobs} == {((704, 256), 3)}
    assert len({job.folder for job in jobs}) == len(jobs)


def test_variants_that_differ_in_averaging_alone_share_a_training() -> None:
    jobs = plan(
        open_table("II", "kolektor"), DATA, rows=["end-to-end-33"], folds=[0],
        variants=["ours", "averaged", "mirrored", "improved", "authors"],
    )  # fmt: skip
    assert [job.variants for job in jobs] == [
        (("ours", "checkpoint.pt"), ("averaged", "averaged.pt")),
        (("mirrored", "checkpoint.pt"), ("improved", "averaged.pt")),
        (("authors", "checkpoint.pt"),),
    ]
    assert [job.settings.average_epochs for job in jobs] == [10, 10, 0]
    assert [job.settings.flips for job in jobs] == [False, True, False]
    assert jobs[2].settings.distance_per == "image"


def test_what_is_named_twice_is_trained_once() -> None:
    table = open_table("II", "kolektor")
    row = "end-to-end-33"
    jobs = plan(table, DATA, rows=[row, row], variants=["ours", "ours"], folds=[0, 0], seeds=[1, 1])
    assert [(job.folder, job.variants) for job in jobs] == [(f"{row}/ours/fold0-seed1", (("ours", "checkpoint.pt"),))]
    with pytest.raises(ConfigError, match="no variant named, wanted at least one"):
        plan(table, DATA, variants=[])


def test_variants_that_differ_in_what_has_no_effect_share_a_training() -> None:
    jobs = plan(open_table("II", "kolektor"), DATA, rows=["separate-33"], folds=[0], variants=["ours", "authors"])
    assert [job.variants for job in jobs] == [(("ours", "checkpoint.pt"), ("authors", "checkpoint.pt"))]


def test_every_variant_is_another_training_or_another_file_of_it() -> None:
    table, row = open_table("II", "kolektor"), ["end-to-end-33"]
    (ours,) = plan(table, DATA, rows=row, folds=[0])
    for name in VARIANTS.keys() - {"ours"}:
        (other,) = plan(table, DATA, rows=row, folds=[0], variants=[name])
        assert other.settings != ours.settings, name


def test_every_variant_is_told_to_users() -> None:
    options = get_type_hints(reproduce, include_extras=True)
    (option,) = options["variants"].__metadata__
    assert option.help.rstrip(".").split(", ") == list(VARIANTS)
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    told = next(line for line in readme.splitlines() if "Variants: `ours`" in line).split("Variants: ")[1]
    assert {name for name in VARIANTS if f"`{name}`" not in told} == set()


@pytest.mark.parametrize(
    ("key", "kind", "told"),
    [
        ("VI", "kolektor", "'VI', wanted I, II, III, IV, V"),
        ("II", "dagm", "table II is about kolektor, got data of kind 'dagm'"),
    ],
)
def test_a_table_that_is_not_there_is_refused(key: str, kind: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        open_table(key, kind)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": ["end-to-end-34"]}, "row 'end-to-end-34' is not there, wanted end-to-end-33"),
        ({"variants": ["best"]}, "variant 'best' is not there, wanted ours"),
        ({"folds": [3]}, "fold 3 is not there, wanted 0, 1, 2"),
        ({"changes": {"speed": 1}}, "speed"),
    ],
)
def test_a_name_that_is_not_there_is_refused(changes: dict, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        plan(open_table("II", "kolektor"), DATA, **changes)


def test_a_fold_of_a_set_without_any_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--folds: magnetic has no published folds, it is split by --seeds"):
        plan(open_table("V", "magnetic"), "magnetic:x", folds=[0])


def test_a_note_of_a_setting_that_was_changed_is_left_out() -> None:
    table = open_table("IV", "severstal")
    for changes, told in (
        ({}, 2),
        ({"keep": "best"}, 2),
        ({"keep": "last"}, 1),
        ({"keep": "last", "splits": "x.pyb"}, 0),
    ):
        jobs = plan(table, "severstal:x", rows=["positives-300"], changes=changes)
        lines = notes(table, jobs, changes, ())
        assert sum(line in table.notes.values() for line in lines) == told
