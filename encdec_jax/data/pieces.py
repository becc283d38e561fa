"""Train a SentencePiece vocabulary, the same one every time from the same text."""

from __future__ import annotations

import io
import random
import textwrap
from collections.abc import Iterable

import sentencepiece

from encdec_jax.data.vocab import EOS, PAD, UNK, SentencePieceVocab
from encdec_jax.errors import UserError

LINE = 1000  # characters; the trainer skips lines over 4192 bytes
LINES = 100_000  # the most that are looked at


def train(name: str, size: int, texts: Iterable[str]) -> SentencePieceVocab:
    """A unigram vocabulary that loses nothing: no normalisation, no space added in front, bytes for rare characters.

    SentencePiece's own sampling and threads differ from process to process, so the text is sampled here, by a fixed
    seed, and one thread trains.

    Args:
      name: of the vocabulary.
      size: pieces, with pad, eos, unk and the 256 bytes.
      texts: to train on, read once.

    Raises:
      UserError: the text gives fewer pieces than `size`, or `size` is too small for its characters.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(_sample(texts)),
            model_writer=model,
            vocab_size=size,
            model_type="unigram",
            pad_id=PAD,
            eos_id=EOS,
            unk_id=UNK,
            bos_id=-1,
            byte_fallback=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            num_threads=1,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1].rpartition("] ")[2]
        raise UserError(f"vocab_size = {size} is not accepted for this text: {reason}") from error
    return SentencePieceVocab(name, model.getvalue())


def _sample(texts: Iterable[str]) -> list[str]:
    """At most `LINES` lines, each as likely as any other (reservoir sampling)."""
    kept: list[str] = []
    draw = random.Random(0)
    lines = (line for text in texts for line in textwrap.wrap(text, LINE, break_on_hyphens=False))
    for seen, line in enumerate(lines):
        if seen < LINES:
            kept.append(line)
        elif (place := draw.randrange(seen + 1)) < LINES:
            kept[place] = line
    return kept
