"""What fits where, for people (tables and a closing line) and for programs (one JSON object)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from encdec_jax import text
from encdec_jax.compute.capacity import MOST, Capacity, Rival, capacity, rivals
from encdec_jax.compute.devices import Device
from encdec_jax.compute.ledger import count
from encdec_jax.compute.sizes import describe
from encdec_jax.config import RunConfig
from encdec_jax.data.geometry import geometry
from encdec_jax.model.config import ModelConfig

TWICE = 1.5  # nearer to twice than to once, as a ratio


def print_memory(run: RunConfig, devices: list[Device], dtype: str, console: Console) -> None:
    """Print what of a run fits each device, beside matched decoders if it is an encoder-decoder.

    Args:
      run: the configuration.
      devices: where.
      dtype: of weights and cache in inference.
      console: where to print.

    Raises:
      UserError: as `capacity.rivals` and `capacity.capacity`.
    """
    compared = rivals(run)
    source, target = geometry(run).sequence
    console.print(_models(compared))
    for device in devices:
        found = [capacity(rival.run, device, dtype) for rival in compared]
        title = f"{device.name}: {text.size(device.memory_bytes)} of memory for a program"
        console.print(_train(title, run, compared, found))
        console.print(_infer(dtype, source, target, compared, found))
        for rival, one in zip(compared, found, strict=True):
            if one.over:
                console.print(f"{rival.label}: training lacks {text.size(one.over)}. {_remedy(one)}", highlight=False)
    if len(compared) > 1:
        console.print(_claim(run, compared, [capacity(rival.run, devices[0], dtype) for rival in compared], dtype))
    console.print(
        "One device holds everything. Activations are estimates (encdec_jax.compute.memory).",
        style="dim",
        highlight=False,
    )


def memory_json(run: RunConfig, devices: list[Device], dtype: str) -> dict[str, Any]:
    """What `print_memory` prints, as plain data.

    Returns:
      'lengths' and 'dtype'; 'models': label, shape, heads, parameters, training FLOPs of an update and the mismatch of
      what was matched; 'devices': by device, a list in the order of the models of the fields of `Capacity`, bytes as
      they are; 'over': by label of a decoder, the ratios of the encoder-decoder's bytes to its.

    Raises:
      UserError: as `capacity.rivals` and `capacity.capacity`.
    """
    compared = rivals(run)
    source, target = geometry(run).sequence
    found = {device.name: [capacity(rival.run, device, dtype) for rival in compared] for device in devices}
    first = found[devices[0].name]
    return {
        "lengths": {"source": source, "target": target},
        "dtype": dtype,
        "models": [_model_json(rival) for rival in compared],
        "devices": {name: [_fit_json(one) for one in ones] for name, ones in found.items()},
        "over": {rival.label: _ratios(first[0], one) for rival, one in zip(compared[1:], first[1:], strict=True)},
    }


def _model_json(rival: Rival) -> dict[str, Any]:
    ledger = count(rival.run)
    return {
        "label": rival.label,
        "shape": describe(rival.run.model),
        "heads": _heads(rival.run.model),
        "params": ledger.params.total,
        "train_flops": ledger.train_flops.mask,
        "mismatch": rival.mismatch,
    }


def _fit_json(one: Capacity) -> dict[str, Any]:
    data = asdict(one)
    data["train"]["total"], data["infer"]["total"] = one.train.total, one.infer.total
    return {**data, "over": one.over}


def _remedy(one: Capacity) -> str:
    if one.remedies:
        return f"It would fit with {'; or '.join(one.remedies)}."
    return "No change of batch, remat, dtype, optimizer or fsdp makes it fit: a smaller model would."


def _models(compared: list[Rival]) -> Table:
    table = text.titled("Models", "", "shape", "heads", "parameters", "train FLOPs an update", "mismatch")
    for rival in compared:
        ledger = count(rival.run)
        table.add_row(
            rival.label,
            describe(rival.run.model),
            _heads(rival.run.model),
            f"{ledger.params.total:,}",
            f"{ledger.train_flops.mask:.4g}",
            f"{rival.mismatch:+.2%}" if rival is not compared[0] else "",
        )
    return table


def _heads(model: ModelConfig) -> str:
    """Query heads, key heads where they are fewer, and their width: 16/4 of 64; both stacks' where they differ."""
    stacks = [stack for stack in (model.encoder, model.decoder) if stack]
    found = [
        f"{stack.n_heads}{f'/{stack.n_kv_heads}' if stack.n_kv_heads < stack.n_heads else ''} of {stack.head_dim}"
        for stack in stacks
    ]
    return " + ".join(dict.fromkeys(found))


def _train(title: str, run: RunConfig, compared: list[Rival], found: list[Capacity]) -> Table:
    table = text.titled(
        f"{title}\nTraining, {run.model.dtype}, batch {run.train.batch_size}",
        "", "weights", "gradients", "moments", "activations", "total", "fits", "largest batch", "longest window",
    )  # fmt: skip
    for rival, one in zip(compared, found, strict=True):
        parts = (one.train.weights, one.train.gradients, one.train.moments, one.train.activations, one.train.total)
        fits = "no" if one.over else f"yes, {one.train.total / one.memory:.0%}"
        table.add_row(rival.label, *map(text.size, parts), fits, _number(one.train_batch), _number(one.train_length))
    return table


def _infer(dtype: str, source: int, target: int, compared: list[Rival], found: list[Capacity]) -> Table:
    table = text.titled(
        f"Inference, {dtype}, {source} source and {target} target tokens",
        "", "weights", "cache a sequence", "activations", "total", "fits", "largest batch", "longest sequence",
    )  # fmt: skip
    for rival, one in zip(compared, found, strict=True):
        parts = (one.infer.weights, one.infer.cache, one.infer.activations, one.infer.total)
        fits = "no" if one.infer.total > one.memory else f"yes, {one.infer.total / one.memory:.0%}"
        table.add_row(rival.label, *map(text.size, parts), fits, _number(one.infer_batch), _number(one.infer_length))
    return table


def _claim(run: RunConfig, compared: list[Rival], found: list[Capacity], dtype: str) -> str:
    """Whether an encoder-decoder needs twice the memory of a decoder of as many parameters, in numbers."""
    of_params, of_flops = (_ratios(found[0], one) for one in found[1:])
    n, flops_n = (count(compared[0].run).params.total / count(rival.run).params.total for rival in compared[1:])
    most = max(of_params["training"], of_params["inference"])
    verdict = "needs about twice the memory" if most > TWICE else "does not need twice the memory"

    def numbers(ratio: dict[str, float]) -> str:
        return (
            f"{ratio['training']:.2f} times the bytes to train at batch {run.train.batch_size},"
            f" {ratio['inference']:.2f} times to decode one sequence in {dtype}, {ratio['cache']:.2f} times its cache"
        )

    return (
        f"This {run.model.arch} {verdict} of a decoder of as many parameters ({n:.2f} times): {numbers(of_params)}.\n"
        f"It has {flops_n:.2f} times the parameters of a decoder of as many training FLOPs, and against that one takes"
        f" {numbers(of_flops)}."
    )


def _ratios(own: Capacity, other: Capacity) -> dict[str, float]:
    return {
        "weights": own.train.weights / other.train.weights,
        "training": own.train.total / other.train.total,
        "inference": own.infer.total / other.infer.total,
        "cache": own.infer.cache / other.infer.cache,
    }


def _number(n: int) -> str:
    return "none" if n == 0 else f"{MOST:,} or more" if n >= MOST else f"{n:,}"
