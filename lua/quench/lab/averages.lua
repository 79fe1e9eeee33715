--- lab/averages.lua - averages over the checkpoints that the trunk of a recipe keeps each p.every steps.

local q = require "quench"
local help = require "quench.help"

return function(lab)
  --- The sum of coefficient[k] times the checkpoint at steps[k]: {name -> tensor}.
  local function combined(folder, steps, coefficients)
    local pairs_of = {}
    for k, step in ipairs(steps) do pairs_of[k] = {q.train.checkpoint.path(folder, step), coefficients[k]} end
    return q.average.merge(pairs_of, {prefix = "model."})
  end

  --- LAWA: the mean of the `window` checkpoints up to a step, `spacing` steps apart (Kaddour, 2022).
  function lab.lawa(folder, step, window, spacing)
    local steps, shares = {}, {}
    for k = 1, window do steps[k], shares[k] = step - (k - 1) * spacing, 1 / window end
    return combined(folder, steps, shares)
  end

  --- EMA over all checkpoints up to a step: shares proportional to decay^age, age in units of the spacing.
  function lab.ema(folder, step, decay, spacing)
    local steps, shares, sum = {}, {}, 0
    for k = 1, math.floor(step / spacing) do
      steps[k], shares[k] = step - (k - 1) * spacing, decay ^ (k - 1)
      sum = sum + shares[k]
    end
    for k = 1, #shares do shares[k] = shares[k] / sum end
    return combined(folder, steps, shares)
  end

  --- The decay at which an EMA's mean age is that of a window: decay / (1 - decay) = (window - 1) / 2.
  function lab.ema_decay(window) return (window - 1) / (window + 1) end

  --- The averages of a sweep that end at p.steps: {kind = "lawa" or "ema", window =, spacing = steps, age = mean age in steps}.
  -- p.windows: checkpoints in the mean; p.spacings: between them, in units of p.every. An EMA has the age of its window.
  function lab.averages(p)
    local list = {}
    local function add(kind, window, spacing)
      if (window - 1) * spacing < p.steps - lab.warmup(p, p.steps) then
        list[#list + 1] = {kind = kind, window = window, spacing = spacing, age = (window - 1) / 2 * spacing}
      end
    end
    for _, spacing in ipairs(p.spacings) do
      for _, window in ipairs(p.windows) do add("lawa", window, spacing * p.every) end
    end
    for _, window in ipairs(p.windows) do add("ema", window, p.every) end
    return list
  end

  --- The weights of an average of that list.
  function lab.average(folder, step, a)
    if a.kind == "lawa" then return lab.lawa(folder, step, a.window, a.spacing) end
    return lab.ema(folder, step, lab.ema_decay(a.window), a.spacing)
  end

  --- The neighbours in that list that make one curve: {{name =, first =, final =}, ...}, numbers of entries.
  function lab.average_groups(list)
    local groups = {}
    for i, a in ipairs(list) do
      local name = a.kind == "ema" and "EMA" or ("LAWA, each %d steps"):format(a.spacing)
      if #groups == 0 or groups[#groups].name ~= name then groups[#groups + 1] = {name = name, first = i} end
      groups[#groups].final = i
    end
    return groups
  end

  --- The loss in nats of the quantized model of a measured point.
  function lab.quantized(point, name) return point.loss * (1 + point[name]) end

  for name, record in pairs{
    lawa = {"(folder, step, window, spacing) -> weights", "The mean of the checkpoints up to a step, {name -> tensor}."},
    ema = {"(folder, step, decay, spacing) -> weights", "The exponential average of all checkpoints up to a step."},
    ema_decay = {"(window) -> decay", "The decay at which an EMA's mean age is that of a LAWA window."},
    averages = {"(p) -> list", "The averages of a sweep: LAWA by window and spacing, EMAs of the same mean age."},
    average = {"(folder, step, a) -> weights", "The weights of an average of q.lab.averages."},
    average_groups = {"(list) -> groups", "The entries of q.lab.averages that make one curve: name, first, final."},
    quantized = {"(point, name) -> nats", "The loss of the quantized model of a measured point."},
  } do
    help.add{"q.lab." .. name, lab[name], "q.lab." .. name .. record[1], record[2]}
  end
end
