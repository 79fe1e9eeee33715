-- Speed of dense linear algebra: Newton-Schulz and Cholesky on our own products, eigenvalues, QR, SVD and LU through LAPACK.
-- Arithmetic as LAPACK's working notes count it; what a decomposition does in one thread shows as a small share of the peak.
local q = require "quench"
local bench = dofile("tests/bench/measure.lua")("linalg")
local la = q.linalg

for _, n in ipairs(bench.pick({256, 512, 1024}, {32})) do
  local size, seconds = ("%d x %d"):format(n, n), 0.6
  local a = q.randn(n, n, q.stream(1, "bench"))
  local definite = a:matmul(a:t()) + la.identity(n) * n
  local function case(name, flops, fn, more) bench.case(name, size, fn, {flops = flops, seconds = seconds, more = more}) end
  case("product", 2 * n ^ 3, function() a:matmul(a) end)
  case("newton_schulz, 5 steps", 5 * 4 * n ^ 3, function() la.newton_schulz(a) end)
  case("eigh", 9 * n ^ 3, function() la.eigh(definite) end)
  case("eigvalsh", 4 / 3 * n ^ 3, function() la.eigvalsh(definite) end)
  case("qr", 8 / 3 * n ^ 3, function() la.qr(a) end)
  case("cholesky", n ^ 3 / 3, function() la.cholesky(definite) end)
  case("cholesky, f64", n ^ 3 / 3, function() la.cholesky(definite:to("f64")) end)
  case("inv", 2 * n ^ 3, function() la.inv(definite) end)
  if n <= 512 then case("svd", 22 * n ^ 3, function() la.svd(a) end) end
end
