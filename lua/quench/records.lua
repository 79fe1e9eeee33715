--- Help records of what is bound in C (tensors, streams, system) and of the modules under all others.
-- They load when somebody asks for help, not at start.

local q = require "quench"
local help = require "quench.help"
require "quench.inspect" -- t:stats, t:blocks

for _, name in ipairs(q.models.names()) do q.models.family(name) end -- each tells its options

local sizes = "Sizes are numbers or one list; then a dtype: f32 (default), f64, i32, bf16."

-- ---- functions that make tensors, and other functions of q -------------------

local function add(name, signature, doc, more)
  local record = {"q." .. name, q[name], signature, doc}
  for key, value in pairs(more or {}) do record[key] = value end
  help.add(record)
end

add("tensor", "tensor(values, dtype?) -> tensor", "A tensor from a number, a nested list, or another tensor (a copy).",
  {example = "local t = q.tensor{{1, 2}, {3, 4}}\nprint(t, t:shape()[1], t[2][1])", see = {"q.zeros", "t:totable"}})
add("zeros", "zeros(2, 3, dtype?) -> tensor", "A tensor of zeros.", {text = sizes, see = {"q.ones", "q.full"}})
add("ones", "ones(2, 3, dtype?) -> tensor", "A tensor of ones.", {text = sizes})
add("full", "full(value, 2, 3, dtype?) -> tensor", "A tensor filled with one value.", {text = sizes})
add("empty_like", "empty_like(t) -> tensor", "An uninitialised tensor of the shape and dtype of another.")
add("arange", "arange(stop) or arange(start, stop, step?, dtype?) -> tensor", "Numbers from start (0) up to but without stop.",
  {example = "q.arange(5)          -- 0 1 2 3 4\nq.arange(1, 2, 0.25) -- 1 1.25 1.5 1.75"})
add("rand", "rand(2, 3, dtype?, stream?) -> tensor", "Uniform random numbers in [0, 1).",
  {text = sizes .. "\nWithout a stream the default one is used, which q.seed(n) restarts.", see = {"q.stream", "q.seed", "t:uniform_"}})
add("randn", "randn(2, 3, dtype?, stream?) -> tensor", "Normal random numbers, mean 0 and deviation 1.",
  {text = sizes, see = {"q.stream", "q.seed", "t:normal_"}, example = 'local w = q.randn(4, 4, q.stream(1, "init"))'})
add("seed", "seed(n)", "Restarts the default stream of q.rand and q.randn.")
add("stream", "stream(seed, name) -> stream", "A stream of random numbers: a pure function of seed, name and counter (Philox 4x32-10).",
  {text = "s:uniform(), s:normal(), s:below(n) draw; s:counter() reads and s:counter(n) sets the position; s:clone() copies.",
    source = "Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011", see = {"q.randn"}})
add("where", "where(condition, a, b) -> tensor", "a where the condition is not 0, else b; a and b may be numbers.")
add("concat", "concat(list, axis = 1) -> tensor", "Tensors one after the other along an axis.", {see = {"q.stack", "t:split"}})
add("stack", "stack(list) -> tensor", "Tensors of one shape under a new first axis.", {see = {"q.concat"}})
add("matmul", "matmul(a, b) -> tensor", "Matrix product over the last two axes, batched and broadcast over the others.",
  {shapes = "(..., m, k) x (..., k, n) -> (..., m, n); vectors as in NumPy"})
add("linear", "linear(x, w, b?) -> tensor", "x w^T + b.", {shapes = "x (..., in), w (out, in), b (out) -> (..., out)"})
add("embedding", "embedding(table, ids) -> tensor", "Rows of a table by ids, which count from 0.",
  {shapes = "table (V, D), ids (...) i32 -> (..., D)"})
add("grad", "grad(loss, inputs, options?) -> list", "Gradients of a scalar with respect to a tensor or a list of them.",
  {text = "create_graph = true makes the gradients differentiable in turn; gradient = t weighs the outputs of a loss that is no scalar.",
    example = "local w = q.ones(3):requires_grad()\nlocal g = q.grad((w * w):sum(), {w})[1] -- 2 2 2", see = {"q.jvp", "t:backward"}})
add("jvp", "jvp(outputs, inputs, tangents) -> list", "Tangents of outputs along tangents of the inputs, through the recorded graph.",
  {text = "Over a gradient made with create_graph it is a Hessian-vector product.", see = {"q.grad", "q.hvp"}})
add("hvp", "hvp(loss, inputs, tangents, options?) -> list", "The Hessian of a scalar times a direction, in one pass forward and one back.",
  {text = "The gradient is not recorded: about half the memory of q.jvp over one that is, and the same bits. The loss is used up, as by\n" ..
    "t:backward(); retain = true keeps it, and so does cache = a q.hvp_cache of this loss, for further products.",
    example = "local w = q.ones(3):requires_grad()\nlocal hv = q.hvp((w * w * w):sum(), {w}, {q.ones(3)})[1] -- 6 6 6",
    see = {"q.curvature.hvp", "q.hvp_cache", "q.jvp"}})
add("hvp_cache", "hvp_cache(loss, options?) -> cache", "What several Hessian-vector products with one loss share, for q.hvp.",
  {text = "Gradients of those results whose making takes most arithmetic a byte, up to share (0.375) of the bytes of the forward pass; the first\n" ..
    "product fills it. cache:bytes() says how much it then holds. The products keep their bits.",
    example = "local w = q.ones(3):requires_grad()\nlocal loss = (w * w * w):sum()\nlocal cache = q.hvp_cache(loss)\n" ..
      "local hv = q.hvp(loss, {w}, {q.ones(3)}, {cache = cache})[1] -- 6 6 6", see = {"q.hvp"}})
add("no_grad", "no_grad(fn, ...) -> results", "Calls fn without recording operations.", {see = {"q.with_grad"}})
add("with_grad", "with_grad(fn, ...) -> results", "Calls fn with recording on, inside q.no_grad too.")
add("is_recording", "is_recording() -> boolean", "Whether operations are recorded now.")
add("ops", "ops() -> list", "The table of operations: name, meaning and number of inputs of each.")
add("threads", "threads(n?) -> n", "Sets or reads the number of threads of kernels and products.")
add("scope", "scope(fn, ...) -> results", "Calls fn and frees at once every tensor made inside, except those it returns.",
  {example = "local loss = q.scope(function()\n  local x = q.randn(1000, 1000)\n  return (x * x):sum():item()\nend)", see = {"t:free"}})
add("scope_begin", "scope_begin() -> mark", "Opens a scope by hand; q.scope does it safely.", {see = {"q.scope"}})
add("scope_end", "scope_end(mark, ...)", "Closes a scope opened by hand, and keeps the tensors given.", {see = {"q.scope"}})
if q.keep then add("keep", "keep(...) -> ...", "Tensors that outlive the scope they were made in.", {see = {"q.scope"}}) end
add("map", "map(t, f) or map(a, b, f) -> tensor", "A tensor of f(x), or of f(x, y), by a Lua function that the JIT compiles.",
  {text = "Such a loop runs within a small factor of C. No gradients; q.custom makes an op of it.",
    example = "local stochastic = q.map(w, q.rand(w:shape()), function(x, u) return math.floor(x + u) end)", see = {"q.custom"}})
local custom = [[
forward(ctx, a, b, ...) gives the output, a tensor, and may keep things in the table ctx. vjp(ctx, g) gives the gradients of
the inputs from that of the output, jvp(ctx, ta, tb, ...) the tangent of the output from those of the inputs (false: zero);
both find ctx.inputs and ctx.output there. They are written with ops, so the op can be differentiated again.]]
add("custom", "custom{name=, forward=, vjp=, jvp=} -> function", "An operation written in Lua, with its derivatives.",
  {text = custom, see = {"q.map", "q.grad"}, errors = "forward that gives no tensor; a rule that is asked for and is not there",
    example = [[
local cube = q.custom{name = "cube", forward = function(ctx, x) return x * x * x end,
  vjp = function(ctx, g) return g * ctx.inputs[1] ^ 2 * 3 end,
  jvp = function(ctx, t) return t * ctx.inputs[1] ^ 2 * 3 end}
local x = q.tensor{1, 2, 3}:requires_grad()
local slope = q.grad(cube(x):sum(), {x}, {create_graph = true})[1]
print(slope, q.grad(slope:sum(), {x})[1]) -- 3 12 27, and 6 12 18]]})
help.add{"q.function", nil, 'q["function"]{name=, forward=, vjp=, jvp=} -> function', "The same as q.custom.", see = {"q.custom"}}

-- ---- methods ------------------------------------------------------------------

local methods = q.metatable

local function method(name, arguments, doc, more)
  local record = {"t:" .. name, methods[name], ("t:%s(%s)"):format(name, arguments), doc}
  for key, value in pairs(more or {}) do record[key] = value end
  help.add(record)
end

for name, meaning in pairs{
  abs = "|x|", sign = "-1, 0 or 1", square = "x^2", sqrt = "Square root", rsqrt = "1 / sqrt x", reciprocal = "1 / x", exp = "e^x",
  expm1 = "e^x - 1, exact near 0", log = "Natural logarithm", log1p = "log(1 + x), exact near 0", sin = "Sine", cos = "Cosine",
  tanh = "Hyperbolic tangent", sigmoid = "1 / (1 + e^-x)", softplus = "log(1 + e^x)", erf = "Error function", relu = "max(x, 0)",
  relu2 = "max(x, 0)^2", silu = "x sigmoid(x)", gelu = "x Phi(x), with the exact error function", gelu_tanh = "The tanh approximation of GELU",
  floor = "Largest whole number not above x", ceil = "Smallest whole number not below x", round = "Nearest whole number, halves to even",
  isnan = "1 where x is not a number", isfinite = "1 where x is neither infinite nor NaN",
} do
  method(name, "", meaning .. ", of each element.")
end
for name, relation in pairs{eq = "=", ne = "~=", lt = "<", le = "<=", gt = ">", ge = ">="} do
  method(name, "other", ("1 where t %s other, else 0; other is a tensor or a number."):format(relation))
end
method("maximum", "other", "The larger of two, elementwise.")
method("minimum", "other", "The smaller of two, elementwise.")
method("pow", "p", "t^p, elementwise; also written t ^ p.")
method("clamp", "low, high", "Elements no smaller than low and no larger than high.")

local axis = "Without an axis over all elements; keep = true leaves an axis of size 1."
method("sum", "axis?, keep?", "Sum.", {text = axis})
method("mean", "axis?, keep?", "Mean.", {text = axis})
method("max", "axis?, keep?", "Largest element.", {text = axis})
method("min", "axis?, keep?", "Smallest element.", {text = axis})
method("argmax", "axis?, keep?", "Position of the largest element, from 0, as i32.", {text = axis})
method("kth", "k", "The k-th smallest element (from 1) of each row of the last axis, which goes.")
method("median", "", "The median along the last axis, which goes; of an even count the lower middle one.")
method("logsumexp", "axis?, keep?", "Logarithm of the sum of e^x.", {text = axis})
method("softmax", "axis = -1", "e^x / sum e^x along an axis.")
method("log_softmax", "axis = -1", "Logarithm of the softmax along an axis.")
method("cumsum", "axis = -1", "Running sum along an axis.")
method("norm", "", "Euclidean norm of all elements, summed in double: a number.")
method("dot", "other", "Inner product of all elements, summed in double: a number.")
method("all_finite", "", "Whether no element is infinite or NaN.")

method("view", "2, -1, ...", "The same elements under another shape; one size may be -1. A copy where strides do not allow a view.")
method("reshape", "2, -1, ...", "The same as t:view.")
method("expand", "2, 3, ...", "Repeats axes of size 1, without copying.")
method("permute", "2, 1, ...", "Axes in another order, without copying.")
method("t", "", "The last two axes exchanged, without copying.", {see = {"t:transpose"}})
method("transpose", "a, b", "Two axes exchanged, without copying.")
method("narrow", "axis, start, length", "A range of one axis, without copying.")
method("select", "axis, i", "One entry of an axis, which goes; t[i] is t:select(1, i).")
method("pad", "axis, before, after", "Zeros before and after along an axis.")
method("split", "sizes, axis", "Pieces of given sizes along an axis, without copying.", {see = {"q.concat"}})
method("contiguous", "", "The tensor in dense memory; itself if it is.")
method("clone", "", "A copy with its own memory, without history.")
method("detach", "", "The same memory without history.")
method("to", "dtype", "Another element type: f32, f64, i32, bf16.")

method("matmul", "other", "Matrix product; see q.matmul.", {see = {"q.matmul"}})
method("linear", "w, b?", "t w^T + b; see q.linear.", {see = {"q.linear"}})
method("pick", "ids", "One value of each row, by ids that count from 0.", {shapes = "t (..., n), ids (...) -> (...)"})

method("shape", "", "List of the sizes.")
method("size", "axis?", "One size, or the list of them.")
method("dtype", "", "Element type, as text.")
method("ndim", "", "Number of axes.")
method("numel", "", "Number of elements.")
method("nbytes", "", "Bytes of the elements.")
method("item", "", "The number in a tensor of one element.")
method("totable", "", "Nested lists of numbers (a number for a scalar).")
method("data", "", "Address of the first element for the FFI; the memory must be dense and the tensor must stay alive.",
  {example = 'local p = ffi.cast("float *", t:data())', see = {"q.map"}})
method("is_contiguous", "", "Whether the memory is dense.")
method("free", "", "Frees the tensor now; using it afterwards is an error.", {see = {"q.scope"}})
method("is_freed", "", "Whether the tensor was freed.")

method("requires_grad", "on = true", "Marks a leaf that collects a gradient in .grad; gives the tensor back.", {see = {"t:backward"}})
method("needs_grad", "", "Whether the tensor takes part in gradients.")
method("backward", "{gradient=, retain=}", "Adds the gradients of a scalar to .grad of the leaves it depends on, and frees the graph.",
  {text = "retain = true keeps the graph; gradient = t weighs outputs that are no scalar.", see = {"q.grad"}})

local in_place = "In place; not for results of recorded operations, and for leaves with gradients only inside q.no_grad."
method("fill_", "value", "Sets every element.", {text = in_place})
method("copy_", "other", "Copies another tensor's elements, broadcast and converted.", {text = in_place})
method("axpby_", "a, x, b = 1", "t <- a t + b x.", {text = in_place})
method("uniform_", "stream, low = 0, high = 1", "Fills with uniform random numbers.", {text = in_place, see = {"q.stream"}})
method("normal_", "stream, mean = 0, deviation = 1", "Fills with normal random numbers.", {text = in_place, see = {"q.stream"}})

-- ---- the modules under all others -----------------------------------------------

help.add{"q.system", q.system, "q.system", "Memory, files, clock, interruption.",
  text = [[
memory() gives bytes live, peak, cached and counts; reset_peak(), memory_limit(bytes); fail_at(n) makes the n-th
allocation fail (for tests). read_file, write_file (atomic), append_file, make_directories, list, kind, size, exists,
same(a, b) (do both paths lead to the same place?),
lock(path) (until released or the process ends), directory, sha256(text). clock() in seconds, sleep(seconds).
interrupted, check_interrupt, clear_interrupt for loops of your own; defer_interrupt(on) lets Ctrl-C
wait for a boundary. embedded(path) is a file inside the program.]]}
help.add{"q.help.add", help.add, "add{name, value, signature, meaning, ...}", "Declares a help record; see the head of lua/quench/help.lua."}
help.add{"q.help.find", help.find, "find(what) -> record", "The record of a function or a name, or nil."}
help.add{"q.help.search", help.search, "search(word) -> list", "The records that contain a word; those with it in the name first."}
help.add{"q.help.named", help.named, "named(word) -> list", "The records whose name contains a word."}
help.add{"q.help.text", help.text, "text(record, columns?) -> text", "A record as the prompt shows it, folded at that many columns."}
help.add{"q.help.records", help.records, "records() -> list", "All records declared so far."}
help.add{"q.help.list", help.list, "list(records, columns?) -> text", "Names and meanings of records, a line each."}
help.add{"q.help.options", help.options, "options(spec, columns?) -> text", "The options of a spec in columns: name, type, default, meaning."}
help.add{"q.help.folded", help.folded, "folded(text, indent?, columns?) -> text", "A text whose long lines are folded between words."}
help.add{"q.help.option_parts", help.option_parts, "option_parts(entry) -> default, notes", "Default and range of an option, as texts."}
local o = q.options
help.add{"q.options.spec", o.spec, "spec(name, entries) -> spec", "Declares the options of a function; spec(given) checks and completes a table.",
  text = "Entries are {name, type, default=, required=, min=, max=, above=, below=, choices=, doc=, unit=, check=, excludes=}.",
  example = 'local spec = q.options.spec("blur", {{"width", "integer", default = 3, min = 1, doc = "taps"}})\nlocal o = spec{width = 5}'}
help.add{"q.options.need_model", o.need_model, "need_model(name, value)", "Raises an error in the name of a function unless value is a model."}
help.add{"q.options.pattern_check", o.pattern_check, "pattern_check(name) -> check", "A check for options that are Lua patterns, or lists of such."}
help.add{"q.options.nearest", o.nearest, "nearest(word, names) -> name", "The name that a misspelled word may mean, or nil."}
help.add{"q.options.suggest", o.suggest, "suggest(word, names) -> text", "\" (did you mean 'x'?)\" or an empty text."}
help.add{"q.options.complaint", o.complaint, "complaint(entry, value) -> text", "What is wrong with a value for an option, or nil."}
help.add{"q.options.fail", o.fail, "fail(format, ...)", "Raises an error that points at the first line outside Quench's own sources."}

return true
