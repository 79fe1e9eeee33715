--- lab/laws.lua - measured points as what the laws of q.fit are fitted to, and how well a law foretells runs it has not seen.

local q = require "quench"
local help = require "quench.help"
local estimate = require "quench.curvature.estimate"

local DRAWS, LEVEL = 1000, 0.95

return function(lab)
  --- Weights of the matrices of a recipe's model, embedding and head counted: the N of the laws.
  function lab.weights(p) return 12 * p.layers * p.width ^ 2 + 2 * p.vocab * p.width end

  --- The setting at another size: `share` of its width and heads, so that heads stay as wide; scales span no more than a row.
  function lab.sized(p, share)
    local heads = math.max(1, math.floor(share * p.heads + 0.5))
    local width = p.width / p.heads * heads
    return lab.with(p, {heads = heads, width = width, group = math.min(p.group, width)})
  end

  --- Appends to a list what the laws need of the measured points of a run, one entry for each format whose error is positive (a
  -- logarithm is taken): {run=, N=, D=, bits=, P=, lr_now=, lr_peak=, loss=, error=, delta = rise in nats}. formats: name -> bits.
  -- Returns how many entries were left out.
  function lab.add_law_points(list, p, run, points, formats)
    local left_out = 0
    for _, point in ipairs(points) do
      for _, name in ipairs{"gptq4", "gptq3"} do
        local bits, error = formats[name].bits, point[name]
        if error > 0 then
          list[#list + 1] = {run = run, N = lab.weights(p), D = point.tokens, bits = bits, P = bits, lr_now = point.scale * p.lr, lr_peak = p.lr,
            loss = point.loss, error = error, delta = error * point.loss}
        else
          left_out = left_out + 1
        end
      end
    end
    return left_out
  end

  --- {value=, low=, high=} from draws of a value: the middle 95 % of them.
  function lab.interval(value, draws)
    local sorted = {unpack(draws)}
    table.sort(sorted)
    local function quantile(share)
      local at = 1 + (#sorted - 1) * share
      local low = math.floor(at)
      return sorted[low] + (sorted[math.min(low + 1, #sorted)] - sorted[low]) * (at - low)
    end
    return {value = value, low = quantile((1 - LEVEL) / 2), high = quantile((1 + LEVEL) / 2)}
  end

  --- The numbers of the runs of a list of points, in order of appearance: {name, ...}.
  local function runs_of(points)
    local names, seen = {}, {}
    for _, point in ipairs(points) do
      if not seen[point.run] then names[#names + 1], seen[point.run] = point.run, true end
    end
    return names
  end

  --- The estimate of each parameter with its jackknife interval, a run left out at a time: value +- 1.96 errors.
  local function jackknife(params, without)
    local out, n = {}, #without
    for name, value in pairs(params) do
      local values, spread = {}, 0
      for i, p in ipairs(without) do values[i] = p[name] end
      if #values == n then -- a parameter that every fit could tell
        local mean = estimate.mean(values)
        for _, v in ipairs(values) do spread = spread + (v - mean) ^ 2 * (n - 1) / n end
        out[name] = {value = value, low = value - 1.96 * math.sqrt(spread), high = value + 1.96 * math.sqrt(spread)}
      end
    end
    return out
  end

  --- Fits a law to all points and, for each run, to those of the others, and asks it for the run that it has not seen.
  -- fit(points) -> a result of q.fit; target: the field that it predicts. Returns {params = name -> {value=, low=, high=}, rms = of
  -- log measured - log predicted, residuals = in the points' order, squares = {{sum, count} of each run}, points=}.
  function lab.foretold(points, target, fit)
    local names, without = runs_of(points), {}
    local out = {points = points, residuals = {}, squares = {}}
    local square = 0
    for i, name in ipairs(names) do
      local rest, sum, count = {}, 0, 0
      for _, point in ipairs(points) do
        if point.run ~= name then rest[#rest + 1] = point end
      end
      local f = fit(rest)
      without[i] = f.params
      for k, point in ipairs(points) do
        if point.run == name then
          local r = math.log(point[target] / f:predict(point))
          out.residuals[k], sum, count = r, sum + r * r, count + 1
        end
      end
      out.squares[i], square = {sum, count}, square + sum
    end
    out.params, out.rms = jackknife(fit(points).params, without), math.sqrt(square / #points)
    return out
  end

  --- Of two laws on the same points: difference over sum of their errors on runs not seen (below 0: the first is better), with an
  -- interval from drawing the runs with replacement.
  function lab.better_law(a, b, seed)
    local stream, draws, n = q.stream(seed, "laws"), {}, #a.squares
    for k = 1, DRAWS do
      local sa, sb = 0, 0
      for _ = 1, n do
        local i = 1 + stream:below(n)
        sa, sb = sa + a.squares[i][1], sb + b.squares[i][1]
      end
      draws[k] = lab.contrast(math.sqrt(sa), math.sqrt(sb))
    end
    return lab.interval(lab.contrast(a.rms, b.rms), draws)
  end

  -- ---- figures and reports ----

  --- Adds points of measured against foretold values of runs that a law has not seen: where measured(point) gives a number.
  -- runs[i][law] is a result of lab.foretold.
  function lab.add_foretold(layers, runs, law, measured, style)
    local layer = {"points", x = {}, y = {}}
    for _, run in ipairs(runs) do
      for k, point in ipairs(run[law].points) do
        local value = measured(point)
        if value then layer.x[#layer.x + 1], layer.y[#layer.y + 1] = value, value * math.exp(-run[law].residuals[k]) end
      end
    end
    for key, value in pairs(style) do layer[key] = value end
    if #layer.x > 0 then layers[#layers + 1] = layer end
  end

  --- A table of the parameters of the laws named, with their intervals and errors.
  function lab.report_laws(result, names)
    local lines = {"| law | parameter | value and 95 % interval, a run left out at a time |", "| --- | --- | --- |"}
    for _, law in ipairs(names) do
      local r, keys = result[law], {}
      for key in pairs(r.params) do keys[#keys + 1] = key end
      table.sort(keys)
      for _, key in ipairs(keys) do
        local v = r.params[key]
        lines[#lines + 1] = ("| %s | %s | %.3g [%.3g, %.3g] |"):format(law, key, v.value, v.low, v.high)
      end
      lines[#lines + 1] = ("| %s | error on runs not seen | %.3g (rms of logs), %d points of %d runs |"):format(law, r.rms, #r.points, #r.squares)
    end
    return table.concat(lines, "\n")
  end

  --- Adds points {N=, precision=, L=} of one precision and the curve of q.fit.efficiency's parameters through them.
  function lab.add_efficiency(layers, points, params, precision, style)
    local x, y, xs, ys = {}, {}, {}, {}
    for _, point in ipairs(points) do
      if point.precision == precision then x[#x + 1], y[#y + 1] = point.N, point.L end
    end
    local from, to = math.min(unpack(x)), math.max(unpack(x))
    for j = 1, 31 do
      xs[j] = from * (to / from) ^ ((j - 1) / 30)
      ys[j] = params.A / (xs[j] * (params["rho_" .. precision] or 1)) ^ params.alpha + params.E
    end
    layers[#layers + 1] = {"points", x = x, y = y, colour = style.colour, label = style.label}
    layers[#layers + 1] = {"line", x = xs, y = ys, colour = style.colour, marker = false, dash = "solid"}
  end

  for name, record in pairs{
    add_foretold = {"(layers, runs, law, measured, style)", "Adds points of measured against foretold values of unseen runs."},
    report_laws = {"(result, names) -> text", "A table of the parameters of laws, with intervals and errors."},
    add_efficiency = {"(layers, points, params, precision, style)", "Adds points of one precision and the curve of q.fit.efficiency."},
    weights = {"(p) -> number", "Weights of the matrices of a recipe's model, embedding and head counted."},
    sized = {"(p, share) -> p", "The setting at a share of its width and heads."},
    add_law_points = {"(list, p, run, points, formats) -> number", "Appends measured points as q.fit takes them; gives how many were left out."},
    interval = {"(value, draws) -> {value=, low=, high=}", "A value with the middle 95 % of draws of it, as a claim takes it."},
    foretold = {"(points, target, fit) -> {params=, rms=, residuals=, squares=, points=}",
      "A law fitted without each run in turn: its errors on the run that it has not seen, and jackknife intervals."},
    better_law = {"(a, b, seed) -> {value=, low=, high=}", "Two results of q.lab.foretold: difference over sum of their errors."},
  } do
    help.add{"q.lab." .. name, lab[name], "q.lab." .. name .. record[1], record[2]}
  end
end
