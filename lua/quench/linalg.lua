--- linalg.lua - dense linear algebra on matrices, through LAPACK: q.linalg. No gradients flow through it.

local c = require "quench.c.linalg"
local help = require "quench.help"

local linalg = {}
for name, fn in pairs(c) do linalg[name] = fn end

local function add(name, signature, doc, more)
  local record = {"q.linalg." .. name, linalg[name], signature, doc, source = "LAPACK", errors = "names the function and the shapes"}
  for key, value in pairs(more or {}) do record[key] = value end
  help.add(record)
end

add("eigh", "eigh(a) -> values, vectors", "Eigenvalues of a symmetric matrix in ascending order, and eigenvectors as rows.",
  {shapes = "a (n, n), its lower triangle is read; values (n), vectors (n, n)",
    example = "local w, v = q.linalg.eigh(q.tensor{{2, 1}, {1, 2}})"})
add("svd", "svd(a) -> u, s, vt", "Singular values, largest first: a = u diag(s) vt.",
  {shapes = "a (m, n); u (m, k), s (k), vt (k, n), k = min(m, n)"})
add("qr", "qr(a) -> q, r", "Orthonormal columns times an upper triangle.", {shapes = "a (m, n); q (m, k), r (k, n), k = min(m, n)"})
add("cholesky", "cholesky(a, upper?) -> l", "The triangle l with l l^T = a; with upper, u with u^T u = a.",
  {shapes = "a (n, n) positive definite"})
add("solve", "solve(a, b) -> x", "The solution of a x = b.", {shapes = "a (n, n), b (n) or (n, k)"})
add("triangular_solve", "triangular_solve(t, b, upper?, transpose?) -> x", "The solution of t x = b, or of t^T x = b.",
  {shapes = "t (n, n) triangular, b (n) or (n, k)"})
add("inverse", "inverse(a) -> b", "The inverse of a square matrix.", {shapes = "a (n, n)"})
add("inverse_root", "inverse_root(a, p, eps) -> b", "(a + eps I)^(-1/p) of a symmetric positive semi-definite matrix.",
  {shapes = "a (n, n)"})
add("spectral_norm", "spectral_norm(a) -> number", "The largest singular value.", {shapes = "a (m, n)"})
add("newton_schulz", "newton_schulz(x, steps = 5) -> y", "Drives all singular values towards 1, as Muon does.",
  {shapes = "x (m, n)", source = "Jordan et al. 2024; Bernstein and Newhouse 2024"})

return linalg
