"""The fixture tests/fixtures/hf/olmo3: a tiny random checkpoint with a window of 7 and stretched rotary parameters, and what
transformers 5.17 computes for it.

    python make_olmo3.py OUT

Names and direction as in the other fixtures (tests/parity/models.lua): v = sin(1 + 0.37 i) at flat index i."""
import sys

import torch
import transformers
from safetensors.torch import save_file

torch.manual_seed(5)
plain = {"rope_type": "default", "rope_theta": 10000.0}
stretched = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32,
             "attention_factor": 1.1386, "beta_fast": 32.0, "beta_slow": 1.0}
config = transformers.Olmo3Config(
    vocab_size=80, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=128, sliding_window=7, bos_token_id=0, eos_token_id=0, pad_token_id=None, rms_norm_eps=1e-6,
    rope_parameters={"full_attention": stretched, "sliding_attention": plain})
model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
with torch.no_grad():
    for p in model.parameters():
        p.add_(0.05 * torch.randn_like(p))

ids = torch.randint(0, 80, (2, 24))
result = model(ids, labels=ids, output_hidden_states=True)
names, params = zip(*model.named_parameters())
gradients = torch.autograd.grad(result.loss, params, create_graph=True)
directions = [torch.sin(1 + 0.37 * torch.arange(p.numel(), dtype=torch.float64)).float().view_as(p) for p in params]
products = torch.autograd.grad(sum((g * v).sum() for g, v in zip(gradients, directions)), params)

expect = {"input_ids": ids.int(), "logits": result.logits, "loss": result.loss.view(1)}
expect.update({f"hidden.{i}": h for i, h in enumerate(result.hidden_states)})
expect.update({"grad." + n: g for n, g in zip(names, gradients)})
expect.update({"hvp." + n: h for n, h in zip(names, products)})
model.save_pretrained(sys.argv[1])
save_file({k: t.detach().contiguous().clone() for k, t in expect.items()}, sys.argv[1] + "/expect.safetensors")
