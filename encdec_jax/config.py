"""The resolved configuration of one run: the rooms' frozen dataclasses, composed and checked against one another.

At the edge a configuration is data (an ml_collections ConfigDict, a JSON object); `from_dict` turns it into a
`RunConfig` and refuses unknown fields. Durations are in tokens, lengths in tokens, learning rates per update.
This module imports no jax: planning a sweep must start in under a second.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.errors import UserError
from encdec_jax.evaluate.config import EvalConfig
from encdec_jax.files import read_json
from encdec_jax.model.config import ModelConfig
from encdec_jax.ranges import POSITIVE, check_ranges
from encdec_jax.resolve import as_data, build, plain
from encdec_jax.train.config import MeshConfig, OptimConfig, TrainConfig


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's result.

    Attributes:
      model, data, objective, optim, train, evaluate, mesh: each room's part.
      budget_flops: training FLOPs that the run was matched to, above 0, if any.
    """

    model: ModelConfig
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvalConfig = field(default_factory=EvalConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    budget_flops: Annotated[float | None, POSITIVE] = None

    def __post_init__(self) -> None:
        for part in dataclasses.fields(self):
            object.__setattr__(self, part.name, plain(getattr(self, part.name)))
        check_ranges(self)
        objective_of(self.objective).check(self.model.choices, self.data)


def to_dict(config: Any) -> dict[str, Any]:
    """A frozen configuration as plain nested data, ready for JSON or a ConfigDict."""
    return dict(as_data(config))


def from_dict(data: Mapping[str, Any]) -> RunConfig:
    """A `RunConfig` from nested data.

    Raises:
      UserError: a field is unknown, missing, of the wrong type, or its value is not accepted.
    """
    return build(RunConfig, data)


def read_run(path: Path) -> RunConfig:
    """The `RunConfig` in a JSON file, as `to_dict` gives it.

    Raises:
      UserError: the file is missing or is not JSON, or as `from_dict`; it names the file.
    """
    data = read_json(path)
    try:
        return from_dict(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def execution(run: RunConfig) -> dict[str, Any]:
    """The fields that say how a run is executed, not what it computes, by path: 'mesh.data', 'model.scan', ..."""
    return {path: attrgetter(path)(run) for path in EXECUTION}


EXECUTION = tuple(
    f"{room.name}.{field.name}"
    for room in dataclasses.fields(RunConfig)
    if dataclasses.is_dataclass(part := get_type_hints(RunConfig)[room.name])
    for field in dataclasses.fields(part)
    if field.metadata.get("execution")
)
