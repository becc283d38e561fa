"""Tables as strangers write them: read, or refused by what is wrong with them."""

import gzip
import io

import numpy as np
import pandas as pd
import polars as pl
import pytest

from encdec_jax.errors import UserError
from encdec_jax.laws.read import read
from encdec_jax.laws.table import points
from encdec_jax.sweep import results

ROLES = {"n": "params", "d": "tokens"}
TEXT = "params,tokens,loss\n62946271,7943282347,3.1402\n99763116,5011872336,3.0869\n"


def found(path) -> list[list[float]]:
    made = points(read(path), ROLES, "loss")
    return [made.columns["n"].tolist(), made.columns["d"].tolist(), made.loss.tolist()]


@pytest.mark.parametrize("name", ["runs[1].csv", "what?.csv", "all*.csv", "sweep[lr=0.1]/runs.csv", "a{b,c}.csv"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_path_is_that_of_one_file(tmp_path, name, suffix):
    path, others = tmp_path / name.replace(".csv", suffix), ("runs1", "whatx", "all1", "sweepl/runs", "ab", "lr=1/runs")
    for place, other in enumerate((path, *(tmp_path / (one + suffix) for one in others))):
        other.parent.mkdir(exist_ok=True)
        table = pl.DataFrame({"params": [1e8 + place], "tokens": [1e9], "loss": [3.0]})
        table.write_csv(other.open("wb")) if suffix == ".csv" else table.write_parquet(other.open("wb"))
    assert found(path)[0] == [1e8]


def test_a_results_table_is_the_one_of_its_path(tmp_path):
    for name, seed in (("t[1].parquet", 1), ("t1.parquet", 2), ("lr=3/results.parquet", 3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pl.DataFrame([{"seed": seed}], schema=results.SCHEMA).write_parquet((tmp_path / name).open("wb"))
    assert results.load(tmp_path / "t[1].parquet")["seed"].to_list() == [1]
    assert results.load(tmp_path / "lr=3")["seed"].to_list() == [3]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_and_separators_are_found_out(tmp_path, encoding, separator, end):
    path = tmp_path / "runs.csv"
    path.write_bytes(TEXT.replace(",", separator).replace("\n", end).encode(encoding))
    assert found(path) == [[62946271, 99763116], [7943282347, 5011872336], [3.1402, 3.0869]]


def test_a_mark_of_the_other_byte_order(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_bytes(b"\xfe\xff" + TEXT.encode("utf-16-be"))
    assert found(path)[2] == [3.1402, 3.0869]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1.5B", "70M"], [1.5e9, 7e7]),
        (["2 T", "350k"], [2e12, 3.5e5]),
        (["50,000,000", "500,000"], [5e7, 5e5]),
        (["1,000,000.5", "12"], [1000000.5, 12]),
        (["3,1402", "2,875"], [3.1402, 2.875]),
        (["0,5", "7"], [0.5, 7]),
        ([" 3.1e9 ", "1E9"], [3.1e9, 1e9]),
    ],
)
def test_numbers_as_people_write_them(cells, values):
    table = pl.DataFrame({"params": cells, "loss": [3.0, 2.0]})
    assert points(table, {"n": "params"}, "loss").columns["n"].tolist() == values


def test_semicolons_with_decimal_commas(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("params;tokens;loss\n62946271;7943282347;3,1402\n99763116;5011872336;3,087\n")
    assert found(path)[2] == [3.1402, 3.087]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.replace("params,tokens", "loss,params"), "columns = 'loss' is not accepted: names that differ"),
        ("params;tokens;loss\n1;2;3,140\n4;5;2,875\n", r"'3,140' is not accepted: 3.140 or 3140"),
        ("params;tokens;loss\n1.500;2;3,14\n2.500;5;2,87\n", "decimal comma of .* column 'params': 1.500"),
        ("a;params,tokens\n1;2,3\n", "separator of .* commas or semicolons"),
        (TEXT + "1,2\n", "row 3 has 2 cells by commas, the header 3"),
        (TEXT + "1,2,3,4\n", "row 3 has 4 cells by commas, the header 3"),
        (TEXT.encode("utf-16-le"), "encoding"),
        ("params,tokens,loss,größe\n1,2,3,4\n".encode("latin-1"), "encoding of .* byte 21 is not utf-8"),
        (gzip.compress(TEXT.encode(), mtime=0), "encoding"),
        ("", "it is empty"),
        ('params,tokens,loss\n"1,2,3\n', "can't read table"),
        (TEXT.replace("3.0869", "3,0869"), "row 2 has 4 cells"),
        (TEXT.replace("3.0869", "1_0"), "row 2 = '1_0' is not accepted: a number"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "runs.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        found(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [pl.List(pl.Float64), pl.Struct({"x": pl.Float64}), pl.Array(pl.Float64, 1)])
def test_nested_columns_are_refused_where_they_are_used_and_only_there(kind):
    cells = [{"x": 1e8}] if isinstance(kind, pl.Struct) else [[1e8]]
    table = pl.DataFrame({"params": [1e8], "loss": [3.0], "odd": pl.Series(cells, dtype=kind)})
    assert points(table, {"n": "params"}, "loss").loss.tolist() == [3.0]
    for arguments in (
        ({"n": "odd"}, "loss", {}),
        ({"n": "params"}, "odd", {}),
        ({"n": "params"}, "loss", {"labels": {"arch": "odd"}}),
        ({"n": "params"}, "loss", {"where": ["odd=1"]}),
    ):
        with pytest.raises(UserError, match=f"column 'odd'.* holds {kind.base_type().__name__}"):
            points(table, *arguments[:2], **arguments[2])


def test_frames_are_held_to_the_same():
    with pytest.raises(UserError, match="columns = 'loss'"):
        read(pd.DataFrame([[1, 2]], columns=["loss", "loss"]))
    with pytest.raises(UserError, match="column 'loss' is not accepted: values of one type"):
        read(pd.DataFrame({"loss": [1.0, "x"]}))
    with pytest.raises(UserError, match="can't read the table"):
        read(pl.LazyFrame({"loss": [1.0]}).select("absent"))


def test_columns_may_be_called_what_ours_are():
    table = pl.read_csv(io.StringIO("row of the table,status,params,weight,loss\n7,fine,1e8,x,3\n8,fine,2e8,y,2\n"))
    np.testing.assert_array_equal(points(table, {"n": "params"}, "loss").rows, [1, 2])


def test_exact_repeats_count_once_and_are_listed():
    table = pl.DataFrame({"params": [1e8, 2e8, 1e8, 1e8], "loss": [3.0, 2.0, 3.0, 3.0], "seed": [0, 0, 0, 1]})
    made = points(table, {"n": "params"}, "loss")
    assert made.rows.tolist() == [1, 2, 4]
    assert made.excluded == {"exact repeats of other rows": (3,)}


def test_budgets_that_are_measured_are_resampled_as_budgets():
    nominal = np.repeat([1e18, 1e19, 1e20], 2)
    table = pl.DataFrame({"flops": nominal * (1 + 1e-6 * np.arange(6)), "loss": np.linspace(3, 2, 6)})
    made = points(table, {"c": "flops"}, "loss", labels={"budget": "flops"})
    assert len(set(made.labels["budget"])) == 3
    assert made.columns["c"].tolist() == table["flops"].to_list()
    with pytest.raises(UserError, match=r"budget \(column 'b'\), row 2 = nothing"):
        points(table.with_columns(b=pl.Series([1, None, 1, 2, 2, 2])), {"c": "flops"}, "loss", labels={"budget": "b"})


@pytest.mark.parametrize("first", ["# runs of May", "params"])
def test_a_first_line_of_one_cell_above_rows_of_more_is_no_header(tmp_path, first):
    path = tmp_path / "runs.csv"
    path.write_text(f"{first}\n{TEXT}")
    with pytest.raises(UserError, match="row 1 has 3 cells by commas, the first line 1; it is to name the columns"):
        read(path)
    path.write_text("loss\n3.1\n3.0\n")
    assert read(path)["loss"].to_list() == ["3.1", "3.0"]
