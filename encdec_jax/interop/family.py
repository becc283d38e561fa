"""A family of models as Hugging Face stores it: how config.json is read, and which tensor is which parameter. No jax.

A row of a family's table is the name of a tensor, with {i} for the number of the layer, and the path of the parameter
without the place of its block; or the paths of several, whose outputs are stored one behind the other. Rows whose
parameter a model does not have are of others of the family. A matrix is stored [outputs, inputs] there, and here with
its inputs first, heads and head_dim apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from encdec_jax.errors import require
from encdec_jax.model import declare
from encdec_jax.model.blocks import Plan, plans
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.param import leaves

Path = tuple[str, ...]
Row = Path | tuple[Path, ...]
FULL, SLIDING = "full_attention", "sliding_attention"


@dataclass(frozen=True)
class HFFamily:
    """One family.

    Attributes:
      read: the model of a config.json, given whether the output head is a table of its own.
      write: what of config.json a model decides.
      names: its table.
      same: tensors that are others' copies, by name.
      prefix: of names that files of the library's model without a head leave out.
      objective: what such models are trained on, as a converted run has it.
      inputs_first: matrices are stored [inputs, outputs].
      rows: tensors that are stored as one row.
      unused: tensors that are stored and enter nothing, * standing for anything.
    """

    read: Callable[[Mapping[str, Any], bool], ModelConfig]
    write: Callable[[ModelConfig], dict[str, Any]]
    names: Callable[[ModelConfig], Mapping[str, Row]]
    same: Mapping[str, str]
    unused: tuple[str, ...] = ()
    inputs_first: bool = False
    rows: tuple[str, ...] = ()
    prefix: str = ""
    objective: str = "prefix_lm"

    def tensors(self, config: ModelConfig) -> Iterator[tuple[str, tuple[Path, ...], int | None]]:
        """(name, paths, place among the layers that are stacked there, None for no layer's) of each tensor."""
        declared, stacks = dict(leaves(declare.model(config))), plans(config)
        for name, row in self.names(config).items():
            paths = tuple(one for one in row if isinstance(one, tuple)) or (tuple(map(str, row)),)
            if "{i}" not in name:
                if declared.keys() >= {*paths}:
                    yield name, paths, None
                continue
            side = paths[0][0]
            for i, (slot, place) in enumerate(layers(stacks[side]) if side in stacks else ()):
                whole = tuple((side, *slot, *path[1:]) for path in paths)
                if declared.keys() >= {*whole}:
                    yield name.format(i=i), whole, place


def rope_fields(config: ModelConfig) -> dict[str, Any]:
    """What rope_parameters says of a model's RoPE."""
    kind = "default" if config.rope_scaling == "none" else config.rope_scaling
    found: dict[str, Any] = {"rope_type": kind, "rope_theta": config.rope_theta}
    if kind != "default":
        found["factor"] = config.rope_factor
    if config.rope_original:
        found["original_max_position_embeddings"] = config.rope_original
    if kind == "llama3":
        found |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    return found


def linear(name: str, *path: str) -> dict[str, Path]:
    """Rows of a matrix and its bias."""
    return {f"{name}.weight": path, f"{name}.bias": (*path[:-1], f"{path[-1]}_bias")}


def norm(name: str, *path: str) -> dict[str, Path]:
    """Rows of a norm's scale and its bias."""
    return {f"{name}.weight": (*path, "scale"), f"{name}.bias": (*path, "bias")}


def layers(plan: Plan) -> Iterator[tuple[Path, int]]:
    """Of each layer of a stack, in order: the path of its block, and its place among those that are stacked there."""
    slots = [path for path, _, _ in plan.slots()]
    for segment in plan.segments:
        assert not segment.shared
        mine, slots = slots[: len(segment.period)], slots[len(segment.period) :]
        for place in range(segment.times):
            yield from ((path, place) for path in mine)


class Fields:
    """The fields of a config.json. One that is missing, or null, is as the library's defaults say."""

    def __init__(self, data: Mapping[str, Any], **defaults: Any) -> None:
        self._data, self._defaults = data, defaults

    def within(self, name: str, **defaults: Any) -> Fields:
        """The fields of an object in the file."""
        found = self._data.get(name)
        require(isinstance(found, dict), name, found, "an object with named fields")
        assert isinstance(found, dict)
        return Fields(found, **defaults)

    def __getitem__(self, name: str) -> Any:
        found = self._data.get(name)
        return self._defaults.get(name) if found is None else found

    def whole(self, name: str) -> int:
        """A whole number above 0."""
        found = self[name]
        require(type(found) is int and found > 0, name, found, "a whole number above 0")
        return int(found)

    def number(self, name: str) -> float:
        """A number above 0."""
        found = self[name]
        require(type(found) in (int, float) and found > 0, name, found, "a number above 0")
        return float(found)

    def cap(self, name: str) -> float:
        """A number above 0, or 0 for null."""
        return 0.0 if self._data.get(name, self._defaults.get(name)) is None else self.number(name)

    def flag(self, name: str) -> bool:
        """True or false."""
        found = self[name]
        require(type(found) is bool, name, found, "true or false")
        return bool(found)

    def one_of(self, name: str, accepted: Mapping[Any, Any]) -> Any:
        """What stands for the value of a field among those accepted."""
        found = self[name]
        known = any(found == one and type(found) is type(one) for one in accepted)
        require(known, name, found, "one of " + ", ".join(map(str, accepted)))
        return accepted[found]

    def only(self, name: str, *accepted: Any) -> None:
        """Nothing, where a field has one of the values that there are parts for."""
        self.one_of(name, dict.fromkeys(accepted))

    def rope(self, kind: str | None = None) -> dict[str, Any]:
        """RoPE as fields of the model, of one kind of layers where each has its own: its base, and what scales it.

        Newer files say it in rope_parameters, older ones in rope_theta and rope_scaling.
        """
        found = self._data.get("rope_parameters") or {}
        name = "rope_parameters" if kind is None else f"rope_parameters: {kind}"
        if kind is not None and isinstance(found, dict):
            found = found.get(kind) or {}
        require(isinstance(found, dict), name, found, "an object with rope_theta")
        older = self._data.get("rope_scaling") or {}
        require(isinstance(older, dict), "rope_scaling", older, "null, or an object with rope_type")
        old = {None: "rope_theta", FULL: "rope_theta", SLIDING: "rope_local_base_freq"}[kind]
        reach = self._data.get("max_position_embeddings")
        given = Fields(
            {**({} if kind == SLIDING else older), **found},
            rope_type=older.get("type", "default") if kind != SLIDING else "default",
            rope_theta=self[old],
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            beta_fast=32,
            beta_slow=1,
            truncate=True,
            original_max_position_embeddings=reach,
        )
        share = given["partial_rotary_factor"]
        require(share in (None, 1), "partial_rotary_factor", share, "1, or null")
        scaling = given.one_of("rope_type", {"default": "none", "linear": "linear", "llama3": "llama3", "yarn": "yarn"})
        parts: dict[str, Any] = {"rope_theta": given.number("rope_theta")}
        if scaling == "none":
            return parts
        for name, value in {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "beta_fast": 32, "beta_slow": 1}.items():
            require(given.number(name) == value, name, given[name], f"{value:g}")
        given.only("truncate", True)
        for name in ("attention_factor", "mscale", "mscale_all_dim"):
            require(given[name] is None, name, given[name], "null: what follows from factor")
        original = given.whole("original_max_position_embeddings") if scaling != "linear" else 0
        return {**parts, "rope_scaling": scaling, "rope_factor": given.number("factor"), "rope_original": original}

    def turns(self, n_layers: int, every: int, first: bool = False) -> dict[str, Any] | None:
        """`global_every` and `global_first` of a stack, where layers with and without a window take turns.

        Args:
          n_layers: layers.
          every: one of so many sees all, where the file does not list the layers; 0 for none.
          first: it is the first of them, not the last.

        Returns:
          None where every layer sees all.
        """

        def layers(period: int) -> list[str]:
            at = 0 if first else period - 1
            return [FULL if period and i % period == at else SLIDING for i in range(n_layers)]

        kinds = self._data.get("layer_types")
        kinds = layers(every) if kinds is None else kinds
        if kinds == [FULL] * n_layers:
            return None
        where = "first" if first else "last"
        accepted = f"{n_layers} of {FULL} and {SLIDING}: all alike, or {FULL} the {where} of each so many"
        periods = [period for period in range(n_layers + 1) if layers(period) == kinds]
        require(bool(periods), "layer_types", kinds, accepted)
        return {"global_every": periods[0], "global_first": first and periods[0] > 0}

    def windows(self, n_layers: int, every: int) -> tuple[int, int]:
        """`window` and `global_every` of a stack whose layers without a window are the last of their turns."""
        turns = self.turns(n_layers, every)
        return (0, 0) if turns is None else (self.whole("sliding_window"), turns["global_every"])


def layer_types(config: ModelConfig, side: str = "decoder") -> list[str]:
    """The list of a stack's layers with and without a window, as config.json has it."""
    blocks = [block for segment in plans(config)[side].segments for block in segment.period * segment.times]
    return [SLIDING if any(one.sees.window for one in block[0].layer.reads) else FULL for block in blocks]
