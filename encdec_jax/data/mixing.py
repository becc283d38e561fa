"""`encdec prepare --mix`: several prepared tasks as one, by rates that can be changed without tokenising again.

The tokens of the mixture are its tasks' own, copied. In train every example stands at least once, and those of tasks
that are smaller than their rate says are repeated: one pass over the mixture has the rates. Held-out splits hold each
example once.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from encdec_jax.data.cache import TokenCache, write_cache
from encdec_jax.data.corpus import SPLITS
from encdec_jax.data.fetch.catalogue import PREFIXES
from encdec_jax.data.origin import Origin, origin
from encdec_jax.data.vocab import Vocab
from encdec_jax.data.writing import Document
from encdec_jax.errors import require

RATES = "'proportional', 'equal', 'temperature=T' with T of at least 1, or a weight above 0 for each task, as in '3,1'"


def mix(task: str, tasks: list[str], rates: str, vocab: str) -> Path:
    """Mix tasks that are prepared in one vocabulary, and print how much of each there is.

    Sources of pairs begin with their task's prefix, as in T5 (arXiv 1910.10683, section 2.4): that of
    `encdec_jax.data.fetch.catalogue.PREFIXES`, or the task's name and a colon.

    Args:
      task: the mixture's name.
      tasks: at least two.
      rates: 'proportional' to the numbers of examples; 'equal'; 'temperature=T', proportional to their power 1 / T; or
        weights, with commas between.
      vocab: as `data.vocab` has it.

    Returns:
      The folder of the mixture's tokens.

    Raises:
      UserError: an argument is not accepted, or the tasks' vocabularies or features differ.
    """
    require(len(tasks) >= 2 and len(set(tasks)) == len(tasks), "mix", ",".join(tasks), "at least two different tasks")
    require(task not in tasks, "task", task, "a name of the mixture's own")
    parts = [TokenCache.open(one, vocab) for one in tasks]
    for part, name in zip(parts, tasks, strict=True):
        same = part.vocab.model == parts[0].vocab.model
        accepted = f"tasks whose tokens are of one model; prepare {name} with --vocab {parts[0].folder}/vocab.model"
        require(same, "mix", name, accepted)
        accepted = f"tasks that all have {', '.join(parts[0].features)}, as {tasks[0]} has"
        require(part.features == parts[0].features, "mix", name, accepted)
        require("train" in part.splits, "mix", name, "tasks with a split named train")
    sizes = [len(part.offsets("train", "targets")) - 1 for part in parts]
    weights = weights_of(rates, sizes)
    paired = "inputs" in parts[0].features
    prefixes = {name: PREFIXES.get(name, f"{name}: ") for name in tasks} if paired else {}
    marks = [_mark(parts[0].vocab, prefixes.get(name, "")) for name in tasks]
    splits: dict[str, Any] = {"train": _documents(parts, "train", shares(sizes, weights), marks)}
    for split in SPLITS[1:]:
        held = [len(part.offsets(split, "targets")) - 1 if split in part.splits else 0 for part in parts]
        if any(held):
            splits[split] = _documents(parts, split, held, marks)
    source: Origin = {
        **origin(None, {}, [os.path.join(part.folder, "manifest.json") for part in parts]),
        "mix": ",".join(tasks),
        "rates": rates,
        "prefixes": prefixes,
    }
    made = write_cache(task, parts[0].vocab, parts[0].features, splits, lambda: source)
    for name, part, size, n in zip(tasks, parts, sizes, shares(sizes, weights), strict=True):
        tokens = part.manifest["splits"]["train"]["tokens"]["targets"] / size * n
        share = n / sum(shares(sizes, weights))
        print(f"{name}: {n:,} of {size:,} examples, {share:.1%} of the mixture, about {tokens:,.0f} tokens of targets")
        if name in prefixes:
            print(f"{name}: its sources begin with {prefixes[name]!r}")
    print(f"prepared: {made.folder}")
    return made.folder


def weights_of(rates: str, sizes: list[int]) -> list[float]:
    """The weight of each task, of any sum.

    Raises:
      UserError: the rates are not as they should be.
    """
    heat = re.fullmatch(r"temperature=([\d.]+)", rates)
    if rates in ("proportional", "equal"):
        return [float(size) if rates == "proportional" else 1.0 for size in sizes]
    if heat is not None:
        require(_positive(heat[1]) and float(heat[1]) >= 1, "rates", rates, RATES)
        return [size ** (1 / float(heat[1])) for size in sizes]
    given = rates.split(",")
    require(len(given) == len(sizes) and all(map(_positive, given)), "rates", rates, RATES)
    return [float(one) for one in given]


def shares(sizes: list[int], weights: list[float]) -> list[int]:
    """How many examples of each task are in one pass: in the ratio of the weights, and none less than there are."""
    unit = max(size / weight for size, weight in zip(sizes, weights, strict=True))
    return [max(size, round(weight * unit)) for size, weight in zip(sizes, weights, strict=True)]


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False


def _mark(vocab: Vocab, prefix: str) -> np.ndarray:
    """A prefix's ids. A vocabulary that puts a space in front of a text puts the one behind the prefix."""
    return np.array(vocab.encode(prefix if vocab.exact else prefix.rstrip()), np.int64)


def _documents(parts: list[TokenCache], split: str, numbers: list[int], marks: list[np.ndarray]) -> Iterator[Document]:
    """So many examples of each task, all in an order that is drawn once; repeated ones in whole rounds first."""
    draws = np.random.default_rng(0)
    owner = draws.permutation(np.repeat(np.arange(len(parts)), numbers))
    features = parts[0].features
    arrays: list[list[Any]] = []
    orders: list[Iterator[int]] = []
    for part, number in zip(parts, numbers, strict=True):
        if not number:
            arrays.append([])
            orders.append(iter(()))
            continue
        arrays.append([(part.tokens(split, feature), part.offsets(split, feature)) for feature in features])
        size = len(arrays[-1][0][1]) - 1
        rounds = [draws.permutation(size) for _ in range(-(-number // size))]
        orders.append(iter(np.concatenate(rounds)[:number].tolist()))
    for which in owner.tolist():
        at = next(orders[which])
        row = []
        for feature, (tokens, offsets) in zip(features, arrays[which], strict=True):
            ids = np.asarray(tokens[int(offsets[at]) : int(offsets[at + 1])], np.int64)
            row.append(np.concatenate([marks[which], ids]) if feature == "inputs" else ids)
        yield tuple(row)
