"""Trajectories of the published Shampoo and SOAP on problems where every factor has full rank when it is decomposed, so
that rounding decides nothing: shampoo_blocks.safetensors, soap_square.safetensors.

    python make_firm.py OPTIMIZERS SOAP OUT

OPTIMIZERS: facebookresearch/optimizers at 35bd72b, SOAP: nikhilvyas/SOAP, both checked out. SOAP's code rounds its factors
to f32 (Tensor.float); here that call keeps f64, all else is as published. Needs PyTorch."""
import sys

import torch

from make_more import CHECKPOINTS, save


def mean_of(shape):
    """The part that all gradients share: singular values in even steps from 1 to 0.2, so that one gradient has full rank."""
    if len(shape) == 1:
        return torch.zeros(shape)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    return (u * torch.linspace(1, 0.2, min(shape))) @ v


def trajectory(shapes, make):
    """Start, gradients and checkpoints of 45 steps; make(parameters) -> optimizer."""
    tensors, parameters = {}, {}
    for name, shape in shapes.items():
        tensors["p0." + name] = torch.randn(shape)
        tensors["g." + name] = mean_of(shape) + 0.1 * torch.randn(45, *shape)
        parameters[name] = torch.nn.Parameter(tensors["p0." + name].clone())
    optimizer = make(list(parameters.values()))
    for step in range(1, 46):
        for name, p in parameters.items():
            p.grad = tensors["g." + name][step - 1].clone()
        optimizer.step()
        if step in CHECKPOINTS:
            for name, p in parameters.items():
                tensors[f"p{step}.{name}"] = p.detach().clone()
    return tensors


def shampoo(parameters):
    from distributed_shampoo import DistributedShampoo
    from distributed_shampoo.shampoo_types import AdamGraftingConfig
    return DistributedShampoo(parameters, lr=0.01, betas=(0.9, 0.95), epsilon=1e-10, weight_decay=0.1, max_preconditioner_dim=8,
                              precondition_frequency=5, start_preconditioning_step=10, use_merge_dims=False,
                              preconditioner_dtype=torch.float64, grafting_config=AdamGraftingConfig(beta2=0.95, epsilon=1e-10))


def soap(parameters):
    from soap import SOAP
    torch.Tensor.float = lambda tensor: tensor
    return SOAP(parameters, lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01, precondition_frequency=5)


def main(optimizers, soap_folder, out):
    sys.path[:0] = [optimizers, soap_folder]
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    save(out + "/shampoo_blocks.safetensors", trajectory({"w": (12, 8), "u": (9, 20), "b": (8,)}, shampoo),
         {"source": "facebookresearch/optimizers DistributedShampoo 35bd72b, by make_firm.py",
          "settings": "lr 0.01, betas 0.9 0.95, eps 1e-10, weight_decay 0.1, max dim 8, frequency 5, start 10, no merging, Adam grafting"})
    save(out + "/soap_square.safetensors", trajectory({"w": (8, 8), "u": (10, 10), "b": (12,)}, soap),
         {"source": "nikhilvyas/SOAP, its factors kept in f64, by make_firm.py",
          "settings": "lr 0.01, betas 0.9 0.95, eps 1e-8, weight_decay 0.01, frequency 5"})


if __name__ == "__main__":
    main(*sys.argv[1:])
