--- gallery.lua - what does each kind of figure look like, and what does one write for it?
--
--   quench run gallery                                  the pictures, in the run's folder
--   quench run gallery --docs=docs/gallery --force      also the page docs/gallery/README.md
--
-- Each example is a text: what the page shows is what ran.

local q = require "quench"

local examples = {
  {"line", "Curves. Up to four with names are named at their ends.", [[
local steps, adamw, muon = {}, {}, {}
local noise = q.randn(2, 300):totable()
for i = 1, 300 do
  steps[i] = 40 * i
  adamw[i] = 2.2 + 6 * steps[i] ^ -0.35 + 0.02 * noise[1][i]
  muon[i] = 2.0 + 6 * steps[i] ^ -0.35 + 0.02 * noise[2][i]
end
return q.plot{title = "Training loss", x = "step", y = "loss (nats)",
  {"line", steps, adamw, label = "AdamW"}, {"line", steps, muon, label = "Muon"}}]]},

  {"runs", "Several seeds: a list of lists as y is drawn as mean and band (std, sem, quantiles or range).", [[
local steps, small, large = {}, {}, {}
for seed = 1, 5 do
  small[seed], large[seed] = {}, {}
  local noise = q.randn(2, 60):totable()
  for i = 1, 60 do
    steps[i] = 50 * i
    small[seed][i] = 8 * (50 * i) ^ -0.25 * (1 + 0.05 * noise[1][i])
    large[seed][i] = 8 * (50 * i) ^ -0.32 * (1 + 0.05 * noise[2][i])
  end
end
return q.plot{x = "step", y = "error", log = "xy",
  {"line", steps, small, label = "10M"}, {"line", steps, large, label = "100M", spread = "quantiles"}}]]},

  {"smooth", "A moving average, with the raw curve behind it.", [[
local steps, loss = {}, {}
local noise = q.randn(400):totable()
for i = 1, 400 do steps[i], loss[i] = i, 2 + 3 / math.sqrt(i) + 0.25 * noise[i] end
return q.plot{x = "step", y = "loss", {"line", steps, loss, smooth = 0.95, label = "loss"},
  {"hline", y = 2, text = "entropy of the source"}}]]},

  {"twin", "A second y axis: give it a label, and a layer the axis.", [[
local steps, loss, rate = {}, {}, {}
for i = 1, 200 do
  steps[i] = 50 * i
  rate[i] = i < 10 and 3e-4 * i or i < 160 and 3e-3 or 3e-3 * (200 - i) / 40
  loss[i] = 2.4 + 5 * steps[i] ^ -0.4 - 0.25 * math.max(0, i - 160) / 40
end
return q.plot{x = "step", y = "loss (nats)", y2 = "learning rate",
  {"line", steps, loss, label = "loss"},
  {"line", steps, rate, axis = "y2", label = "learning rate"}}]]},

  {"step", "Values that hold for a while; the area between two curves.", [[
local t, bits, low, high = {}, {}, {}, {}
for i = 1, 9 do
  t[i], bits[i] = 1000 * i, ({16, 16, 8, 8, 6, 4, 4, 3, 3})[i]
  low[i], high[i] = bits[i] - 1, bits[i] + 1.5
end
return q.plot{x = "step", y = "bits", {"step", t, bits, label = "schedule"},
  {"band", t, low = low, high = high, label = "tried"}}]]},

  {"fit", "A formula fitted to points: parameters with errors, a 95 % interval, dashed beyond the data.", [[
local N, loss = {}, {}
local noise = q.randn(12):totable()
for i = 1, 12 do
  N[i] = 1e6 * 2 ^ i
  loss[i] = (406 * N[i] ^ -0.34 + 1.69) * math.exp(0.008 * noise[i])
end
return q.plot{x = "parameters $N$", y = "loss (nats)", log = "x",
  {"points", N, loss, label = "runs"}, {"fit", N, loss, formula = "A*x^-alpha+E", to = 1e11}}]]},

  {"scatter", "Points coloured and sized by numbers.", [[
local r = q.randn(3, 150):totable()
local sharpness, size = {}, {}
for i = 1, 150 do
  sharpness[i] = 10 ^ (0.4 * r[1][i] + 0.3 * r[2][i])
  size[i] = math.abs(r[3][i])
end
return q.plot{x = "weight norm", y = "loss", {"scatter", r[1], r[2], value = sharpness, sizes = size,
  value_label = "sharpness", range = {0, 4}}}]]},

  {"errorbars", "Points with bars of uncertainty, on a logarithmic axis to the base 2.", [[
local group, error, sem = {}, {}, {}
for i = 4, 10 do
  group[#group + 1] = 2 ^ i
  error[#error + 1] = 0.02 * 2 ^ (0.28 * i)
  sem[#sem + 1] = 0.012 * 2 ^ (0.2 * i)
end
return q.plot{x = {label = "group size", scale = "log2"}, y = {label = "relative error", zero = true},
  {"errorbars", group, error, error = sem, label = "GPTQ, 3 bits"}}]]},

  {"histogram", "Counts, shares or densities; on a logarithmic axis the bins are even there.", [[
local before = q.randn(4000):totable()
local after = {}
for i, w in ipairs(before) do after[i] = 0.5 * math.floor(2 * w + 0.5) end
return q.plot{x = "weight", y = "density",
  {"histogram", x = after, normal = "density", bins = 71, label = "4-bit levels"},
  {"density", x = before, label = "before"}}]]},

  {"bars", "Bars from zero, side by side or stacked; numbers on request.", [[
local methods = {"RTN", "GPTQ", "AWQ", "HQQ"}
return q.plot{y = "perplexity",
  {"bars", methods, {9.2, 7.1, 7.4, 8.0}, error = 0.2, values = "%.1f", label = "4 bits"},
  {"bars", methods, {14.2, 9.1, 9.4, 11.0}, error = {0.5, 0.2, 0.3, 0.6}, values = "%.1f", label = "3 bits"}}]]},

  {"lying", "Names on y make the bars lie.", [[
local layers = {"attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h", "embed_out"}
return q.plot{title = "Share of the error", x = "relative error",
  {"bars", x = {0.021, 0.013, 0.034, 0.047, 0.008}, y = layers, values = "%.3f"}}]]},

  {"box", "Quartiles, whiskers and outliers; y is a list of lists, or x names the group of each number.", [[
local function errors(centre, spread)
  local list = q.randn(80):totable()
  for i, z in ipairs(list) do list[i] = centre * math.exp(spread * z) end
  return list
end
local rates = {"3e-4", "1e-3", "3e-3"}
return q.plot{x = "peak learning rate", y = "4-bit error", log = "y",
  {"box", rates, {errors(0.06, 0.2), errors(0.05, 0.2), errors(0.03, 0.3)}, label = "AdamW"},
  {"box", rates, {errors(0.05, 0.2), errors(0.03, 0.2), errors(0.025, 0.3)}, label = "Muon"}}]]},

  {"violin", "Densities of groups, or every number as a point.", [[
local function sample(n, centre, spread)
  local list = q.randn(n):totable()
  for i, z in ipairs(list) do list[i] = centre + spread * z end
  return list
end
local groups = {"embedding", "attention", "mlp"}
local values = {sample(90, 0, 1), sample(90, 1.5, 0.6), sample(90, 0.5, 1.4)}
return q.plot.grid{columns = 2, share = "y", {y = "log kurtosis", {"violin", groups, values}},
  {{"strip", groups, values, colour = 2}}}]]},

  {"heatmap", "A colour a cell; diverging colours where the numbers have both signs.", [[
local names = {"loss", "error", "trace", "sharpness", "kurtosis"}
local r = q.randn(5, 40)
for i = 2, 5 do r[i]:copy_(r[i] + r[i - 1] * (i % 2 == 0 and 0.9 or -0.7)) end
local z = {}
for i = 1, 5 do
  z[i] = {}
  for j = 1, 5 do z[i][j] = r[i]:dot(r[j]) / (r[i]:norm() * r[j]:norm()) end
end
return q.plot{title = "Correlations", {"heatmap", z = z, x = names, y = names, range = {-1, 1}, values = "%.2f"}}]]},

  {"contour", "Lines of equal height, with or without colours between them.", [[
local a, b, z = {}, {}, {}
for j = 1, 61 do
  b[j], z[j] = -1 + (j - 1) / 30, {}
  for i = 1, 61 do
    a[i] = -1 + (i - 1) / 30
    z[j][i] = math.log(1 + 100 * (b[j] - a[i] ^ 2) ^ 2 + (1 - a[i]) ^ 2)
  end
end
return q.plot{title = "Loss landscape", x = "direction 1", y = "direction 2",
  {"contour", z = z, x = a, y = b, filled = true, value_label = "log loss"},
  {"line", {-0.8, -0.5, 0, 0.4, 0.9}, {0.9, 0.2, -0.05, 0.16, 0.81}, colour = "white", marker = "circle"}}]]},

  {"scales", "Axes: linear, log, log2, symlog (through zero) and reciprocal.", [[
local steps, change = {}, {}
for i = 1, 60 do
  steps[i] = 1.25 ^ i
  change[i] = (i < 25 and -1 or 1) * 10 ^ (math.abs(i - 25) / 10 - 2)
end
return q.plot.grid{columns = 2,
  {x = {label = "step", scale = "log"}, y = {label = "symlog", scale = "symlog", linear = 0.01}, {"line", steps, change, marker = false}},
  {x = {label = "samples $n$ (reciprocal)", scale = "reciprocal"}, y = "estimate",
    {"points", {10, 12, 16, 25, 50, 200}, {1.21, 1.17, 1.13, 1.08, 1.05, 1.01}, fit = "a+b/x"}}}]]},

  {"notes", "Reference lines, regions, texts and arrows; texts know $alpha$, x^2 and 10^{-3}.", [[
local steps, error = {}, {}
for i = 1, 120 do
  steps[i] = 25 * i
  error[i] = 0.006 + (i > 90 and 0.009 * ((i - 90) / 30) ^ 1.5 or 0.001 * math.log(i) / 4)
end
return q.plot{x = "step", y = "relative error $\\epsilon$", {"line", steps, error},
  {"region", x = {2250, 3000}, text = "cooldown"},
  {"hline", y = 0.0072, text = "stable phase, $eta = 3 \\times 10^{-3}$"},
  {"arrow", x = 2900, y = 0.0141, from_x = 1500, from_y = 0.0125, text = "error doubles\nwhile the rate decays"}}]]},

  {"facets", "One panel for each value of a column, with common axes and one legend.", [[
local rows = {}
for _, method in ipairs{"RTN", "GPTQ", "AWQ", "HQQ"} do
  for _, bits in ipairs{3, 4} do
    for i = 1, 25 do
      rows[#rows + 1] = {method = method, bits = bits .. " bits", step = 100 * i,
        error = 0.02 * (6 - bits) * #method / 3 * i ^ 0.3}
    end
  end
end
return q.plot{facet = "method", data = rows, x = "step", y = "relative error", log = "y",
  {"line", x = "step", y = "error", by = "bits"}}]]},

  {"grid", "Panels under each other with a common axis; a label keeps its colour in all of them.", [[
local steps, loss, error = {}, {{}, {}}, {{}, {}}
for i = 1, 80 do
  steps[i] = 100 * i
  for k = 1, 2 do
    loss[k][i] = 2 + 0.15 * k + 6 * steps[i] ^ -0.4
    error[k][i] = 0.004 * 4 ^ k * (1 + 0.3 * math.log(i))
  end
end
local top = {y = "loss", x = "step", {"line", steps, loss[1], label = "4 bits"}, {"line", steps, loss[2], label = "3 bits"}}
local below = {y = "error", x = "step", log = "y", {"line", steps, error[1], label = "4 bits"}, {"line", steps, error[2], label = "3 bits"}}
return q.plot.grid{columns = 1, share = "x", letters = true, height = 4.2, top, below}]]},

  {"inset", "A small plot inside.", [[
local steps, loss, zoom_x, zoom_y = {}, {}, {}, {}
local noise = q.randn(300):totable()
for i = 1, 300 do
  steps[i], loss[i] = 10 * i, 2 + 8 / math.sqrt(10 * i) + 0.02 * noise[i]
  if i > 250 then zoom_x[#zoom_x + 1], zoom_y[#zoom_y + 1] = steps[i], loss[i] end
end
return q.plot{x = "step", y = "loss", {"line", steps, loss},
  insets = {{at = {0.42, 0.42, 0.55, 0.55}, {title = "the last 500 steps", {"line", zoom_x, zoom_y}}}}}]]},

  {"dark", "The same in dark.", [[
local x, layers = {}, {theme = "dark", title = "Dark theme", x = "$x$", y = "$sin(kx)/k$"}
for i = 1, 200 do x[i] = i / 20 end
for k = 1, 5 do
  local y = {}
  for i = 1, 200 do y[i] = math.sin(k * x[i]) / k end
  layers[k] = {"line", x, y, label = "k = " .. k}
end
return q.plot(layers)]]},

  {"weights", "q.plot.weights: a weight matrix, its distribution, and what quantization does to it.", [[
local w = q.randn(256, 384) * 0.02
for _, column in ipairs{40, 41, 200} do
  local c = w:narrow(2, column, 1)
  c:copy_(c * 6)
end
local step = 0.012
local quantized = q.map(w, function(v) return step * math.floor(v / step + 0.5) end)
return q.plot.weights(w, {title = "An outlier column", quantized = quantized})]]},

  {"spectrum", "q.plot.spectrum of matrices: singular values beside those of random entries.", [[
local w = q.randn(192, 128) * 0.02 + q.randn(192, 2):matmul(q.randn(2, 128)) * 0.02
local quantized = q.quant.rtn(w, q.quant.int(3, {group = 64}))
return q.plot.spectrum({w, quantized - w}, {title = "A trained direction, and the noise of rounding",
  labels = {"weights", "error of 3 bits"}})]]},

  {"density", "q.plot.spectrum of q.curvature.density: a Hessian's eigenvalues, with the largest ones found one by one.", [[
local w = q.randn(6, 24):requires_grad()
local x = q.concat({q.randn(256, 2) * 3, q.randn(256, 22) * 0.4}, 2) -- two directions of large variance
local labels = (q.rand(256) * 6):floor():to("i32")
local function loss() return q.nn.cross_entropy(q.linear(x, w), labels) end
local density = q.curvature.density(loss, {w}, {steps = 60, starts = 6, progress = false})
local top = q.curvature.top(loss, {w}, {k = 3, progress = false})
return q.plot.spectrum(density, {title = "The spectrum of a Hessian", top = top})]]},

  {"abc", "q.plot.abc: where the error of a quantized model comes from, module by module.", [[
local m = q.models.new("llama", {vocab_size = 64, hidden_size = 32, intermediate_size = 64, num_hidden_layers = 2,
  num_attention_heads = 4})
local small = q.quant.quantize(m, {method = "rtn", bits = 4, group = 32})
local ids = (q.rand(2, 16) * 63):floor():to("i32")
return q.plot.abc(q.metrics.abc(m, small, ids), {title = "Error by its origin, 4 bits"})]]},
}

local function draw(example)
  q.seed(1)
  return assert(loadstring(example[3], "=" .. example[1]))()
end

--- The page: words, code and picture of every example.
local function page()
  local out = {"# Gallery\n\nEvery kind of figure with the Lua that draws it. Made by `quench run gallery --docs=docs/gallery --force`;",
    "the options of each kind are in [docs/plots.md](../plots.md).\n"}
  for _, e in ipairs(examples) do
    out[#out + 1] = ("## %s\n\n%s\n\n![%s](%s.png)\n\n```lua\n%s\n```\n"):format(e[1], e[2], e[1], e[1], e[3])
  end
  return table.concat(out, "\n")
end

local figures = {}
for _, e in ipairs(examples) do
  figures[e[1]] = function() return draw(e) end
end

return recipe{
  name = "gallery",
  doc = "What does each kind of figure look like, and what does one write for it?",
  params = {
    {"docs", "string", default = "", doc = "also write the page README.md and its pictures into this folder"},
    {"dpi", "number", default = 100, min = 40, max = 600, doc = "of the page's pictures"},
  },
  scales = {smoke = {}, tiny = {}},
  run = function(p)
    local names = {}
    for i, e in ipairs(examples) do
      names[i] = e[1]
      if p.docs ~= "" then
        q.system.make_directories(p.docs)
        draw(e):save(("%s/%s.png"):format(p.docs, e[1]), {dpi = p.dpi, text = {Title = e[1], source = e[3]}})
      end
    end
    if p.docs ~= "" then q.system.write_file(p.docs .. "/README.md", page()) end
    return {figures = names}
  end,
  figures = figures,
}
