-- q.linalg: identities of the factorisations, inverse roots, Newton-Schulz, and errors.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local la = q.linalg

local function matrix(m, n, dtype, name) return q.zeros(m, n, dtype):normal_(q.stream(3, name or "a")) end
local function definite(n, dtype)
  local a = matrix(n, n, dtype)
  return a:matmul(a:t()) + la.identity(n, dtype)
end
local function apart(a, b) return (a - b):abs():max():item() end

for dtype, tolerance in pairs{f32 = 1e-4, f64 = 1e-11} do
  tap.test("factorisations in " .. dtype, function(t)
    local a, s, eye = matrix(7, 5, dtype), definite(6, dtype), la.identity(6, dtype)
    local w, v = la.eigh(s)
    t.ok(apart((v * w):matmul(v:t()), s) < tolerance * 10, "v diag(w) v^T = a")
    t.ok(apart(w, la.eigvalsh(s)) < tolerance, "eigenvalues alone are the same")
    local o, r = la.qr(a)
    t.ok(apart(o:matmul(r), a) < tolerance, "q r = a")
    local u, sv, vt = la.svd(a)
    t.ok(apart((u * sv):matmul(vt), a) < tolerance, "u diag(s) vt = a")
    t.near(la.spectral_norm(a), sv[1], tolerance, "spectral norm is the first singular value")
    t.ok(apart(la.svdvals(a), sv) < tolerance, "singular values alone are the same")
    local l, up = la.cholesky(s), la.cholesky(s, {upper = true})
    t.ok(apart(l:matmul(l:t()), s) < tolerance * 10 and apart(up, l:t()) < tolerance, "l l^T = a and u = l^T")
    t.ok(apart(la.inv(s):matmul(s), eye) < tolerance * 10, "inv")
    t.ok(apart(la.cholesky_inverse(s), la.inv(s)) < tolerance, "the two inverses agree")
    local b = matrix(6, 2, dtype, "b")
    t.ok(apart(s:matmul(la.solve(s, b)), b) < tolerance * 10, "a x = b")
    t.ok(apart(l:matmul(la.solve_triangular(l, b)), b) < tolerance * 10, "l x = b")
    t.ok(apart(l:t():matmul(la.solve_triangular(l, b, {transpose = true})), b) < tolerance * 10, "l^T x = b")
    t.ok(la.solve(s, b:narrow(2, 1, 1):contiguous():view(6)):ndim() == 1, "a right side of one axis gives one")
    local root = la.inverse_root(s, {root = 4, eps = 1e-12})
    local square = root:matmul(root)
    t.ok(apart(square:matmul(square):matmul(s), eye) < tolerance * 100, "(a^(-1/4))^4 a = 1")
    t.ok(apart(root, root:t()) == 0, "the root is symmetric to the last bit")
  end)
end

tap.test("strided inputs", function(t)
  local a = matrix(5, 8, "f64")
  local u, s, vt = la.svd(a:t())
  t.ok(apart((u * s):matmul(vt), a:t()) < 1e-12, "a transposed view")
end)

tap.test("newton_schulz", function(t)
  for _, shape in ipairs{{8, 8}, {20, 6}, {6, 20}} do
    local x = matrix(shape[1], shape[2], "f64")
    local s = la.svdvals(la.newton_schulz(x))
    t.ok(s:min():item() > 0.3 and s:max():item() < 1.3, ("singular values of (%d, %d) lie near 1"):format(unpack(shape)), tostring(s))
    -- one step acts on each singular value alone: s -> a s + b s^3 + c s^5
    local before, after = la.svdvals(x) / x:norm(), la.svdvals(la.newton_schulz(x, {steps = 1}))
    local expected = {}
    for i = 1, before:numel() do
      local v = before[i]
      expected[i] = 3.4445 * v - 4.7750 * v ^ 3 + 2.0315 * v ^ 5
    end
    table.sort(expected, function(a, b) return a > b end)
    t.near(after:totable(), expected, 1e-6, "one step is the polynomial")
  end
  -- the convergent cubic reaches the polar factor
  local x = matrix(9, 4, "f64")
  local u, _, vt = la.svd(x)
  t.ok(apart(la.newton_schulz(x, {steps = 40, coefficients = {1.5, -0.5, 0}}), u:matmul(vt)) < 1e-9, "the cubic converges to u vt")
  t.ok(la.newton_schulz(q.zeros(3, 4)):abs():max():item() == 0, "zero stays zero")
end)

tap.test("errors", function(t)
  t.fails(function() la.eigh(q.zeros(2, 3)) end, "eigh: needs a square matrix, got %(2, 3%)", "not square")
  t.fails(function() la.svd(q.zeros(3)) end, "svd: needs a matrix", "not a matrix")
  t.fails(function() la.inv(q.zeros(3, 3)) end, "inv: the %(3, 3%) matrix is singular", "singular")
  t.fails(function() la.cholesky(q.tensor{{1, 2}, {2, 1}}) end, "not positive definite", "indefinite")
  t.fails(function() la.eigh(q.tensor{{1, 0 / 0}, {0 / 0, 1}}) end, "NaN or infinity", "NaN")
  t.fails(function() la.solve(la.identity(3), q.zeros(2)) end, "right side", "sizes that differ")
  t.fails(function() la.solve(la.identity(3), q.zeros(3, "f64")) end, "the right side f64", "types that differ")
  t.fails(function() la.qr(q.zeros(2, 2, "i32")) end, "needs f32 or f64", "integers")
  t.fails(function() la.inverse_root(la.identity(2), {root = 0}) end, "above 0", "root 0")
  t.fails(function() la.solve_triangular(q.zeros(2, 2), q.zeros(2)) end, "singular", "zero on the diagonal")
end)

tap.done()
