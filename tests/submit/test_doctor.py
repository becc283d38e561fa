"""The doctor says what it sees, and ends with the reason where something is wrong."""

from __future__ import annotations

import jax
import pytest

from encdec_jax.cli.main import main
from encdec_jax.errors import UserError
from encdec_jax.submit import doctor as ward
from encdec_jax.submit.doctor import doctor, submit_doctor
from encdec_jax.train import hosts
from encdec_jax.train.versions import code


def test_it_says_what_one_process_sees(folders, capsys):
    assert doctor() == 0
    said = capsys.readouterr().out
    assert f"devices: {jax.device_count()} of cpu" in said
    assert f"code {code()}, jax " in said
    assert f"runs: {folders / 'runs'}: shared by 1 processes, atomic" in said
    assert f"a sum of 4 MiB over {jax.device_count()} devices is right" in said
    assert list((folders / "runs").iterdir()) == []


def test_a_folder_that_is_none_is_refused_before_jax_is_asked(folders, monkeypatch):
    monkeypatch.setattr(hosts, "join", lambda: pytest.fail("too late"))
    (folders / "runs").write_text("a file")
    with pytest.raises(UserError, match="can't write"):
        doctor()


def test_a_bucket_is_asked_for_what_claims_need(s3, folders, monkeypatch, capsys):
    monkeypatch.setenv("ENCDEC_RUNS", s3)
    assert doctor() == 0
    assert f"runs: {s3}: its conditional writes hold" in capsys.readouterr().out


def test_processes_that_differ_are_named():
    ward._check_same("code", ["a", "a"])
    with pytest.raises(UserError, match="code differs between processes 0 and 2 of this job: a, and b"):
        ward._check_same("code", ["a", "a", "b"])


@pytest.mark.parametrize(
    ("told", "message"),
    [(["11", "01"], "process 1 does not see"), (["11", "11"], "2 of 2 processes could create one"), (["10"], "0 of 1")],
)
def test_a_folder_that_is_not_shared_or_not_atomic_is_refused(folders, monkeypatch, told, message):
    said = iter([["name"], [""], told])
    monkeypatch.setattr(hosts, "every_text", lambda text, size: next(said))
    (folders / "runs").mkdir()
    with pytest.raises(UserError, match=message):
        ward._check_shared(folders / "runs", True)


def test_a_wrong_sum_is_refused(monkeypatch):
    right = jax.jit

    def wrong(function, **options):
        return right(lambda x: function(x).at[7].add(1), **options)

    monkeypatch.setattr(jax, "jit", wrong)
    with pytest.raises(UserError, match=f"the sum over {jax.device_count()} devices is wrong, in 1 of"):
        ward._sum_over_devices()


def test_as_a_job_it_is_of_the_size_asked_for(folders, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folders / "config"))
    assert submit_doctor("print", 16, False, gpus=8) == 0
    script = capsys.readouterr().out
    assert "#SBATCH --nodes=2\n#SBATCH --ntasks=2\n#SBATCH --gpus-per-node=8\n" in script
    assert script.rstrip().endswith("-m encdec_jax doctor")
    assert submit_doctor("k8s", 16, False, tpu="v5e", image="i", claim="c") == 0
    assert "gke-tpu-topology: 4x4" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--devices", "16"], ["--gpus", "8"], ["--apply"]])
def test_here_it_takes_no_options_of_a_job(options, capsys):
    assert main(["doctor", *options]) == 2
    assert f"{options[0]} = " in capsys.readouterr().err
