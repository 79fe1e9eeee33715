-- q.profile: what it counts and how it prints; errors pass through and leave it off.
local q = require "quench"
local tap = dofile "tests/tap.lua"

tap.test("profile", function(t)
  local a = q.randn(64, 64)
  local text, rows = q.profile(function() return a:matmul(a):sum():item() end)
  t.ok(text:find("gemm", 1, true) and text:find("outside kernels", 1, true), "the text names kernels", text)
  local calls = {}
  for _, r in ipairs(rows) do calls[r.name] = r end
  t.equal(calls.gemm.calls, 1, "one product")
  t.equal(calls.gemm.flops, 2 * 64 ^ 3, "its arithmetic")
  t.ok(calls.gemm.seconds > 0, "its time")
  t.fails(function() q.profile(error, "inside") end, "inside", "errors pass")
  local _, after = q.profile(function() end)
  t.equal(#after, 0, "it starts from nothing")
end)

tap.done()
