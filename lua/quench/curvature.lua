--- curvature.lua - the curvature of a loss, exact, with error bars: q.curvature.
--
-- The parts live in curvature/: vectors (lists as flat vectors), objective (losses over batches),
-- operator (H and its kin), gauss_newton (G and Fisher), lanczos (eigenpairs), trace, density,
-- quadratic (predicted against measured changes), landscape (cuts and planes). Here are the names
-- that recipes use, and their help.

local options = require "quench.options"
local help = require "quench.help"
local operator = require "quench.curvature.operator"
local density = require "quench.curvature.density"
local gauss_newton = require "quench.curvature.gauss_newton"
local lanczos = require "quench.curvature.lanczos"
local landscape = require "quench.curvature.landscape"
local probe = require "quench.curvature.probe"
local quadratic = require "quench.curvature.quadratic"
local trace = require "quench.curvature.trace"

local curvature = {}

local operator_spec = options.spec("q.curvature.operator", operator.options)

--- The Hessian of a loss as an operator.
function curvature.operator(...)
  local loss, params, o = operator.arguments(...)
  return operator.hessian(operator_spec.name, loss, params, operator_spec(o))
end

local hvp_spec = options.spec("q.curvature.hvp", operator.options)
local form_spec = options.spec("q.curvature.quadratic_form", operator.options)

local function for_one_product(spec, ...)
  local loss, params, o = operator.arguments(...)
  return operator.hessian(spec.name, loss, params, spec(o), true)
end

--- One product with the Hessian.
function curvature.hvp(loss, params, v, o) return for_one_product(hvp_spec, loss, params, o):apply(v) end

--- d . H d.
function curvature.quadratic_form(loss, params, d, o) return for_one_product(form_spec, loss, params, o):quadratic_form(d) end

curvature.matrix = operator.matrix
curvature.ggn, curvature.fisher = gauss_newton.ggn, gauss_newton.fisher
curvature.top, curvature.power = lanczos.top, lanczos.power
curvature.preconditioned, curvature.adaptive = lanczos.preconditioned, lanczos.adaptive
curvature.trace, curvature.diagonal = trace.trace, trace.diagonal
curvature.density = density.density
curvature.quadratic, curvature.directional = quadratic.quadratic, quadratic.directional
curvature.critical_sharpness, curvature.gradient_penalty = quadratic.critical_sharpness, quadratic.gradient_penalty
curvature.line, curvature.cut, curvature.plane = landscape.line, landscape.cut, landscape.plane
curvature.connectivity = landscape.connectivity
curvature.measure, curvature.probe = probe.measure, probe.probe

-- ---- help ---------------------------------------------------------------------------

local function add(name, signature, doc, more)
  local record = {"q.curvature." .. name, curvature[name], "q.curvature." .. signature, doc}
  for key, value in pairs(more) do record[key] = value end
  help.add(record)
end

local LOSS = "loss: a closure that returns a scalar tensor, a list of closures (their mean), a function of a batch with " ..
  "batches =, or a model"
local PARAMS = "params and directions: lists of tensors, f32 or f64, each direction shaped like its parameter"
local CALL = "Takes (loss, params, options), (model, options), or (operator, options) to share kept graphs between estimates."

add("operator", "operator(loss, params, options) -> operator", "The Hessian of any scalar loss, exact, averaged over batches.", {
  options = operator_spec, shapes = PARAMS, text = LOSS .. [[.

op:apply(v) -> list; op:quadratic_form(d), op:loss() -> value with standard error over batches; op:gradient() -> list;
op:subset{1, 3} -> the diagonal block of these parameters;
op:blocks("layer") or "role" -> list of {name=, operator=}; op:dense() -> matrix (small nets); op:refresh() after the
parameters changed; op.dimension, op.cost (gradients and seconds a product, bytes kept), op.products (done so far).]],
  errors = "a loss that is not one number, parameters that require no gradient, parameters changed under a kept graph",
  source = "Pearlmutter 1994, Fast exact multiplication by the Hessian; forward over reverse",
  example = "local op = q.curvature.operator(m, {batches = {ids}})\nprint(op, op:quadratic_form(d))", see = {"q.curvature.top",
    "q.curvature.trace"}})

add("hvp", "hvp(loss, params, v, options) -> list", "One exact Hessian-vector product.", {options = hvp_spec, shapes = PARAMS,
  text = LOSS .. ".", source = "Pearlmutter 1994",
    example = "local hv = q.curvature.hvp(function() return m:loss(ids) end, m:parameters(), v)",
  see = {"q.curvature.operator"}})

add("quadratic_form", "quadratic_form(loss, params, d, options) -> estimate", "d . H d, with its standard error over the batches.", {
  options = form_spec, shapes = PARAMS, see = {"q.curvature.directional", "q.curvature.quadratic"}})

add("matrix", "matrix(a) -> operator", "The operator of a symmetric matrix, for known answers and teaching.", {shapes = "a (n, n)",
  example = "print(q.curvature.top(q.curvature.matrix(q.tensor{{2, 1}, {1, 2}}), {k = 2}))"})

add("ggn", "ggn(outputs, params, options) -> operator", "The Gauss-Newton matrix J^T H_z J: positive semi-definite for a convex loss.", {
  options = gauss_newton.ggn_spec, shapes = "outputs (..., V) and targets (...) i32 returned by the closure; params as in operator",
  text = "outputs: a closure, function of a batch, or model; returns logits and targets (targets < 0 are not counted).\n" ..
    "Nothing larger than the logits is stored.",
  source = "Schraudolph 2002; for cross-entropy H_z = (diag p - p p^T)/N",
  example = "local g = q.curvature.ggn(m, {batches = {ids}})\nprint(q.curvature.top(g))", see = {"q.curvature.fisher"}})

add("fisher", "fisher(source, params, options) -> operator",
  "The Fisher matrix with drawn labels (true), or the empirical one with the data's.", {
  options = gauss_newton.fisher_spec,
  text = [[
kind = "true": source returns logits and targets as for q.curvature.ggn; labels are drawn from the model, N times the mean of
g g^T estimates E[g g^T] a position. For cross-entropy its expectation is the Gauss-Newton matrix, which q.curvature.ggn gives exactly.
kind = "empirical", the data's labels; it is not the Fisher matrix. per = "token": source as for q.curvature.ggn, the mean over tokens of g g^T,
exact, for the price of a Gauss-Newton product. per = "batch": source is a loss, each batch one example.]],
  source = "Kunstner, Balles and Hennig 2019, Limitations of the empirical Fisher approximation", see = {"q.curvature.ggn"}})

add("top", "top(loss, params, options) -> {values=, errors=, vectors=, products=, converged=}",
  "The outermost eigenvalues (sharpness is the first), each with its residual as error bound.", {
  options = lanczos.spec,
    text = CALL .. "\nEach value lies within its error of an eigenvalue. Lanczos with full reorthogonalisation and thick restarts.",
  returns = "values outermost first (both: k largest, then k smallest); vectors: lists of tensors",
  source = "Lanczos 1950; Wu and Simon 2000", example = "print(q.curvature.top(m, {batches = {ids}, k = 5, which = \"both\"}))",
  see = {"q.curvature.preconditioned", "q.curvature.adaptive", "q.curvature.power"}})

add("power", "power(loss, params, options) -> {value=, error=, history=, vector=}",
  "Power iteration: the eigenvalue of largest size, slowly, with its history.", {options = lanczos.power_spec, text = CALL,
    see = {"q.curvature.top"}})

add("preconditioned", "preconditioned(operator, diagonal or optimizer) -> operator",
  "P^-1/2 H P^-1/2 for a diagonal P: what a preconditioned optimizer sees.", {
  shapes = "diagonal: a list like the parameters, positive (numbers are spread)",
  text = "Of an AdamW, P = sqrt(v_hat) + eps is taken from its state; at the edge of stability the top eigenvalue is\n" ..
    "(2 + 2 b1) / ((1 - b1) lr), 38 / lr for b1 = 0.9.",
  source = "Cohen et al. 2022, arXiv 2207.14484", example = "print(q.curvature.top(q.curvature.preconditioned(op, p)))",
    see = {"q.curvature.top"}})

add("adaptive", "adaptive(operator, eta = 0.01) -> operator",
  "T H T with T = |w| + eta: sharpness that does not change when weights are rescaled.", {
  source = "Kwon et al. 2021, ASAM", example = "print(q.curvature.top(q.curvature.adaptive(op)))", see = {"q.curvature.top"}})

add("trace", "trace(loss, params, options) -> estimate", "The trace, with its standard error; per layer or role in the same pass.", {
  options = trace.spec, text = CALL .. [[

Result: value, error, samples, groups (an estimate a part). With steps = the trace of S H S, and loss_change = a 24th of it: what
rounding to a grid of these steps costs at second order. hutch++ is better where few eigenvalues make the trace.]],
  source = "Hutchinson 1990; Meyer, Musco, Musco and Woodruff 2021",
    example = "print(q.curvature.trace(m, {batches = {ids}, groups = \"layer\", precision = 0.05}))",
  see = {"q.curvature.diagonal"}})

add("diagonal", "diagonal(loss, params, options) -> {value=, error=, samples=}", "The diagonal, with a standard error for each entry.", {
  options = trace.diagonal_spec, text = CALL, returns = "value and error: lists like the parameters",
    source = "Bekas, Kokiopoulou and Saad 2007",
  see = {"q.curvature.trace"}})

add("density", "density(loss, params, options) -> {x=, y=, error=, rules=, mean=, square=}",
  "The spectral density, with a band over random starts.", {
  options = density.spec,
    text = CALL .. "\nx, y, error: lists for a plot; mean and square: the first two moments; rules: nodes and weights of each start.",
  source = "Golub and Welsch 1969; Ubaru, Chen and Saad 2017; Ghorbani et al. 2019", see = {"q.curvature.top"}})

add("quadratic", "quadratic(loss, params, options) -> {gradient=, curvature=, predicted=, measured=, ratio=, shares=}",
  "The quadratic test: g.d + d.Hd/2 against the measured change of the loss along a step d.", {
  options = quadratic.spec, text = CALL .. [[

Each part is an estimate with its standard error over batches (the ratio's by leaving one out). shares: what each parameter
adds. A ratio near 1 says that curvature explains the change; a smaller error then is a smaller step or a flatter direction.]],
  shapes = PARAMS, example = "print(q.curvature.quadratic(m, {batches = batches, to = quantized_model}))",
    see = {"q.curvature.directional"}})

add("directional", "directional(loss, params, options) -> estimate", "d.Hd / d.d: the curvature along a direction.", {
  options = quadratic.directional_spec, text = CALL, see = {"q.curvature.quadratic"}})

add("critical_sharpness", "critical_sharpness(loss, params, options) -> estimate",
  "2 / (the smallest rate at which the update raises the loss): curvature along the update from losses alone.", {
  options = quadratic.critical_spec,
    text = "value with low and high (the bracket), rate, evaluations. On a parabola along the gradient it is g.Hg / g.g.\n" ..
    "With another loss than the one trained, it is the relative critical sharpness.",
  source = "Kalra et al. 2026, arXiv 2601.16979",
    example = "print(q.curvature.critical_sharpness(loss, params, {direction = update, rate = lr}))"})

add("gradient_penalty", "gradient_penalty(options) -> loss", "A loss for q.train: the model's own plus a multiple of its gradient's norm.", {
  options = quadratic.penalty_spec,
    text = "An intervention on curvature, beside q.optim.sam, asam and weight_noise: in the cooldown only, it tests causes.",
  source = "Barrett and Dherin 2021; Zhao, Zhang and Hu 2022, Penalizing gradient norm",
  example = "q.train{..., loss = q.curvature.gradient_penalty{weight = 0.05}}", see = {"q.optim.sam", "q.optim.weight_noise"}})

add("line", "line(loss, params, options) -> {t=, loss=, error=, distance=}", "The loss along the line from here to another point.", {
  options = landscape.line_spec, see = {"q.curvature.connectivity", "q.curvature.plane"}})

add("cut", "cut(loss, params, options) -> {t=, loss=, error=, norm=}", "The loss along a direction, random ones filter-normalised.", {
  options = landscape.cut_spec, source = "Li et al. 2018, Visualizing the loss landscape of neural nets", see = {"q.curvature.line"}})

add("connectivity", "connectivity(loss, params, options) -> estimate",
  "The barrier between two points: the highest rise above the chord of the losses.", {
  options = landscape.line_spec, source = "Frankle et al. 2020, Linear mode connectivity", see = {"q.curvature.line"}})

add("plane", "plane(loss, params, options) -> {x=, y=, z=, points=}",
  "The loss on the plane through here and two other points, on a regular grid.", {
  options = landscape.plane_spec,
    text = "Directions are orthonormalised: distances in the plane are distances of weights. z[j][i] is the loss at x[i], y[j];\n" ..
    "points: the three with name, x, y, loss.",
      example = "local p = q.curvature.plane(m, {batches = {ids}, a = checkpoint, b = quantized})", see = {"q.curvature.line"}})

add("measure", "measure(model, options) -> table", "The curvature of a model in one table: loss, sharpness, eigenvalues, trace, quadratic tests.", {
  options = probe.spec,
    text = "quantize = {rtn4 = {method = \"rtn\", bits = 4}} adds rtn4 = {predicted, measured, ratio, ratio_error, step, directional}.",
  example = "local c = q.curvature.measure(m, {batches = batches, k = 5})", see = {"q.curvature.probe"}})

add("probe", "probe(options) -> probe", "Curvature along a run: an entry for the probes of q.train.", {
  options = probe.probe_spec, text = "Writes curvature.sharpness, curvature.trace, curvature.rtn4.ratio, ... into the log.",
  example = "q.train{..., probes = {q.curvature.probe{batches = batches, every = 100, quantize = {rtn4 = {method = \"rtn\", bits = 4}}}}}",
  see = {"q.train", "q.curvature.measure"}})

return curvature
