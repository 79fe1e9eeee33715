--- linalg.lua - q.linalg: dense linear algebra on matrices, f32 and f64, through LAPACK.
-- No gradient flows through these; inputs are not changed.

local c = require "quench.c.linalg"
local help = require "quench.help"
local options = require "quench.options"

local M = {}

local function add(name, fn, signature, doc, record)
  M[name] = fn
  record = record or {}
  record[1], record[2], record[3], record[4] = "q.linalg." .. name, fn, signature, doc
  record.errors = record.errors or "not a matrix of the right shape; NaN or infinity in it; no convergence: each says which and the sizes"
  help.add(record)
end

add("eigh", c.eigh, "q.linalg.eigh(a) -> w, v", "Eigenvalues and eigenvectors of a symmetric matrix.",
  {shapes = "a (n, n), its lower triangle is read; w (n) ascending; v (n, n), eigenvectors as columns: a = v diag(w) v^T",
    example = "local w, v = q.linalg.eigh(a)\nlocal again = (v * w):matmul(v:t())"})
add("eigvalsh", c.eigvalsh, "q.linalg.eigvalsh(a) -> w", "Eigenvalues of a symmetric matrix, ascending.", {shapes = "a (n, n); w (n)"})
add("qr", c.qr, "q.linalg.qr(a) -> q, r", "a = q r with orthonormal columns in q, r upper triangular.",
  {shapes = "a (m, n), k = min(m, n); q (m, k); r (k, n)"})
add("svd", c.svd, "q.linalg.svd(a) -> u, s, vt", "Singular value decomposition a = u diag(s) vt.",
  {shapes = "a (m, n), k = min(m, n); u (m, k); s (k) descending; vt (k, n)"})
add("svdvals", c.svdvals, "q.linalg.svdvals(a) -> s", "Singular values, descending.", {shapes = "a (m, n); s (min(m, n))"})

local cholesky = options.spec("q.linalg.cholesky", {{"upper", "boolean", default = false, doc = "return u with a = u^T u"}})
add("cholesky", function(a, given) return c.cholesky(a, cholesky(given).upper) end, "q.linalg.cholesky(a, {upper=}) -> l",
  "The triangular factor of a positive definite matrix, a = l l^T.",
  {options = cholesky, shapes = "a (n, n), its lower triangle is read; l (n, n)", errors = "a that is not positive definite"})
add("cholesky_inverse", c.cholesky_inverse, "q.linalg.cholesky_inverse(a) -> a^-1",
  "The inverse of a positive definite matrix, through its Cholesky factor.",
  {shapes = "a (n, n)", errors = "a that is not positive definite"})
add("inv", c.inv, "q.linalg.inv(a) -> a^-1", "The inverse of a square matrix.", {shapes = "a (n, n)", errors = "a singular matrix"})
add("solve", c.solve, "q.linalg.solve(a, b) -> x", "Solves a x = b.",
  {shapes = "a (n, n); b (n) or (n, k); x as b", errors = "a singular matrix"})

local triangular = options.spec("q.linalg.solve_triangular", {
  {"upper", "boolean", default = false, doc = "t is upper triangular"}, {"transpose", "boolean", default = false, doc = "solve t^T x = b"}})
add("solve_triangular", function(t, b, given)
  local o = triangular(given)
  return c.solve_triangular(t, b, o.upper, o.transpose)
end, "q.linalg.solve_triangular(t, b, {upper=, transpose=}) -> x", "Solves t x = b with a triangular t.",
  {options = triangular, shapes = "t (n, n); b (n) or (n, k)", errors = "a zero on the diagonal"})

local root = options.spec("q.linalg.inverse_root", {{"root", "number", default = 2, above = 0, doc = "p of a^(-1/p)"},
  {"eps", "number", default = 1e-12, above = 0, doc = "added to the eigenvalues"}})
add("inverse_root", function(a, given)
  local o = root(given)
  return c.inverse_root(a, o.root, o.eps)
end, "q.linalg.inverse_root(a, {root=, eps=}) -> (a + eps I)^(-1/root)",
  "An inverse root of a positive semi-definite matrix, through its eigenvalues.",
  {options = root, shapes = "a (n, n)",
    text = "An eigenvalue below zero (rounding) first shifts all of them up by its size, as in Shampoo."})

add("spectral_norm", c.spectral_norm, "q.linalg.spectral_norm(a) -> number", "The largest singular value.", {shapes = "a (m, n)"})

local schulz = options.spec("q.linalg.newton_schulz", {{"steps", "integer", default = 5, min = 1, doc = "iterations"},
  {"coefficients", "list", default = {3.4445, -4.7750, 2.0315}, doc = "a, b, c of a x + (b A + c A A) x, A = x x^T"}})
add("newton_schulz", function(x, given)
  local o = schulz(given)
  return c.newton_schulz(x, o.steps, unpack(o.coefficients, 1, 3))
end, "q.linalg.newton_schulz(x, {steps=}) -> x'", "Drives all singular values of x / |x|_F towards 1 by matrix products alone (Muon).",
  {options = schulz, shapes = "x (m, n)", source = "Jordan et al., 2024; Bernstein and Newhouse, 2024 (arXiv 2409.20325)"})
add("identity", c.identity, "q.linalg.identity(n, dtype?) -> i", "Ones on the diagonal of an (n, n) matrix.", {errors = "a size below 0"})

return M
