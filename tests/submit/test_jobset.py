"""Manifests are valid, of the right size, and tell a mistake from a pre-emption."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tiny import write_experiment, write_noise

from encdec_jax.errors import UserError
from encdec_jax.submit import jobset
from encdec_jax.submit.dispatch import submit
from encdec_jax.submit.gang import FAILED, FAILED_ONE, LOST, SAVED
from encdec_jax.submit.site import KubernetesSite, Site, checked
from encdec_jax.submit.slice import tpu_slice

SITE = KubernetesSite(image="example.org/encdec", namespace="me", claim="shared", secret="keys", queue="q", cpus="8")
SITES = {
    "cpu": replace(SITE, memory="64Gi"),
    "gpu": replace(SITE, gpus=8, constraint="cloud.google.com/gke-spot=true,kind=h100"),
    "tpu": replace(SITE, tpu="v5e", account="robot"),
}
PUBLISHED = Path(os.environ.get("ENCDEC_PUBLISHED", Path(__file__).parents[3] / "shared/published"))


def manifest(kind: str, devices: int = 16) -> dict:
    return jobset.jobset("encdec-a-0", ["python", "-m", "x"], devices, SITES[kind])


def strict(schema):
    """The same schema, with fields refused that it does not name."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(part) for name, part in schema.items()}
    return {"additionalProperties": False, **made} if isinstance(made.get("properties"), dict) else made


def test_a_jobset_has_the_form_of_its_definition():
    jsonschema = pytest.importorskip("jsonschema")
    path = PUBLISHED / "jobset/jobset_v1alpha2.schema.json"
    if not path.exists():
        pytest.skip(f"no JobSet schema: {path} is absent (ENCDEC_PUBLISHED names its folder)")
    schema = strict(json.loads(path.read_text()))
    check = jsonschema.Draft202012Validator(schema)
    for kind in SITES:
        for devices in (1, 16):
            check.validate(manifest(kind, devices))
    with pytest.raises(jsonschema.ValidationError):
        check.validate({**manifest("cpu"), "spec": {"replicas": 1}})


@pytest.mark.parametrize("devices", [1, 16])
@pytest.mark.parametrize("kind", SITES)
def test_its_jobs_and_pods_are_kubernetes_own(kind, devices):
    validate = pytest.importorskip("kubernetes_validate")
    job = manifest(kind, devices)["spec"]["replicatedJobs"][0]["template"]["spec"]
    whole = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}, "spec": job}
    validate.validate(whole, "1.31", strict=True)
    job["template"]["spec"]["containers"][0]["imagee"] = "x"
    with pytest.raises(validate.ValidationError):
        validate.validate(whole, "1.31", strict=True)


def test_a_gang_meets_at_its_first_pod():
    data = manifest("tpu")
    job = data["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (4, 4, "Indexed")
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert env["JAX_COORDINATOR_ADDRESS"] == "encdec-a-0-gang-0-0.encdec-a-0:8476"
    assert env["JAX_NUM_PROCESSES"] == "4"
    assert container["resources"]["limits"]["google.com/tpu"] == "4"
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x4",
    }
    assert manifest("gpu")["spec"]["replicatedJobs"][0]["template"]["spec"]["completions"] == 2


def test_pods_of_a_slice_stay_together_and_those_of_gpus_have_memory_to_share():
    """Else two runs may share out two slices of one topology; and NCCL fails in the 64 MiB of a container."""
    whole = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    assert manifest("tpu")["metadata"]["annotations"] == whole
    for kind, devices in (("tpu", 4), ("gpu", 16), ("cpu", 16)):
        assert "annotations" not in manifest(kind, devices)["metadata"]
    for kind, devices, shared in (("gpu", 16, 1), ("gpu", 1, 0), ("cpu", 16, 0), ("tpu", 16, 0)):
        pod = manifest(kind, devices)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
        mounts = {one["mountPath"]: one["name"] for one in pod["containers"][0]["volumeMounts"]}
        assert ("/dev/shm" in mounts) == bool(shared)
        assert [one["emptyDir"] for one in pod["volumes"] if "emptyDir" in one] == [{"medium": "Memory"}] * shared
        assert set(mounts.values()) == {one["name"] for one in pod["volumes"]}


def test_nodes_are_those_that_the_site_says():
    pod = manifest("gpu")["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"cloud.google.com/gke-spot": "true", "kind": "h100"}
    for wrong in ("h100", "a=b c", "=a", "a=b,", "a=b,,c=d"):
        with pytest.raises(UserError, match=r"constraint = .* is not accepted: labels, as"):
            checked(Site(kubernetes=KubernetesSite(constraint=wrong)))


@pytest.mark.parametrize(
    ("family", "devices", "pods", "each", "shape"),
    [
        ("v5e", 1, 1, "1", "1x1"),
        ("v5e", 256, 64, "4", "16x16"),
        ("v5p", 8, 2, "4", "2x2x2"),
        ("v4", 8, 1, "4", "2x2x1"),
    ],
)
def test_a_slice_is_as_large_as_its_mesh(family, devices, pods, each, shape):
    found = tpu_slice(family, 0, devices)
    assert (found.pods, found.resources["google.com/tpu"]) == (pods, each)
    assert found.selector["cloud.google.com/gke-tpu-topology"] == shape


def test_a_mesh_that_no_slice_holds_is_refused():
    with pytest.raises(UserError, match="mesh = '6 devices' is not accepted: of 1, 4, 8, 16"):
        tpu_slice("v5e", 0, 6)
    with pytest.raises(UserError, match="tpu = 'v7' is not accepted: one of v4"):
        tpu_slice("v7", 0, 1)


def outcome(code: int | None) -> str:
    """What becomes of a JobSet whose pod ended with a code, or was disrupted (None), as Kubernetes words it."""
    spec = manifest("cpu", 1)["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    for place, rule in enumerate(job["podFailurePolicy"]["rules"]):
        if code is None and "onPodConditions" in rule:
            why = "Pod me/a has condition DisruptionTarget"
        elif code is not None and code in rule.get("onExitCodes", {}).get("values", ()):
            why = f"Container run for pod me/a failed with exit code {code}"
        else:
            continue
        message = f"{why} matching {rule['action']} rule at index {place}"
        for policy in spec["failurePolicy"]["rules"]:
            patterns = policy.get("onJobFailureMessagePatterns", [".*"])
            if any(re.fullmatch(pattern, message) for pattern in patterns):
                return policy["action"]
    return f"RestartJobSet, {spec['failurePolicy']['maxRestarts']} times"


def test_a_mistake_is_not_tried_again_and_a_pre_emption_is():
    assert outcome(FAILED) == "FailJobSet"
    for code in (None, SAVED, FAILED_ONE):
        assert outcome(code) == "RestartJobSetAndIgnoreMaxRestarts"
    for code in (LOST, 137, 134):
        assert outcome(code) == f"RestartJobSet, {jobset.RESTARTS} times"


def test_no_secret_enters_a_manifest(folders, monkeypatch):
    write_noise()
    monkeypatch.setenv("WANDB_API_KEY", "hush")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folders / "config"))
    study = write_experiment(folders / "study")
    done = submit(study, "k8s", image="i", claim="c", secret="keys")
    assert "hush" not in done.text
    assert not {"&", "*"} & {word[0] for word in done.text.split()}  # anchors, which not every reader takes
    assert done.submitted == []
    found = list(yaml.safe_load_all(done.text))
    assert len(found) == len(done.missing) == 4
    assert len({one["metadata"]["name"] for one in found}) == 4
    for one in found:
        (container,) = one["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "keys"}}]
        assert container["command"][:4] == ["python", "-m", "encdec_jax.submit.gang", "study"]
    assert len(list(yaml.safe_load_all(submit(study, "k8s", workers=2, image="i", claim="c").text))) == 2
    with pytest.raises(UserError, match=r"ENCDEC_RUNS = .* is not accepted: a bucket"):
        submit(study, "k8s", image="i")
    with pytest.raises(UserError, match="image = None is not accepted"):
        submit(study, "k8s", claim="c")


def test_what_was_applied_is_queued_until_it_ends(folders, monkeypatch):
    """By a kubectl that remembers what it was given."""
    write_noise()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folders / "config"))
    kept: list[dict] = []

    def called(command, text=None):
        if command[1] == "apply":
            kept.extend(yaml.safe_load_all(text))
        if command[1] == "delete":
            kept[:] = [one for one in kept if one["metadata"]["name"] != command[3]]
        return json.dumps({"items": kept})

    monkeypatch.setattr(jobset, "called", called)
    study = write_experiment(folders / "study")
    first = submit(study, "k8s", apply=True, image="i", claim="c", namespace="me")
    assert len(first.submitted) == 4
    again = submit(study, "k8s", apply=True, image="i", claim="c", namespace="me")
    assert (again.missing, again.submitted, len(again.queued)) == ([], [], 4)
    kept[0]["status"] = {"conditions": [{"type": "Failed", "status": "True"}]}
    names = {one["metadata"]["name"] for one in kept}
    third = submit(study, "k8s", apply=True, image="i", claim="c", namespace="me")
    assert third.missing == [first.submitted[0].tasks[0][0]]
    assert third.submitted[0].job.partition("/")[2] not in names


def test_of_many_jobsets_none_is_submitted_twice_where_kubectl_stops_on_the_way(folders, monkeypatch):
    write_noise()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folders / "config"))
    monkeypatch.setattr(jobset, "PART", 1)
    kept: list[dict] = []

    def called(command, text=None):
        if command[1] == "apply":
            kept.extend(yaml.safe_load_all(text))
            if len(kept) == 2:
                raise UserError("kubectl does not answer within two minutes")
        return json.dumps({"items": kept})

    monkeypatch.setattr(jobset, "called", called)
    study = write_experiment(folders / "study")
    with pytest.raises(UserError, match="kubectl does not answer"):
        submit(study, "k8s", apply=True, image="i", claim="c")
    again = submit(study, "k8s", apply=True, image="i", claim="c")
    assert (len(again.queued), len(again.missing), len(kept)) == (2, 2, 4)
    assert len({one["metadata"]["name"] for one in kept}) == 4
