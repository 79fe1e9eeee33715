--- optim/presets.lua - the settings of "Beyond Outliers" as far as its authors' code shows them.
--
-- Sources (research notes, section 2.4): gvlassis/ant, parametrizations.py and the command lines in its README, and CloverLM.
-- Where a value was not found, `missing` says so and the value here is a choice. Two rates: neither the paper's tables at hand nor that
-- code, its README or its sweep scripts give the tuned ones (looked for in November 2026). PSGD's 1e-3 is the default of the library
-- that the code calls, and a third of AdamW's, as the README of kron_torch advises (its own default: 3e-4). Scion's 1e-2 is that of
-- its authors' nanoGPT rounded: radius 50 times rate 2^-12 = 1.2e-2 for hidden matrices; and a third of Muon's, whose step has the
-- same norm. Sweeps go to both sides of them. Momentum 0.9, beta2 0.95, eps 1e-8, weight decay 0 are the code's general defaults.

return {
  adamw = {options = {lr = 3e-3, betas = {0.9, 0.95}, eps = 1e-6, weight_decay = 0}},
  muon = {options = {lr = 3e-2, momentum = 0.95, weight_decay = 0, scale = "original",
    aux_lr = 3e-3, aux_betas = {0.9, 0.95}, aux_eps = 1e-6, aux_weight_decay = 0}},
  shampoo = {options = {lr = 3e-3, betas = {0.95, 0.95}, eps = 1e-10, weight_decay = 0, precondition_frequency = 20,
    start_preconditioning_step = 20, max_preconditioner_dim = 12288},
    note = "axes are not merged: at the paper's widths nothing would be, at small ones it makes one large matrix of a whole layer"},
  soap = {options = {lr = 1e-2, betas = {0.9, 0.95}, eps = 1e-8, weight_decay = 0, precondition_frequency = 10,
    max_precondition_dim = 12288}},
  psgd = {options = {lr = 1e-3, momentum = 0.9, weight_decay = 0, max_size_triangular = 12288, min_ndim_triangular = 2, precond_lr = 0.1},
    missing = {"lr (here: the default of the library that the authors call)"}},
  scion = {options = {lr = 1e-2, momentum = 0.9, scale = 1, groups = {
    {role = "input", norm = "sign", lr = 1}, {role = "output", norm = "sign", lr = 1}, {role = "vector", norm = "bias", lr = 3e-3}}},
    missing = {"lr (hidden matrices; here: that of Scion's authors, radius 50 times rate 2^-12, rounded)",
      "the vectors' norm (a private one; here: over the rms)"}},
}
