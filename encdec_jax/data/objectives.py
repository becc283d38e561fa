"""How windows of text become sources, targets and labels: pure functions, whatever the architecture.

What is random (where a prefix ends, which spans are noise) is drawn for each window from the seed and the window's
place in the training order, so neither the batch size nor the number of hosts changes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from encdec_jax.config import RunConfig
from encdec_jax.data.config import DataConfig, ObjectiveConfig
from encdec_jax.data.geometry import prefix_length, span_lengths
from encdec_jax.errors import require

if TYPE_CHECKING:
    from encdec_jax.data.vocab import Vocab

START = 0  # T5's decoder start token: the padding id; masks come from segments, never from ids


class Segments(NamedTuple):
    """n sources with their targets, each field's segments laid end to end.

    Attributes:
      source: int32 [sum of source_lengths].
      source_lengths: int64 [n], in tokens.
      inputs: int32 [sum of target_lengths], what the target's positions read.
      labels: int32 [sum of target_lengths], what they predict.
      target_lengths: int64 [n], in tokens.
    """

    source: np.ndarray
    source_lengths: np.ndarray
    inputs: np.ndarray
    labels: np.ndarray
    target_lengths: np.ndarray


def required_vocab_size(vocab: Vocab, data: DataConfig, objective: ObjectiveConfig) -> int:
    """Ids the model must know: the vocabulary's and, above them, the objective's sentinels."""
    if objective.name != "span_corruption":
        return vocab.size
    noise, _, target = span_lengths(data.length, objective.noise_density, objective.mean_span)
    return vocab.sentinel(target - noise)


def check_vocab_size(run: RunConfig, vocab: Vocab) -> None:
    """Check that the model of a run knows every id it will meet.

    Raises:
      UserError: naming the field, its value and the least that is accepted.
    """
    needed = required_vocab_size(vocab, run.data, run.objective)
    what = f"at least {needed}, the ids of vocabulary {run.data.vocab!r} and of the objective"
    require(run.model.vocab_size >= needed, "model.vocab_size", run.model.vocab_size, what)


def view(
    windows: np.ndarray, places: np.ndarray, objective: ObjectiveConfig, first_sentinel: int, seed: int
) -> Segments:
    """One segment for each window, by a text objective (all but 'seq2seq').

    Args:
      windows: int32 [n, L + 1].
      places: int [n], of the windows in the training order, counted through all epochs.
      objective: which view.
      first_sentinel: id of the first of span corruption's sentinels.
      seed: of the random draws.
    """
    length = windows.shape[1] - 1
    if objective.name == "span_corruption":
        noise, _, target = span_lengths(length, objective.noise_density, objective.mean_span)
        mask = noise_mask(length, noise, target - noise - 1, places, seed)
        return corrupt(windows[:, :-1], mask, first_sentinel)
    if objective.name == "causal_lm":
        cuts = np.zeros(len(windows), np.int64)
    elif objective.prefix == "random":
        cuts = random_cuts(length, places, seed)
    else:
        cuts = np.full(len(windows), prefix_length(length, objective))
    return cut(windows, cuts)


def cut(windows: np.ndarray, cuts: np.ndarray) -> Segments:
    """The first `cuts` [n] inputs of each window [n, L + 1] are the source, the other inputs the target."""
    length = windows.shape[1] - 1
    before = np.arange(length) < cuts[:, None]
    inputs = windows[:, :-1]
    return Segments(inputs[before], cuts, inputs[~before], windows[:, 1:][~before], length - cuts)


def random_cuts(length: int, places: np.ndarray, seed: int) -> np.ndarray:
    """Where each window's prefix ends: int64 [n] in 1 .. length - 1.

    Windows 2i and 2i + 1 of the training order are cut at k and length - k, so together they hold `length` tokens of
    source and `length` of target.
    """
    first = np.array([_generator(seed, pair).integers(1, length) for pair in (places // 2).tolist()], np.int64)
    return np.where(places % 2 == 0, first, length - first)


def noise_mask(length: int, noise: int, spans: int, places: np.ndarray, seed: int) -> np.ndarray:
    """Which tokens of each window are noise: bool [n, length], `noise` of them in `spans` runs.

    Kept and noise runs alternate, kept first; both ways of cutting a number of tokens into runs of at least one are
    uniform over all such ways (T5, arXiv 1910.10683, section 3.1.4).
    """
    kept = length - noise
    draws = np.stack([_generator(seed, place).random(length - 2) for place in places.tolist()])
    runs = np.stack([_parts(draws[:, : kept - 1], kept, spans), _parts(draws[:, kept - 1 :], noise, spans)], axis=-1)
    is_noise = np.tile([False, True], len(places) * spans)
    return np.repeat(is_noise, runs.reshape(-1)).reshape(len(places), length)


def corrupt(text: np.ndarray, mask: np.ndarray, first_sentinel: int) -> Segments:
    """The source keeps the text and one sentinel for each run of the mask; the target holds the runs.

    A target is, for each run, its sentinel and its tokens, then one sentinel more; its inputs are its labels shifted
    right behind `START`.

    Args:
      text: int32 [n, length].
      mask: bool [n, length], with as many True and as many runs of True in every row.
      first_sentinel: id of the first run's sentinel; the others count up from it.
    """
    n = len(text)
    starts = mask.copy()
    starts[:, 1:] &= ~mask[:, :-1]
    sentinel = (first_sentinel - 1 + starts.cumsum(axis=1)).astype(np.int32)
    source = np.where(starts, sentinel, text)[starts | ~mask].reshape(n, -1)
    runs = np.stack([sentinel, text], axis=-1)[np.stack([starts, mask], axis=-1)].reshape(n, -1)
    labels = np.concatenate([runs, sentinel[:, -1:] + 1], axis=1)
    lengths = np.full(n, labels.shape[1])
    flat = labels.reshape(-1)
    return Segments(source.reshape(-1), np.full(n, source.shape[1]), shifted(flat, lengths), flat, lengths)


def shifted(labels: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Inputs for segments' labels laid end to end: each segment moved right behind `START`."""
    inputs = np.roll(labels, 1)
    inputs[np.cumsum(lengths) - lengths] = START
    return inputs


def _generator(seed: int, place: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, place]))


def _parts(draws: np.ndarray, total: int, parts: int) -> np.ndarray:
    """Lengths [n, parts] of at least one that add up to `total`, ends ranked by `draws` [n, total - 1]."""
    ends = 1 + np.sort(np.argsort(draws, axis=1)[:, : parts - 1], axis=1)
    return np.diff(ends, axis=1, prepend=0, append=total)
