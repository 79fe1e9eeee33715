--- report.md: what was asked, measured and found, and how to do it again.

local claims = require "quench.recipe.claims"

local report = {}

local function value_text(v)
  if type(v) ~= "table" then return tostring(v) end
  local parts = {}
  for i, item in ipairs(v) do parts[i] = value_text(item) end
  return table.concat(parts, ",")
end

--- "--steps=100 --lr=0.1": the parameters that differ from the defaults, as on a command line.
function report.arguments(recipe, params)
  local parts = {}
  for _, entry in ipairs(recipe.spec) do
    local value = params[entry[1]]
    if value ~= nil and value_text(value) ~= value_text(entry.default) then
      parts[#parts + 1] = ("--%s=%s"):format(entry[1], value_text(value))
    end
  end
  return table.concat(parts, " ")
end

local function claim_lines(add, judged)
  if #judged == 0 then return end
  add "## Claims\n"
  add "| claim | verdict | measured | true where |"
  add "| --- | --- | --- | --- |"
  for _, j in ipairs(judged) do
    local source = j.source and " (" .. j.source .. ")" or ""
    add(("| %s: %s%s | **%s** | %s | %s |"):format(j.id, j.text, source, j.verdict, claims.measured(j), j.region))
  end
  add ""
end

--- The text of report.md. run: {recipe, params, seeds, folder, judged, figures, notes, seconds, stamp, extra}.
function report.text(run)
  local lines = {}
  local function add(text) lines[#lines + 1] = text end
  add("# " .. run.recipe.name .. "\n")
  add(run.recipe.doc .. "\n")
  claim_lines(add, run.judged)
  for _, figure in ipairs(run.figures) do add(("![%s](%s)\n"):format(figure:gsub("%.png$", ""), figure)) end
  if run.extra then add(run.extra .. "\n") end
  if #run.notes > 0 then
    add "## Notes\n"
    for _, note in ipairs(run.notes) do add("- " .. note) end
    add ""
  end
  add "## Parameters\n"
  add "| parameter | value | default | meaning |"
  add "| --- | --- | --- | --- |"
  for _, entry in ipairs(run.recipe.spec) do
    add(("| %s | %s | %s | %s |"):format(entry[1], value_text(run.params[entry[1]]), value_text(entry.default), entry.doc or ""))
  end
  add "\n## Again\n"
  add(("```\nquench run %s %s%s\n```\n"):format(run.recipe.path or run.recipe.name, report.arguments(run.recipe, run.params),
    run.seeds > 1 and " --seeds=" .. run.seeds or ""))
  local s = run.stamp
  add(("Quench %s, OpenBLAS %s (%s kernels), %s, %d threads, %.0f s."):format(s.quench, s.openblas, s.blas_core, s.processor,
    s.threads, run.seconds))
  return table.concat(lines, "\n") .. "\n"
end

return report
