"""Trajectories of further published optimizers, f64: adamc, sophia, ademamix, adafactor, sam, asam, psgd (.safetensors).

    python make_more.py KOZISTR SOPHIA ADEMAMIX ASAM NOISE OUT

Checked out: kozistr/pytorch_optimizer (AdamC, Kron), Liuhong99/Sophia, apple/ml-ademamix (its folder pytorch), SamsungLabs/ASAM. Needs
PyTorch 2.5 or later (Adafactor). NOISE: a file with v.<name> (45, ...), the normal numbers V that q.optim.psgd draws with seed 0:
for a matrix, at each step, one uniform number from q.stream(0, name), then V. Kron's triangular solve keeps f64 here (as
published it rounds to f32)."""
import importlib
import json
import struct
import sys
import types

import torch

CHECKPOINTS = (1, 2, 3, 5, 10, 11, 20, 21, 30, 45)
SHAPES = {"w": (6, 4), "u": (4, 5), "b": (5,)}


def load(path):
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(size)), file.read()
    spans = {n: (i["shape"], *i["data_offsets"]) for n, i in header.items() if n != "__metadata__"}
    return {n: torch.frombuffer(bytearray(data[a:b]), dtype=torch.float64).view(shape) for n, (shape, a, b) in spans.items()}


def save(path, tensors, metadata):
    header, offset = {"__metadata__": metadata}, 0
    for name, t in tensors.items():
        size = 8 * t.numel()
        header[name] = {"dtype": "F64", "shape": list(t.shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            file.write(t.contiguous().numpy().tobytes())


class Case:
    """Start, gradients, a schedule; run(step) calls step(k) for each of 45 steps with the gradients in place, and saves."""

    def __init__(self, out, name, source, settings):
        self.path, self.metadata = f"{out}/{name}.safetensors", {"source": source, "settings": settings}
        self.tensors = {"lr_scale": torch.tensor([1 / (1 + 0.1 * k) for k in range(45)])}
        self.p = {}
        for n, shape in SHAPES.items():
            self.tensors["p0." + n], self.tensors["g." + n] = torch.randn(shape), torch.randn(45, *shape)
            self.p[n] = torch.nn.Parameter(self.tensors["p0." + n].clone())

    def gradients(self, k, decay=0.0, which="g."):
        for n, p in self.p.items():
            p.grad = self.tensors[which + n][k - 1] + decay * p.detach()

    def schedule(self, optimizer, lr, k):
        for group in optimizer.param_groups:
            group["lr"] = lr * self.tensors["lr_scale"][k - 1].item()

    def run(self, step):
        for k in range(1, 46):
            self.gradients(k)
            step(k)
            if k in CHECKPOINTS:
                for n, p in self.p.items():
                    self.tensors[f"p{k}.{n}"] = p.detach().clone()
        save(self.path, self.tensors, self.metadata)


def plain(case, optimizer, lr):
    def step(k):
        case.schedule(optimizer, lr, k)
        optimizer.step()
    case.run(step)


def sophia(case, optimizer, lr):
    for n, shape in SHAPES.items():
        case.tensors["h." + n] = torch.randn(45, *shape)

    def step(k):
        if k % 10 == 1:
            case.gradients(k, which="h.")
            optimizer.update_hessian()
            case.gradients(k)
        case.schedule(optimizer, lr, k)
        optimizer.step(bs=40)
    case.run(step)


def sharpness_aware(case, make):
    """The gradient at w is g + 0.1 w. Matrices are called weights, which ASAM scales."""
    del case.tensors["lr_scale"]
    model = types.SimpleNamespace(named_parameters=lambda: [(n + (".weight" if p.dim() > 1 else ".bias"), p) for n, p in case.p.items()])
    wrapper = make(torch.optim.AdamW(case.p.values(), lr=0.01, betas=(0.9, 0.95), weight_decay=0.1), model)

    def step(k):
        case.gradients(k, 0.1)
        wrapper.ascent_step()
        case.gradients(k, 0.1)
        wrapper.descent_step()
    case.run(step)


def psgd(case, module, noise, lr):
    module.solve_triangular_right = lambda x, a: torch.linalg.solve_triangular(a, x.reshape(-1, x.size(-1)), upper=True, left=False).reshape_as(x)
    optimizer = module.Kron(list(case.p.values()), lr=lr, momentum=0.9, weight_decay=0.1, precondition_dtype=torch.float64, balance_prob=0.0)
    drawn = (noise["v." + n][k] for k in range(45) for n in SHAPES)
    torch.randn_like = lambda *_, **__: next(drawn).clone()
    plain(case, optimizer, lr)


def main(kozistr, sophia_folder, ademamix_folder, asam_folder, noise, out):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(2)
    sys.path[:0] = [sophia_folder, ademamix_folder, asam_folder]
    for part in ("", "/optimizer", "/base"):  # without the packages' own __init__, which import everything
        package = types.ModuleType("pytorch_optimizer" + part.replace("/", "."))
        package.__path__ = [kozistr + "/pytorch_optimizer" + part]
        sys.modules[package.__name__] = package
    case = Case(out, "adamc", "kozistr/pytorch_optimizer AdamC", "lr 0.01, betas 0.9 0.95, eps 1e-12, weight_decay 0.1, w is normalised")
    adamc = importlib.import_module("pytorch_optimizer.optimizer.adamc").AdamC
    plain(case, adamc([{"params": [case.p["w"]], "normalized": True}, {"params": [case.p["u"], case.p["b"]]}], lr=0.01, betas=(0.9, 0.95),
                      weight_decay=0.1, eps=1e-12), 0.01)
    case = Case(out, "sophia", "Liuhong99/Sophia SophiaG", "lr 0.01, betas 0.965 0.99, rho 0.04, bs 40, weight_decay 0.1; "
                "update_hessian from h before steps 1, 11, ...")
    from sophia import SophiaG
    sophia(case, SophiaG(case.p.values(), lr=0.01, weight_decay=0.1), 0.01)
    case = Case(out, "ademamix", "apple/ml-ademamix", "lr 0.01, betas 0.9 0.99 0.999, alpha 3, warmups 20, eps 1e-8, weight_decay 0.1")
    from ademamix import AdEMAMix
    plain(case, AdEMAMix(case.p.values(), lr=0.01, betas=(0.9, 0.99, 0.999), alpha=3.0, beta3_warmup=20, alpha_warmup=20, weight_decay=0.1), 0.01)
    case = Case(out, "adafactor", "PyTorch Adafactor", "lr 0.05, eps 1e-15 1e-3, weight_decay 0.1")
    plain(case, torch.optim.Adafactor(case.p.values(), lr=0.05, eps=(1e-15, 1e-3), weight_decay=0.1), 0.05)
    import asam
    settings = "AdamW lr 0.01, betas 0.9 0.95, weight_decay 0.1; the gradient at w is g + 0.1 w"
    sharpness_aware(Case(out, "sam", "SamsungLabs/ASAM SAM", "rho 0.05; " + settings), lambda o, m: asam.SAM(o, m, rho=0.05))
    sharpness_aware(Case(out, "asam", "SamsungLabs/ASAM", "rho 0.5, eta 0.01; " + settings), lambda o, m: asam.ASAM(o, m, rho=0.5, eta=0.01))
    psgd(Case(out, "psgd", "kozistr/pytorch_optimizer Kron", "lr 0.01, momentum 0.9, weight_decay 0.1, precond_lr 0.1, no balancing"),
         importlib.import_module("pytorch_optimizer.optimizer.psgd"), load(noise), 0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
