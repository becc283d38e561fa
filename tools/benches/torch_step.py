"""Hugging Face's T5 on torch: for each line of input, one AdamW step, and its seconds as a line of output."""

import sys
import time

import torch
from transformers import T5Config, T5ForConditionalGeneration
from transformers.utils import logging

logging.set_verbosity_error()
rows, source, target, vocab, d_model, d_kv, heads, d_ff, layers = map(int, sys.argv[1:])
torch.manual_seed(0)
model = T5ForConditionalGeneration(
    T5Config(
        vocab_size=vocab,
        d_model=d_model,
        d_kv=d_kv,
        num_heads=heads,
        d_ff=d_ff,
        num_layers=layers,
        num_decoder_layers=layers,
        dropout_rate=0.0,
        decoder_start_token_id=0,
        use_cache=False,
    )
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
inputs, labels = torch.randint(3, vocab, (rows, source)), torch.randint(3, vocab, (rows, target))
for _ in sys.stdin:
    start = time.perf_counter()
    model(input_ids=inputs, labels=labels).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    print(time.perf_counter() - start, flush=True)
