--- lab/papers.lua - the papers' own numbers, to be drawn and printed beside ours: one place for them, with where they stand.
--
-- The figures of "Training Dynamics" (arXiv 2510.06213; a 160M GPT-NeoX, GPTQ with groups of 128) are digitised from the authors'
-- images, good to about 1 % of an axis; it prints no tables. The tables of "Beyond Outliers" (arXiv 2509.23500) are accuracies,
-- means over three tasks in percent; what is not in the tables that could be read is left out here.

local help = require "quench.help"

local DYNAMICS, OUTLIERS = "Training Dynamics", "Beyond Outliers"

--- A curve: label, colour and marker as ours have, x, y. Cooldowns are known at their ends only: points.
local function curve(label, colour, marker, x, y)
  local single = label == "cooldown" or #x == 1
  return {single and "points" or "line", label = label, colour = colour, marker = marker, dash = not single and "solid" or nil, x = x, y = y}
end

local STABLE = {1, 2, 3, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90}
local ENDS = {10.5, 28.3, 46.0, 63.8, 81.8, 99.5}
local TENS = {10, 20, 30, 40, 50, 60, 70, 80, 90, 99.5}
local LATE = {30, 50, 70, 80, 90, 95, 98, 99.6}
local TRILLIONS = {0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10.2, 10.4, 10.6, 10.8, 11, 11.1}
local COOLED = {40.7, 61.9, 82.8, 99.7}
local ERROR3, ERROR4, LOSS, LOSS3 = "3-bit error (%)", "4-bit error (%)", "validation loss (nats)", "3-bit loss (nats)"

--- Curves of figures: name -> {source, y axis, curves, x axis if it is not billions of tokens}.
local curves = {
  ["decay, 4 bits"] = {"Fig. 4a", ERROR4, {
    curve("constant rate", 1, "circle", STABLE, {0.19, 0.27, 0.34, 0.40, 0.41, 0.43, 0.47, 0.51, 0.51, 0.52, 0.51, 0.54, 0.54, 0.54}),
    curve("cooldown", 2, "square", ENDS, {0.835, 0.914, 0.893, 0.903, 0.922, 0.938})}},
  ["decay, 3 bits"] = {"Fig. 7", ERROR3, {
    curve("constant rate", 1, "circle", TENS, {2.21, 2.49, 2.52, 2.69, 2.79, 2.75, 2.72, 2.79, 2.76, 2.83}),
    curve("cooldown", 2, "square", COOLED, {5.24, 5.56, 5.57, 5.77})}},
  ["decay, loss"] = {"Fig. 4b", LOSS, {
    curve("constant rate", 1, "circle", STABLE,
      {4.13, 3.946, 3.847, 3.780, 3.725, 3.703, 3.693, 3.678, 3.667, 3.664, 3.656, 3.654, 3.653, 3.652}),
    curve("cooldown", 2, "square", ENDS, {3.52, 3.45, 3.435, 3.43, 3.425, 3.42})}},
  ["peak rate, 4 bits"] = {"Fig. 6a", "rise at 4 bits (1e-2 nats)", {
    curve("peak 3e-4", 1, "circle", LATE, {3.66, 4.05, 4.37, 4.51, 5.10, 5.66, 6.13, 6.30}),
    curve("peak 1e-3", 2, "circle", LATE, {2.76, 3.07, 3.19, 3.12, 3.60, 4.20, 4.71, 4.95}),
    curve("peak 3e-3", 3, "circle", LATE, {1.86, 1.96, 1.99, 1.88, 2.31, 2.73, 3.36, 3.55}),
    curve("peak 1e-2", 4, "circle", LATE, {1.33, 1.37, 1.39, 1.43, 1.75, 1.89, 2.46, 2.99})}},
  ["peak rate, 3 bits"] = {"Fig. 6, at the ends", ERROR3, {
    curve("peak 3e-4", 1, "circle", {3.428}, {9.9}), curve("peak 1e-3", 2, "circle", {3.405}, {7.6}),
    curve("peak 3e-3", 3, "circle", {3.406}, {5.8}), curve("peak 1e-2", 4, "circle", {3.460}, {4.4})}, LOSS},
  ["peak rate, losses"] = {"Fig. 6c, at the ends", LOSS3, {
    curve("peak 3e-4", 1, "circle", {3.428}, {3.767}), curve("peak 1e-3", 2, "circle", {3.405}, {3.662}),
    curve("peak 3e-3", 3, "circle", {3.406}, {3.603}), curve("peak 1e-2", 4, "circle", {3.460}, {3.611})}, LOSS},
  ["trajectory, errors"] = {"Fig. 1, SmolLM3-3B", "error (%)", {
    curve("3 bits", 3, "up", TRILLIONS, {2.9, 3.26, 4.24, 4.06, 4.33, 4.55, 4.66, 4.78, 4.74, 4.77, 4.75, 4.76, 4.73, 5.03, 5.40, 5.93, 6.83, 8.1,
      9.1}),
    curve("4 bits", 2, "square", TRILLIONS, {0.55, 0.61, 0.83, 0.74, 0.79, 0.99, 0.93, 0.97, 0.94, 0.85, 0.89, 0.96, 0.95, 1.00, 1.12, 1.19, 1.35,
      1.62, 1.81})}, "tokens (trillions)"},
  ["trajectory, losses"] = {"Fig. 1, SmolLM3-3B", LOSS, {
    curve("full precision", 1, "circle", {0.2, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10.2, 10.4, 10.6, 10.8, 11, 11.1},
      {2.858, 2.799, 2.766, 2.742, 2.733, 2.723, 2.719, 2.715, 2.712, 2.711, 2.717, 2.723, 2.711, 2.697, 2.682, 2.659, 2.632, 2.614}),
    curve("4 bits", 2, "square", {0.2, 0.5, 1, 2, 5, 6, 7, 8, 9, 10, 10.2, 10.6, 10.8, 11, 11.1},
      {2.884, 2.822, 2.785, 2.764, 2.746, 2.740, 2.736, 2.734, 2.744, 2.749, 2.738, 2.715, 2.696, 2.677, 2.661}),
    curve("3 bits", 3, "up", {0.2, 0.5, 1, 2, 3, 4, 5, 6, 10, 10.2, 10.8, 11.1},
      {2.949, 2.918, 2.878, 2.861, 2.857, 2.850, 2.850, 2.843, 2.851, 2.848, 2.840, 2.85})}, "tokens (trillions)"},
  ["averages, loss"] = {"Fig. 7", LOSS, {
    curve("constant rate", 1, "circle", TENS, {3.725, 3.694, 3.678, 3.667, 3.665, 3.657, 3.655, 3.652, 3.652, 3.647}),
    curve("cooldown", 2, "square", COOLED, {3.432, 3.420, 3.412, 3.405}),
    curve("LAWA", 3, "up", TENS, {3.615, 3.544, 3.524, 3.512, 3.506, 3.501, 3.497, 3.497, 3.494, 3.491})}},
  ["averages, 3-bit loss"] = {"Fig. 7", LOSS3, {
    curve("constant rate", 1, "circle", {99.5}, {3.753}), curve("cooldown", 2, "square", COOLED, {3.614, 3.612, 3.606, 3.606}),
    curve("LAWA", 3, "up", {10, 20, 30, 60, 70, 80, 99.5}, {3.665, 3.605, 3.583, 3.564, 3.564, 3.564, 3.560})}},
  ["averages, 3 bits"] = {"Fig. 7", ERROR3, {
    curve("constant rate", 1, "circle", TENS, {2.21, 2.49, 2.52, 2.69, 2.79, 2.75, 2.72, 2.79, 2.76, 2.83}),
    curve("cooldown", 2, "square", COOLED, {5.24, 5.56, 5.57, 5.77}),
    curve("LAWA", 3, "up", TENS, {1.31, 1.72, 1.68, 1.74, 1.80, 1.81, 1.91, 1.91, 1.96, 1.98})}},
}

--- Numbers by optimizer: name -> {source, axis, values}.
local tables = {
  ["accuracy, 50M"] = {"Table 2, 50M", "accuracy (%)", {adamw = 43.75, muon = 45.03, shampoo = 44.81}},
  ["accuracy, 760M"] = {"Table 2, 760M", "accuracy (%)", {adamw = 63.90, muon = 64.63, shampoo = 63.05}},
  ["rounded, 760M"] = {"Table 3, 760M", "accuracy after W4A4 (%)",
    {adamw = 59.22, muon = 50.00, psgd = 52.11, scion = 53.74, shampoo = 59.26, soap = 46.22}},
  ["quest, 760M"] = {"Table 4, 760M", "loss of accuracy (%)", {adamw = 2.63, muon = 3.57, shampoo = 0.46}},
  rho = {"Table 10", "rho, 4 bits", {adamw = 0.863, muon = 0.852, psgd = 0.739, scion = 0.856, shampoo = 0.879, soap = 0.822}},
  E = {"Table 10", "E (nats)", {adamw = 1.40, muon = 1.85, psgd = 1.39, scion = 1.75, shampoo = 1.72, soap = 2.22}},
  correlation = {"Fig. 1", "correlation with the accuracy after W4A4", {mmr = 0.62, kurtosis = 0.70, R_L = -0.89}},
}

return function(lab)
  local function entry_of(list, name)
    local known = {}
    for key in pairs(list) do known[#known + 1] = key end
    table.sort(known)
    return list[name] or error(("q.lab: no numbers of a paper named '%s'; there are %s"):format(name, table.concat(known, ", ")), 3)
  end

  --- A panel of a paper's curves, to stand beside ours: names, colours and markers are those of the recipes. legend: where;
  -- none unless said.
  function lab.paper_panel(name, legend)
    local entry = entry_of(curves, name)
    local layers = {title = ("%s, %s"):format(DYNAMICS, entry[1]), x = entry[4] or "tokens (billions)", y = entry[2], legend = legend or false}
    for i, c in ipairs(entry[3]) do
      layers[i] = {}
      for key, value in pairs(c) do layers[i][key] = value end
    end
    return layers
  end

  --- A paper's numbers by optimizer (or measure): {name -> number}, and where they stand.
  function lab.paper_values(name)
    local entry, copy = entry_of(tables, name), {}
    for key, value in pairs(entry[3]) do copy[key] = value end
    return copy, ("%s, %s"):format(OUTLIERS, entry[1])
  end

  --- A panel of a paper's numbers, a point each in the order of `names`; those without a number are left out.
  function lab.paper_points(name, names)
    local values, source = lab.paper_values(name)
    local x, y = {}, {}
    for _, key in ipairs(names) do
      if values[key] then x[#x + 1], y[#y + 1] = key, values[key] end
    end
    return {title = source, y = entry_of(tables, name)[2], legend = false, {"points", x = x, y = y, colour = "grey"}}
  end

  help.add{"q.lab.paper_panel", lab.paper_panel, "q.lab.paper_panel(name, legend) -> panel",
    "A panel of the curves of a figure of Training Dynamics.",
    source = "Catalan-Tatjer, Ajroldi, Geiping, 2025, digitised", example = [[q.plot.grid{ours, q.lab.paper_panel "decay, 4 bits"}]]}
  help.add{"q.lab.paper_values", lab.paper_values, "q.lab.paper_values(name) -> {key -> number}, source",
    "Numbers of a table of Beyond Outliers, by optimizer.", source = "Vlassis et al. 2025", example = [[q.lab.paper_values("rho").shampoo]]}
  help.add{"q.lab.paper_points", lab.paper_points, "q.lab.paper_points(name, names) -> panel", "A panel of such numbers.",
    source = "Vlassis et al. 2025", example = [[q.plot.grid{ours, q.lab.paper_points("rounded, 760M", q.sweeps.optimizers)}]]}
end
