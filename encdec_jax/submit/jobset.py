"""Kubernetes: a JobSet a run or a claim-loop. A JobSet restarts as a whole, which is what a gang needs.

A pod's end says what follows: 0, the runs have ended; 2, something that a user has to mend, and nothing is tried again;
3, 75 or a disruption (pre-emption, a drained node), the same again, as often as it takes; anything else, the same
again, a few times. Pods are told of each other by the names that JobSet gives them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from encdec_jax.errors import require
from encdec_jax.files import environment, place
from encdec_jax.submit.footprint import by_size
from encdec_jax.submit.gang import FAILED, FAILED_ONE, SAVED
from encdec_jax.submit.record import Queued, Submission, submissions, write_submission
from encdec_jax.submit.site import KubernetesSite
from encdec_jax.submit.slice import Slice, tpu_slice
from encdec_jax.submit.slurm import called
from encdec_jax.sweep.experiment import Experiment
from encdec_jax.sweep.scratch import check_processes

PART = 50  # JobSets that kubectl is given at a time: it takes a second for a few
RESTARTS = 5  # of a JobSet whose pods were killed, or hung, without a word from the cluster
GRACE = 120  # seconds that a pod has to save
PORT = 8476
MOUNT = "/encdec"  # of the claim: runs and tokens lie below
_OWNER = "app.kubernetes.io/managed-by"
# What the message of a Job that `podFailurePolicy` failed says of why.
_AGAIN = rf".*(DisruptionTarget|exit code ({FAILED_ONE}|{SAVED})\b).*"


@dataclass(frozen=True)
class Manifest:
    """A JobSet to be.

    Attributes:
      task: the runs of its gang.
      data: for kubectl.
    """

    task: list[str]
    data: dict[str, Any]


def manifests(
    experiment: Experiment, identities: Sequence[str], site: KubernetesSite, workers: int | None
) -> list[Manifest]:
    """The JobSets that do runs, one for each, or `workers` for each size of mesh.

    Args:
      experiment: of the runs.
      identities: of the runs, in the order to begin them.
      site: what pods are made of.
      workers: claim-loops for each size, each of which goes through all runs of that size; None for a JobSet a run.

    Raises:
      UserError: a mesh fits no slice or node, or its several processes a bucket; the image is not said, or where the
        runs are to be.
    """
    family = hashlib.sha256(experiment.name.encode()).hexdigest()[:6]
    time = len(
        list(submissions(experiment.root, "k8s"))
    )  # names are not used again: a JobSet that has ended stays a while
    found = []
    for devices, runs in by_size(experiment, identities).items():
        if not site.claim:
            check_processes(experiment.root, tpu_slice(site.tpu, site.gpus, devices).pods)
        command = ["python", "-m", "encdec_jax.submit.gang", place(experiment.folder), "--runs"]
        if workers is None:
            made = [(identity, [identity]) for identity in runs]
        else:
            made = [(f"{devices}-devices-{worker}", runs) for worker in range(min(workers, len(runs)))]
        for name, task in made:
            data = jobset(f"encdec-{family}-{name}-{time}", [*command, ",".join(task)], devices, site)
            found.append(Manifest(task, data))
    return found


def jobset(name: str, command: Sequence[str], devices: int, site: KubernetesSite) -> dict[str, Any]:
    """The manifest of a JobSet.

    Args:
      name: of it.
      command: of each pod.
      devices: of the gang's mesh.
      site: what pods are made of.

    Raises:
      UserError: as `manifests`.
    """
    require(site.image is not None, "image", site.image, "an image that holds this package: --image, or in site.toml")
    size = tpu_slice(site.tpu, site.gpus, devices)
    again = {
        "action": "RestartJobSetAndIgnoreMaxRestarts",
        "onJobFailureReasons": ["PodFailurePolicy"],
        "onJobFailureMessagePatterns": [_AGAIN],
    }
    never = {"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
    labels = {_OWNER: "encdec"} | ({"kueue.x-k8s.io/queue-name": site.queue} if site.queue else {})
    job = {
        "completionMode": "Indexed",
        "completions": size.pods,
        "parallelism": size.pods,
        "backoffLimit": 0,
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": _codes(FAILED)},
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "FailJob", "onExitCodes": _codes(FAILED_ONE, SAVED)},
            ]
        },
        "template": {"metadata": {"labels": {_OWNER: "encdec"}}, "spec": _pod(name, command, size, site)},
    }
    meta: dict[str, Any] = {"name": name, "labels": labels}
    if site.namespace:
        meta["namespace"] = site.namespace
    if size.selector and size.pods > 1:  # or pods of two runs, each too few, may share out two slices of one topology
        meta["annotations"] = {"alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": meta,
        "spec": {
            "ttlSecondsAfterFinished": 86_400,
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": RESTARTS,
                "rules": [{"name": "disrupted", **again}, {"name": "mistaken", **never}],
            },
            "replicatedJobs": [{"name": "gang", "replicas": 1, "template": {"spec": job}}],
        },
    }


def _codes(*codes: int) -> dict[str, Any]:
    return {"containerName": "run", "operator": "In", "values": [*codes]}


def _pod(name: str, command: Sequence[str], size: Slice, site: KubernetesSite) -> dict[str, Any]:
    variables: list[dict[str, Any]] = []
    if size.pods > 1:
        field = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
        variables += [
            {"name": "JAX_COORDINATOR_ADDRESS", "value": f"{name}-gang-0-0.{name}:{PORT}"},
            {"name": "JAX_NUM_PROCESSES", "value": str(size.pods)},
            {"name": "JAX_PROCESS_ID", "valueFrom": field},
        ]
    amounts = dict(size.resources)
    amounts |= {"cpu": site.cpus} if site.cpus else {}
    amounts |= {"memory": site.memory} if site.memory else {}
    container: dict[str, Any] = {"name": "run", "image": site.image, "command": [*command]}
    if amounts:
        container["resources"] = {"requests": amounts, "limits": amounts}
    pod: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": GRACE, "containers": [container]}
    if site.claim:
        variables += [{"name": f"ENCDEC_{what.upper()}", "value": f"{MOUNT}/{what}"} for what in ("runs", "cache")]
        container["volumeMounts"] = [{"name": "encdec", "mountPath": MOUNT}]
        pod["volumes"] = [{"name": "encdec", "persistentVolumeClaim": {"claimName": site.claim}}]
    else:
        for variable in ("ENCDEC_RUNS", "ENCDEC_CACHE"):
            where = environment(variable) or ""
            accepted = "a bucket, as gs://mine/runs, that all pods see; or give a volume's --claim"
            require("://" in where, variable, where, accepted)
            variables.append({"name": variable, "value": where})
    container["env"] = variables
    if site.secret:
        container["envFrom"] = [{"secretRef": {"name": site.secret}}]
    if size.gpus > 1:  # what a container has of it, 64 MiB, is too little for NCCL
        container.setdefault("volumeMounts", []).append({"name": "shm", "mountPath": "/dev/shm"})
        pod.setdefault("volumes", []).append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    labels = [one.partition("=") for one in site.constraint.split(",")] if site.constraint else []
    if size.selector or labels:
        pod["nodeSelector"] = {**size.selector, **{name: value for name, _, value in labels}}
    if site.account:
        pod["serviceAccountName"] = site.account
    return pod


def text(made: Sequence[Manifest]) -> str:
    """Manifests as YAML."""
    import yaml

    class WithoutAnchors(yaml.SafeDumper):
        """Writes out what occurs twice."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return str(yaml.dump_all([one.data for one in made], Dumper=WithoutAnchors, sort_keys=False, width=120))


def apply(experiment: Experiment, made: Sequence[Manifest], site: KubernetesSite) -> list[Submission]:
    """Give JobSets to the cluster that kubectl speaks to, each noted before: what the cluster has tells if it took it.

    Raises:
      UserError: kubectl is not there, or the cluster refuses.
    """
    found = []
    for start in range(0, len(made), PART):
        part = made[start : start + PART]
        for one in part:
            job = f"{site.namespace or ''}/{one.data['metadata']['name']}"
            found.append(Submission("k8s", job, [one.task]))
            write_submission(experiment.root, found[-1])
        called(["kubectl", "apply", "-f", "-"], text(part))
    return found


def queued(experiment: Experiment) -> dict[str, Queued]:
    """The runs of JobSets that have not ended, as submitted from any machine.

    Raises:
      UserError: there are submissions to Kubernetes, and kubectl does not answer.
    """
    found: dict[str, Queued] = {}
    known = {submission.job: submission for submission in submissions(experiment.root, "k8s")}
    for namespace in sorted({job.partition("/")[0] for job in known}):
        where = ["--namespace", namespace] if namespace else []
        said = called(["kubectl", "get", "jobsets", *where, "--selector", f"{_OWNER}=encdec", "--output=json"])
        for item in json.loads(said)["items"]:
            job = f"{namespace}/{item['metadata']['name']}"
            conditions = {c["type"]: c for c in item.get("status", {}).get("conditions", []) if c["status"] == "True"}
            if job in known and not {"Completed", "Failed"} & set(conditions):
                waits = conditions.get("Suspended")
                state = ("SUSPENDED", waits.get("reason", "")) if waits else ("SUBMITTED", "")
                for identity in known[job].tasks[0]:
                    found.setdefault(identity, Queued("k8s", job, *state))
    return found


def delete(jobs: Sequence[str]) -> None:
    """Delete JobSets; their pods are sent SIGTERM, and have `GRACE` to save.

    Raises:
      UserError: kubectl is not there, or the cluster refuses.
    """
    for job in jobs:
        namespace, _, name = job.partition("/")
        called(
            ["kubectl", "delete", "jobset", name, *(["--namespace", namespace] if namespace else []), "--wait=false"]
        )
