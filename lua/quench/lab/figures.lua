--- lab/figures.lua - the curves that recipes draw: one run as a line, several seeds as their mean and a band.

local help = require "quench.help"

return function(lab)
  --- The point of a list that was measured at a step, or nil.
  function lab.at_step(points, step)
    for _, point in ipairs(points) do
      if point.step == step then return point end
    end
  end

  --- Steps as millions of tokens, the x axis of the recipes.
  function lab.millions(p, step) return step * p.batch * p.context / 1e6 end

  --- Adds a line to a plot's layers: y(point) against x(point) over the points of each run; of several runs the means.
  function lab.add_line(layers, runs, points_of, x, y, style)
    local layer, seeds = {"line", x = {}, dash = "solid"}, {}
    for s, run in ipairs(runs) do
      seeds[s] = {}
      for k, point in ipairs(points_of(run)) do
        layer.x[k] = (layer.x[k] or 0) + x(point) / #runs
        seeds[s][k] = y(point)
      end
    end
    layer.y = #runs > 1 and seeds or seeds[1]
    for key, value in pairs(style) do layer[key] = value end
    layers[#layers + 1] = layer
  end

  --- Adds points y(point) against x(point) of all runs: points_of(run) is a list, or one point.
  function lab.add_points(layers, runs, points_of, x, y, style)
    local layer = {"points", x = {}, y = {}}
    for _, run in ipairs(runs) do
      local points = points_of(run)
      for _, point in ipairs(#points > 0 and points or {points}) do layer.x[#layer.x + 1], layer.y[#layer.y + 1] = x(point), y(point) end
    end
    for key, value in pairs(style or {}) do layer[key] = value end
    layers[#layers + 1] = layer
  end

  --- Adds the constant rate and each cooldown (from its fork on) to a plot's layers: pick(point) against tokens.
  -- A run has stable = points and cooldowns = {{from = step, points = points}, ...}.
  function lab.add_curves(layers, runs, p, pick)
    local function tokens(point) return lab.millions(p, point.step) end
    lab.add_line(layers, runs, function(r) return r.stable end, tokens, pick, {label = "constant rate", colour = 1, marker = "circle"})
    for i in ipairs(runs[1].cooldowns) do
      lab.add_line(layers, runs, function(r)
        local joined = {lab.at_step(r.stable, r.cooldowns[i].from)}
        for _, point in ipairs(r.cooldowns[i].points) do joined[#joined + 1] = point end
        return joined
      end, tokens, pick, {label = i == 1 and "cooldown" or nil, colour = 2, marker = "square"})
    end
  end

  --- Adds y = x over the layers' range of x, dashed.
  function lab.add_diagonal(layers)
    local low, high = math.huge, -math.huge
    for _, layer in ipairs(layers) do
      for _, x in ipairs(layer.x) do low, high = math.min(low, x), math.max(high, x) end
    end
    layers[#layers + 1] = {"line", x = {low, high}, y = {low, high}, dash = "dashed", marker = false, colour = "grey", width = 0.8}
  end

  help.add{"q.lab.add_line", lab.add_line, "q.lab.add_line(layers, runs, points_of, x, y, style)",
    "Adds a line of y(point) against x(point) to a plot's layers; of several runs the mean and a band.",
    example = "q.lab.add_line(layers, runs, function(r) return r.points end, tokens, error, {colour = 1})"}
  help.add{"q.lab.add_points", lab.add_points, "q.lab.add_points(layers, runs, points_of, x, y, style)",
    "Adds points of y(point) against x(point) of all runs to a plot's layers.",
    example = "q.lab.add_points(layers, runs, function(r) return r.soup end, tokens, error, {label = 'soup'})"}
  help.add{"q.lab.add_curves", lab.add_curves, "q.lab.add_curves(layers, runs, p, pick)",
    "Adds the constant rate and its cooldowns to a plot's layers: one line, or mean and band over seeds.",
    example = "q.lab.add_curves(layers, runs, p, function(point) return point.loss end)"}
  help.add{"q.lab.add_diagonal", lab.add_diagonal, "q.lab.add_diagonal(layers)", "Adds y = x over the layers' range of x, dashed."}
  help.add{"q.lab.at_step", lab.at_step, "q.lab.at_step(points, step) -> point or nil", "The measurement taken at a step.",
    example = "q.lab.at_step(run.stable, 400).loss"}
  help.add{"q.lab.millions", lab.millions, "q.lab.millions(p, step) -> number", "Tokens seen by a step, in millions.",
    example = "q.lab.millions({batch = 8, context = 128}, 1000)"}
end
