"""What no mesh divides and no device could hold, refused before anything is planned, traced or allocated."""

from __future__ import annotations

from dataclasses import asdict

from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import check_rows, geometry
from encdec_jax.data.objectives.named import objective_of
from encdec_jax.errors import UserError, require
from encdec_jax.mesh import axis_of
from encdec_jax.model.blocks import ends
from encdec_jax.model.declare import known_positions, model
from encdec_jax.model.param import leaves

LARGEST = 2**44  # bytes of one device, hosts included: no machine has as many


def check_mesh(run: RunConfig, step: str = "train") -> None:
    """Refuse a mesh that does not divide what it is to divide, in training or another step ('prefill', 'decode').

    Raises:
      UserError: it does not divide a parameter, or the rows of a batch; or it divides tokens where they belong
        together.
    """
    check_tokens(run, step)
    for _, param in leaves(model(run.model)):
        for dim, axis in zip(param.shape, param.axes, strict=True):
            if (name := axis_of(axis, dim, asdict(run.mesh))) is not None:
                size = getattr(run.mesh, name)
                require(dim % size == 0, f"mesh.{name}", size, f"a divisor of the '{axis}' dimension of {dim}")
    check_rows(run)


def check_tokens(run: RunConfig, step: str = "train") -> None:
    """Refuse a mesh that divides tokens where they belong together.

    Raises:
      UserError: it does.
    """
    require(run.mesh.sequence == 1 or step == "train", "mesh.sequence", run.mesh.sequence, "1 in inference")
    shortest = min(n for n in (geometry(run).layout.source, geometry(run).layout.target) if n)
    accepted = f"at most the {shortest} tokens of the shortest stream"
    require(run.mesh.sequence <= shortest, "mesh.sequence", run.mesh.sequence, accepted)
    slots = "1, because experts with a capacity take a row's tokens in turn (model.experts.capacity = 0 takes all)"
    require(run.mesh.sequence == 1 or not run.model.experts.capacity, "mesh.sequence", run.mesh.sequence, slots)
    stages = "1, because places of a stage are of tokens side by side (model.block)"
    require(run.mesh.sequence == 1 or ends(run.model) == 1, "mesh.sequence", run.mesh.sequence, stages)
    cudnn = "1 with model.attention = 'cudnn', whose kernel takes whole rows; 'plain' divides them"
    require(run.mesh.sequence == 1 or run.model.attention != "cudnn", "mesh.sequence", run.mesh.sequence, cudnn)


def check_size(run: RunConfig) -> None:
    """Refuse a run of which one device would have to hold more than any has.

    That is float32 weights with two moments, and the first layer's input of a microbatch: less than it really takes.

    Raises:
      UserError: it would.
    """
    shape = geometry(run)
    count = sum(param.size for _, param in leaves(model(run.model)))
    weights = 12 * count // (run.mesh.fsdp * run.mesh.tensor)
    rows = max(1, shape.rows // (run.mesh.shards * run.train.accumulate))
    tokens = rows * (shape.layout.source + shape.layout.target)
    inputs = 4 * tokens * run.model.decoder.d_model // run.mesh.sequence
    for what, needed in ((f"model of {count:,} parameters", weights), (f"microbatch of {tokens:,} tokens", inputs)):
        if needed > LARGEST:
            raise UserError(
                f"a {what} takes {needed / 2**40:,.0f} TiB of each device, and none has more than {LARGEST >> 40}:"
                " make it smaller, or the mesh larger"
            )


def check_places(run: RunConfig) -> None:
    """Refuse a run whose sequences have positions that its model holds no weights for: their losses are no numbers.

    Raises:
      UserError: training's sequences, or those of the fair loss, reach further than `model.position_rows`.
    """
    most = known_positions(run.model)
    if most is None:
        return
    read = [geometry(run).sequence]
    if not objective_of(run.objective).pairs:
        read.append((run.evaluate.prefix, run.evaluate.suffix))
    for source, target in read:
        reach = max(source, target) if run.model.target_positions == "restart" else source + target
        accepted = f"at least {reach + run.model.position_offset}, for {source} tokens of source and {target} of target"
        require(reach <= most, "model.position_rows", run.model.position_rows, accepted)
