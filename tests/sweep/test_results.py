import pytest
from polars.testing import assert_frame_equal
from synthetic import Truth, study

from encdec_jax.errors import UserError
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.results import load

TABLE = study({"causal_lm": Truth()})


def test_a_table_is_found_by_its_path_its_folder_or_its_experiment(folders):
    root = folders / "runs" / "study"
    root.mkdir(parents=True)
    TABLE.write_parquet(root / "results.parquet")
    experiment = Experiment(**{**dict.fromkeys(Experiment.__dataclass_fields__), "name": "study"})
    for source in (root / "results.parquet", str(root), experiment):
        assert_frame_equal(load(source), TABLE)


@pytest.mark.parametrize("name", ["absent.parquet", "broken.parquet", "poor.parquet"])
def test_what_is_no_results_table_is_one_line(tmp_path, name):
    (tmp_path / "broken.parquet").write_text("no table")
    TABLE.drop("tokens").write_parquet(tmp_path / "poor.parquet")
    with pytest.raises(UserError, match="lacks columns: tokens" if name == "poor.parquet" else "can't read") as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)
