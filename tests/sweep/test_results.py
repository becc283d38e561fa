import json
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from synthetic import Truth, study
from tiny import SUMMARY, write_experiment

from encdec_jax.errors import UserError
from encdec_jax.evaluate import LOSS
from encdec_jax.files import write_json
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.experiment import load as load_experiment
from encdec_jax.sweep.results import SCHEMA, collect_into, ended, load, put_figure

TABLE = study({"causal_lm": Truth()})


def test_a_table_is_found_by_its_path_its_folder_or_its_experiment(folders):
    root = folders / "runs" / "study"
    root.mkdir(parents=True)
    TABLE.write_parquet(root / "results.parquet")
    experiment = Experiment(**{**dict.fromkeys(Experiment.__dataclass_fields__), "name": "study"})
    for source in (root / "results.parquet", str(root), experiment):
        assert_frame_equal(load(source), TABLE)


def test_a_table_from_before_a_column_was_added_has_nulls_there(tmp_path):
    TABLE.drop("train_flops_padded").write_parquet(tmp_path / "results.parquet")
    found = load(tmp_path)
    assert found["train_flops_padded"].is_null().all()
    assert_frame_equal(found.drop("train_flops_padded"), TABLE.drop("train_flops_padded"))


@pytest.mark.parametrize("name", ["absent.parquet", "broken.parquet", "poor.parquet"])
def test_what_is_no_results_table_is_one_line(tmp_path, name):
    (tmp_path / "broken.parquet").write_text("no table")
    TABLE.drop("tokens").write_parquet(tmp_path / "poor.parquet")
    with pytest.raises(UserError, match="lacks columns: tokens" if name == "poor.parquet" else "can't read") as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


def study_of(folders, place: str) -> Path:
    """An experiment whose runs have all ended, with a report."""
    folder = write_experiment(folders / place / "study")
    experiment = load_experiment(folder)
    for identity, run in experiment.runs.items():
        experiment.run_folder(identity).mkdir(parents=True)
        ended_so = {"status": "done", "tokens_seen": run.train.tokens, "wall_s": float(len(place))}
        summary = {**SUMMARY, **ended_so, "suffix_bits_per_byte": 3.0}
        (experiment.run_folder(identity) / "summary.json").write_text(json.dumps(summary))
    put_figure(experiment, place.encode(), ended(experiment))
    return folder


def test_two_studies_of_one_folder_name_share_nothing(folders):
    """`collect` copied the second one's figure into the first."""
    first, second = (study_of(folders, place) for place in ("first", "second"))
    for folder in (first, second, first):
        collect_into(folder)
    assert (first / "figure.png").read_bytes() == b"first"
    assert (second / "figure.png").read_bytes() == b"second"
    assert pl.read_parquet(first / "results.parquet")["wall_s"].unique().to_list() == [5.0]


def test_a_figure_of_other_rows_is_not_collected(folders):
    folder = study_of(folders, "place")
    experiment = load_experiment(folder)
    summary = experiment.run_folder(next(iter(experiment.runs))) / "summary.json"
    summary.write_text(summary.read_text().replace("5.0", "6.0"))
    with pytest.raises(
        UserError, match=r"figure.png does not show the rows that the study has now: first encdec report"
    ):
        collect_into(folder)
    assert not (folder / "results.parquet").exists()
    put_figure(experiment, None, ended(experiment))
    assert not (experiment.root / "figure.png").exists()
    collect_into(folder)


def test_rows_of_an_unfinished_study_are_collected_where_that_is_asked_for(folders, capsys):
    folder = study_of(folders, "place")
    experiment = load_experiment(folder)
    (experiment.run_folder(next(iter(experiment.runs))) / "summary.json").unlink()
    put_figure(experiment, b"figure", ended(experiment))
    with pytest.raises(UserError, match=r"1 pending of 4 runs; give: encdec run .*, or --unfinished"):
        collect_into(folder)
    collect_into(folder, unfinished=True)
    assert "not finished: 1 pending of 4 runs" in capsys.readouterr().out
    assert_frame_equal(load(folder), ended(experiment))
    assert (folder / "figure.png").read_bytes() == b"figure"


def test_further_held_out_sets_and_scores_are_columns(folders):
    experiment = load_experiment(write_experiment(folders / "study"))
    for i, identity in enumerate(list(experiment.runs)[:2]):
        folder = experiment.run_folder(identity)
        folder.mkdir(parents=True)
        scored = {"held_out": {"validation/4": 3.5}, "held_out_se": {"validation/4": 0.1}} if i else {}
        scored |= {"dropped": 0.25, "dropped_eval": 0.125} if i else {}
        write_json(folder / "summary.json", SUMMARY | scored)
        if i:
            found = {"bleu": {"value": 12.5, "low": 11, "high": 14}, "matrix": {"value": "no number", "low": None}}
            write_json(folder / "evaluations/my_pairs-test/scores.json", {"scores": found})
    table = ended(experiment)
    column = f"{LOSS} validation/4"
    assert table.columns == [*SCHEMA, column, "suffix_bits_se validation/4", "bleu my_pairs-test"]
    assert table.filter(table[column] == 3.5)["suffix_bits_se validation/4"].to_list() == [0.1]
    assert table.filter(table[column] == 3.5)["bleu my_pairs-test"].to_list() == [12.5]
    assert sorted(table[column].to_list(), key=str) == [3.5, None]
    assert table.filter(table[column] == 3.5).select("dropped", "dropped_eval").rows() == [(0.25, 0.125)]
