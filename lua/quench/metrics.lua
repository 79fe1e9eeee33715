--- metrics.lua - what the two papers measure: outliers, errors, their flow through a model, correlations: q.metrics.

local help = require "quench.help"
local abc = require "quench.metrics.abc"
local correlation = require "quench.metrics.correlation"
local rows = require "quench.metrics.rows"

local metrics = {
  mmr = rows.mmr, kurtosis = rows.kurtosis, relative_error = rows.relative_error,
  abc = abc.abc, gain = abc.gain, outliers = abc.outliers, correlation = correlation.correlation,
}

--- CE(W')/CE(W) - 1, the quantization error of training-dynamics papers.
function metrics.quantization_error(loss, quantized) return quantized / loss - 1 end

--- (acc - acc')/(1 - acc).
function metrics.accuracy_drop(accuracy, quantized) return (accuracy - quantized) / (1 - accuracy) end

local PAPER = "Vlassis et al. 2025, Beyond Outliers, arXiv 2509.23500"

local function add(name, signature, doc, more)
  local record = {"q.metrics." .. name, metrics[name], "q.metrics." .. signature, doc}
  for key, value in pairs(more) do record[key] = value end
  help.add(record)
end

add("mmr", "mmr(x) -> estimate", "Max-to-median ratio: mean over rows h of max_i |h_i| / median_i |h_i|.", {
  shapes = "x (..., n): each row of the last axis is one token's vector",
  text = [[
The median, not the mean (the paper's abstract says mean, its formulas and code the median); of an even count the lower middle
one. Rows whose median is 0 (most entries 0, as behind ReLU^2) have no ratio: they are left out and counted in left_out.
The error is the standard error over rows.]],
  source = PAPER .. ", section 3", example = "print(q.metrics.mmr(q.randn(100, 64)))", see = {"q.metrics.kurtosis", "q.metrics.outliers"}})
add("kurtosis", "kurtosis(x, options) -> estimate", "Mean over rows of m4 / m2^2 - 3, with m_k the central moments of the row.", {
  options = rows.kurtosis_spec, shapes = "x (..., n)",
  text = "Biased moments, as scipy's default. over = \"features\": of the root mean squares s_j = sqrt(mean_t x_tj^2) of the features.",
  source = PAPER .. "; features: He et al. 2024, arXiv 2405.19279", see = {"q.metrics.mmr"}})
add("relative_error", "relative_error(reference, measured, options) -> number or estimate", "|m - r|^2 / |r|^2 of tensors, m/r - 1 of numbers.", {
  options = rows.relative_spec, see = {"q.metrics.abc"}})
add("quantization_error", "quantization_error(loss, quantized) -> number", "CE(W')/CE(W) - 1: the relative rise of the cross-entropy.", {
  source = "Catalan-Tatjer et al. 2025, arXiv 2510.06213, section 2"})
add("accuracy_drop", "accuracy_drop(accuracy, quantized) -> number", "(acc - acc') / (1 - acc).", {source = "Catalan-Tatjer et al. 2025"})
add("abc", "abc(model, quantized, ids, options) -> {modules=, R_L=, tokens=}",
  "Splits the error of each module's output into inherited, own and both: R = A + B + C.", {
  options = abc.spec, shapes = "ids (B, T) i32 or a list of such",
  text = [[
f, f' and h, h': a module and its input in the plain and the quantized model.
  a = ((f'(h') - f'(h)) + (f(h') - f(h))) / 2        A = |a|^2 / |f(h)|^2     what came in
  b = ((f'(h') - f(h')) + (f'(h) - f(h))) / 2        B = |b|^2 / |f(h)|^2     what the module added
  C = 2 a.b / |f(h)|^2                                R = |f'(h') - f(h)|^2 / |f(h)|^2 = A + B + C
of each token. modules, in order of execution: name, kind, layer, and A, B, C, R as means over tokens with standard errors (Avg);
trunc: the same without the tokens of largest R (1 %), one set for all four, so that R = A + B + C there too (Trunc).
Norms, linear layers, attention (as one), mixers, experts and residual sums are modules; a sum has b = 0. R_L: at the final norm.]],
  source = PAPER .. ", section 4", example = "print(q.metrics.abc(m, quantized, ids))", see = {"q.metrics.gain"}})
add("gain", "gain(model, quantized, ids) -> list", "The gain G = A_l / R_(l-1) of linear layers and attentions, and the layers' factors G1 and G2.", {
  shapes = "ids (B, T) i32 or a list of such",
  text = [[
In order of execution; kind is "linear" or "attention" (as one unit, behind its own linear layers; no matrix, so without G1 and G2).
Of each linear layer with weight W, quantized W + e, input h and its change d:
  G    measured: A / (|d|^2/|h|^2) of each token, mean and standard error; G_of_means: mean A over mean R_(l-1)
  G1   spectral ratio (|W + e/2|_2 / |W|_2)^2
  G2   alignment ratio (cos phi / cos psi)^2, mean over tokens; cos phi = |(W + e/2) d| / (|W + e/2|_2 |d|), cos psi = |f(h)| / (|W|_2 |h|)
  frozen = G1 G2: equals G exactly where only weights are quantized; with quantized activations the two differ.
Tokens whose input did not change have no gain (tokens says how many have).]],
  source = PAPER .. ", section 5; the explicit forms follow from G = A/R", see = {"q.metrics.abc"}})
add("outliers", "outliers(model, ids) -> {last_block=, last_linear=, linears=}",
  "MMR and kurtosis of the last block's output and of every linear layer's input.", {
  shapes = "ids (B, T) i32 or a list of such",
    text = "Each entry: mmr, kurtosis, feature_kurtosis. last_linear: of the last linear layer before the head.",
  source = PAPER .. ", figures 1 and 2", see = {"q.metrics.mmr", "q.metrics.kurtosis"}})
add("correlation", "correlation(x, y, options) -> {value=, low=, high=, p=, n=}",
  "Pearson's or Spearman's correlation, with an interval and a permutation p value.", {
  options = correlation.spec, text = "Interval by Fisher's z (needs 4 points); p: share of the orders of y that correlate at least as strongly.",
  source = "Fisher 1921; Fieller, Hartley and Pearson 1957", example = "print(q.metrics.correlation({1, 2, 3, 4}, {1, 3, 2, 5}))"})

return metrics
