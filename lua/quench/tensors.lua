--- tensors.lua - what of the tensor language is nicer in Lua: random tensors, scopes, compiled loops.

local c = require "quench.c.tensor"
local options = require "quench.options"
local ffi = require "ffi"
local compiled = require "quench.compiled"

local M = {}

local default = c.stream(0, "default")

--- q.seed(n): restarts the stream behind q.rand and q.randn.
function M.seed(seed) default = c.stream(seed, "default") end

--- Sizes as numbers or one list, then an optional dtype and an optional stream.
local function filled(method, ...)
  local arguments, stream = {...}, default
  local n = select("#", ...)
  if type(arguments[n]) == "userdata" then stream, arguments[n] = arguments[n], nil end
  local t = c.zeros(unpack(arguments))
  return t[method](t, stream)
end

--- q.rand(2, 3, dtype?, stream?): uniform numbers in [0, 1).
function M.rand(...) return filled("uniform_", ...) end

--- q.randn(2, 3, dtype?, stream?): normal numbers, mean 0 and deviation 1.
function M.randn(...) return filled("normal_", ...) end

--- q.scope(fn, ...): calls fn and frees every tensor made inside at once, but for those it returns
-- (also inside returned tables). Without it the collector does the same, later.
function M.scope(fn, ...)
  local outer = c.scope_begin()
  local function finish(ok, ...)
    if not ok then
      c.scope_end(outer)
      error((...), 0)
    end
    c.scope_end(outer, ...)
    return ...
  end
  return finish(pcall(fn, ...))
end

local pointer_types = {f32 = ffi.typeof "float *", f64 = ffi.typeof "double *", i32 = ffi.typeof "int32_t *"}

-- A loop of its own for each function, so that each compiles to its own trace: one loop shared by
-- several functions would fall back to the interpreter where they meet.
local function new_loop()
  return loadstring([[
    return function(f, x, y, from, to)
      for i = from, to do y[i] = f(x[i]) end
    end]], "=quench/map")()
end

local function new_loop2()
  return loadstring([[
    return function(f, a, b, y, from, to)
      for i = from, to do y[i] = f(a[i], b[i]) end
    end]], "=quench/map2")()
end

local loops, loops2 = setmetatable({}, {__mode = "k"}), setmetatable({}, {__mode = "k"})

local BLOCK = 2 ^ 16 -- elements between two looks for Ctrl-C, which compiled code cannot see

local function address(t)
  local pointer = pointer_types[t:dtype()]
  if not pointer then options.fail("map: dtype %s has no Lua numbers", t:dtype()) end
  return ffi.cast(pointer, t:data())
end

--- q.map(t, f): a new tensor of f(x) for each x; the loop is compiled by the JIT.
-- q.map(a, b, f): of f(x, y) for two tensors of one shape.
function M.map(t, u, f)
  local a = t:detach():contiguous()
  if f == nil then
    local y = c.empty_like(a)
    loops[u] = loops[u] or new_loop()
    local loop, x, out, n = loops[u], address(a), address(y), a:numel()
    compiled(function()
      for from = 0, n - 1, BLOCK do
        loop(u, x, out, from, math.min(from + BLOCK, n) - 1)
        require("quench.c.system").check_interrupt()
      end
    end)
    return y
  end
  local b = u:detach():contiguous()
  if table.concat(a:shape(), ",") ~= table.concat(b:shape(), ",") then
    options.fail("map: shapes (%s) and (%s) differ", table.concat(a:shape(), ", "), table.concat(b:shape(), ", "))
  end
  local y = c.empty_like(a)
  loops2[f] = loops2[f] or new_loop2()
  local loop, p, r, out, n = loops2[f], address(a), address(b), address(y), a:numel()
  compiled(function()
    for from = 0, n - 1, BLOCK do
      loop(f, p, r, out, from, math.min(from + BLOCK, n) - 1)
      require("quench.c.system").check_interrupt()
    end
  end)
  return y
end

--- q.function{name=, forward=, vjp=, jvp=}: an op written in Lua, as a function of tensors.
--   forward(ctx, a, b, ...) -> y         runs unrecorded; may keep things in ctx
--   vjp(ctx, g) -> ga, gb, ...           gradients of the inputs (nil or false: none); ctx.inputs, ctx.output
--   jvp(ctx, ta, tb, ...) -> ty          tangent of y; a zero tangent comes as false
-- vjp and jvp are made of ops, so their results can be differentiated again.
function M.custom(definition)
  local spec = options.spec("q.function", {
    {"name", "string", default = "function", doc = "for error messages"},
    {"forward", "function", required = true, doc = "(ctx, tensors...) -> tensor"},
    {"vjp", "function", doc = "(ctx, gradient) -> gradients of the inputs"},
    {"jvp", "function", doc = "(ctx, tangents...) -> tangent"},
  })
  local d = spec(definition)
  return function(...)
    local ctx = {}
    local y = c.no_grad(d.forward, ctx, ...)
    if options.complaint({"the result of forward", "tensor"}, y) then
      options.fail("q.function '%s': forward must return a tensor, it returned %s", d.name, type(y))
    end
    return require("quench.c.function").apply(d, ctx, y, ...)
  end
end

-- Methods written in Lua; their module loads with the first call.
function c.metatable.stats(t) return require("quench.inspect").stats(t) end
function c.metatable.blocks(t, o) return require("quench.inspect").blocks(t, o) end

return M
