"""Loads what write.lua saved with Hugging Face transformers, and compares the logits; one JSON line a model.

    quench tests/parity/transformers/write.lua OUT && python read_back.py OUT

Needs PyTorch and transformers (tried with 2.11 and 5.17). Ends with status 1 if a model cannot be read, a tensor is missing or
left over, or a logit differs by more than 1e-5."""
import json
import os
import sys

import torch
import transformers
from safetensors.torch import load_file

root = sys.argv[1]
expect = load_file(root + "/expect.safetensors")
bad = 0
for name in sorted(d for d in os.listdir(root) if os.path.isdir(root + "/" + d)):
    more = {} if "mamba" in name else {"attn_implementation": "eager"}
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        root + "/" + name, dtype=torch.float32, output_loading_info=True, **more)
    with torch.no_grad():
        logits = model.eval()(expect[name + ".ids"].long()).logits
    off = (logits - expect[name + ".logits"]).abs().max().item()
    names = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"])
    bad += off > 1e-5 or bool(names)
    print(json.dumps({"model": name, "class": type(model).__name__, "largest_difference": off, "names": names}), flush=True)
sys.exit(bad > 0)
