-- The recipe runner: parameters, caching, resuming, seeds, claims, shared work, and its errors.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local folder = sh.folder()

--- Throws dice without q's random numbers; counts how often the work really ran in a file.
q.system.write_file(folder .. "/dice.lua", [[
return recipe{
  name = "dice", doc = "Is the mean of two dice seven?",
  params = {
    {"throws", "integer", default = 1000, min = 1, max = 1e6, doc = "how often"},
    {"sides", "list", default = {6, 6}, doc = "of the dice"},
    {"loud", "boolean", default = false, doc = "say so"},
    {"rule", "string", default = "sum", choices = {"sum", "product"}},
  },
  scales = {smoke = {throws = 10}},
  run = function(p, ctx)
    local shared, path = ctx:once({what = "throws", n = p.throws, seed = ctx.seed}, function(path)
      q.system.append_file("count", "once\n")
      q.system.write_file(path .. "/extra.txt", "kept")
      math.randomseed(ctx.seed)
      local sum = 0
      for _ = 1, p.throws do sum = sum + math.random(p.sides[1]) + math.random(p.sides[2]) end
      return {sum = sum, odd = 0 / 0}
    end)
    assert(q.system.read_file(path .. "/extra.txt") == "kept")
    q.system.append_file("count", "run\n")
    if q.system.exists("fail") then error("a failure in the middle") end
    ctx:note("threw %d times", p.throws)
    ctx:log{sum = shared.sum}
    return {mean = shared.sum / p.throws, third = 1 / 3, list = {1, 2.5}}
  end,
  claims = {
    {"C1", "the mean is seven", measure = function(r) return r.mean end, above = 6, below = 8},
    {"C2", "the mean is above nine", measure = function(r) return r.mean end, above = 9},
    {"C3", "nothing to see", measure = function() return nil, "no instrument" end, above = 0},
  },
  report = function(runs) return "There were " .. #runs .. " runs." end,
}
]])

local function dice(arguments) return sh(("cd %s && $Q run dice.lua %s"):format(folder, arguments or "")) end

local function count()
  local file = io.open(folder .. "/count")
  local text = file and file:read("*a") or ""
  if file then file:close() end
  os.remove(folder .. "/count")
  return text:gsub("\n", " ")
end

local function folder_in(out) return folder .. "/" .. out:match("dice  (%S+)") end
local function read(path) return q.system.read_file(path) end

tap.test("a run, found again, and forced", function(t)
  local out, err, status = dice()
  t.equal(status, 0, "runs")
  t.ok(err:find("threw 1000 times", 1, true), "notes go to stderr", err)
  t.ok(out:find("C1   holds ", 1, true) and out:find("C2   does not hold", 1, true), "verdicts on stdout", out)
  t.ok(out:find("C3   not decidable   nothing to see: no instrument", 1, true), "a claim without a measurement", out)
  t.equal(count(), "once run ", "the work ran")
  local results, report = read(folder_in(out) .. "/results.json"), read(folder_in(out) .. "/report.md")
  for _, part in ipairs{"threw 1000 times", "**does not hold**", "There were 1 runs."} do
    t.ok(report:find(part, 1, true), "report.md has " .. part)
  end
  local log = read(folder_in(out) .. "/log.jsonl")
  t.ok(log:find('"sum"', 1, true), "log.jsonl has the logged line")
  local work = log:match('{"event":"work","folder":"([^"]+)"')
  t.ok(work and q.system.exists(folder_in(out) .. "/" .. work .. "/result.json"), "and where shared work was done", log)
  local again, again_err, again_status = dice()
  t.ok(again_status == 0 and again_err == "" and again:find("(finished ", 1, true), "found again", again .. again_err)
  t.equal(count(), "", "without working")
  local forced = dice("--force")
  t.equal(count(), "once run ", "--force works again, shared work too")
  t.equal(read(folder_in(forced) .. "/results.json"), results, "and gives the same bytes")
end)

tap.test("parameters", function(t)
  local out = dice("--throws=50")
  t.equal(count(), "once run ", "another parameter, another run")
  t.ok(read(folder_in(out) .. "/report.md"):find("quench run dice.lua --throws=50", 1, true), "report.md says how to repeat it")
  dice("--throws=50 --loud")
  t.equal(count(), "run ", "work with the same key is shared")
  local smoke, explicit = dice("--scale=smoke"), dice("--throws=10 --no-loud")
  t.equal(folder_in(smoke), folder_in(explicit), "a scale is its parameters")
  local medium, notice = dice("--scale=medium")
  t.ok(folder_in(medium) == folder_in(smoke) and notice:find("dice has no scale 'medium'; 'smoke' is the next smaller it has", 1, true),
    "a usual scale that it lacks is the next smaller, and that is said", notice)
  count()
  local listed, _, status = dice("--seeds=2 --list --scale=smoke")
  t.ok(status == 0 and listed:find("(finished)", 1, true) and listed:find("--seed=2 (new)", 1, true), "--list shows what would run", listed)
  local text = dice("--help")
  for _, part in ipairs{"how often [>= 1, <= 1000000]", "1000", "sum | product", "smoke", "--throws=10", "seed", "claim C2"} do
    t.ok(text:find(part, 1, true), "--help has " .. part, text)
  end
  t.equal(count(), "", "neither works")
end)

tap.test("seeds", function(t)
  local out = dice("--seeds=3")
  t.equal(count(), "once run once run ", "seed 1 was there")
  t.ok(out:find("3 seeds", 1, true) and out:find("%[6%.%d+, 7%.%d+%]"), "an interval over seeds", out)
  local results = q.json.decode(read(folder_in(out) .. "/results.json"))
  t.equal(table.concat(results.seeds, " ") .. " " .. #results.runs, "1 2 3 3", "results of all seeds")
end)

tap.test("failure and interruption", function(t)
  q.system.write_file(folder .. "/fail", "")
  local out, err, status = dice("--seed=77")
  t.ok(out == "" and status == 1 and err:find("dice.lua:%d+: a failure in the middle"), "a failing run gives its error", err)
  os.remove(folder .. "/fail")
  count()
  out, err, status = dice("--seed=77")
  t.ok(status == 0 and out:find("C1"), "and can go on afterwards", err)
  t.equal(count(), "run ", "with the shared work it had finished")
  local busy = folder_in(out)
  local lock = q.system.lock(busy .. "/.lock")
  out, err, status = dice("--seed=77 --force")
  t.ok(out == "" and status == 1 and err:find("another process is working in", 1, true), "a folder in use is left alone", err)
  lock:release()
end)

tap.test("bad command lines", function(t)
  for arguments, expected in pairs{
    ["--throw=5"] = "did you mean 'throws'", ["--throws=x"] = "expected integer", ["--throws=0"] = "at least 1",
    ["--throws=1.5"] = "throws must be integer", ["--throws"] = "--throws needs a value", ["--rule=sun"] = "did you mean 'sum'",
    ["--scale=smok"] = "did you mean 'smoke'", ["throws"] = "--name=value", ["--loud=maybe"] = "expected boolean",
    ["--sed=3"] = "did you mean 'seed'",
  } do
    local out, err, status = dice(arguments)
    t.ok(out == "" and status == 1 and err:find(expected, 1, true) and select(2, err:gsub("\n", "")) == 1, "dice " .. arguments, err)
  end
  local _, err, status = sh "$Q run decya_nothing"
  t.ok(status == 1 and err:find("no recipe 'decya_nothing'", 1, true), "an unknown recipe", err)
  _, err, status = sh "$Q run"
  t.ok(status == 1 and err:find("which recipe?", 1, true), "no recipe", err)
  t.equal(count(), "", "none of them works")
end)

tap.test("bad recipes", function(t)
  local function declare(given) return function() return recipe(given) end end
  local run = function() return {} end
  t.fails(declare{name = "a", doc = "b", run = run, parms = {}}, "did you mean 'params'")
  t.fails(declare{name = "a b", doc = "b", run = run}, "name must be letters")
  t.fails(declare{name = "a", doc = "b"}, "run is required")
  t.fails(declare{name = "a", doc = "b", run = run, scales = {smoke = {steps = 1}}}, "scale smoke of recipe a: unknown option 'steps'")
  t.fails(declare{name = "a", doc = "b", run = run, claims = {{"C", "text", measure = run}}}, "say where it is true")
  local empty = recipe{name = "a", doc = "b", run = function() return 3 end}
  t.fails(function() q.recipe.run(empty, {"--out=" .. folder}) end, "must return a table of results, got number")
end)

tap.test("claims", function(t)
  local claims = require "quench.recipe.claims"
  local function judge(values, region)
    local c = claims.declare{"C", "text", measure = function(r) return r.v end, above = region.above, below = region.below}
    local results = {}
    for i, v in ipairs(values) do results[i] = {v = v} end
    return claims.judge(c, results, {})
  end
  local j = judge({1, 2, 3}, {above = 0})
  -- mean 2, s = 1, t(0.975, 2) = 4.3027: 2 -+ 2.484
  t.near({j.value, j.low, j.high}, {2, 2 - 2.4842, 2 + 2.4842}, 1e-4, "Student's interval of 1, 2, 3")
  t.equal(j.verdict, "not decidable", "zero is inside")
  t.equal(judge({1, 1.1, 1.2}, {above = 0}).verdict, "holds", "the interval lies inside")
  t.equal(judge({1, 1.1, 1.2}, {above = 2}).verdict, "does not hold", "the interval lies outside")
  t.equal(judge({1, 1.1, 1.2}, {above = 0, below = 1.1}).verdict, "not decidable", "the interval crosses an edge")
  t.equal(judge({0 / 0}, {above = 0}).verdict, "not decidable", "NaN decides nothing")
  local own = claims.declare{"C", "text", above = 0, measure = function() return {value = 1, low = -1, high = 3} end}
  t.equal(claims.judge(own, {{}}, {}).verdict, "not decidable", "a claim's own interval counts")
end)

tap.test("new, show, replay", function(t)
  local at = ("cd %s && "):format(folder)
  local out, err, status = sh(at .. "$Q new first")
  t.ok(status == 0 and out:find("wrote first.lua", 1, true), "a skeleton is written", out .. err)
  out, err, status = sh(at .. "$Q new first")
  t.ok(status == 1 and err:find("exists already", 1, true), "and not over another file", out .. err)
  out, err, status = sh(at .. "$Q run first.lua --scale=smoke --noise=0.25")
  local picture = out:match("figure (%S+)")
  t.ok(status == 0 and picture, "it runs and draws", out .. err)
  out, err, status = sh(at .. "$Q show " .. tostring(picture))
  t.ok(status == 0 and out:find("noise%s+0.25") and out:find("return recipe{", 1, true) and out:find("processor", 1, true),
    "the figure tells its recipe, parameters and machine", out .. err)
  sh(at .. "mv " .. tostring(picture) .. " moved.png && rm -r out first.lua")
  out, err, status = sh(at .. "$Q replay moved.png")
  t.ok(status == 0 and out:find("the same bytes as moved.png", 1, true), "it runs again from the picture alone", out .. err)
  t.ok(not out:find("nothing was computed", 1, true), "really", out)
  out = sh(at .. "$Q replay moved.png")
  t.ok(out:find("nothing was computed; --force runs it again\nthe same bytes", 1, true), "a second time it is found finished, which is said", out)
  local own = sh(at .. "ls out/first/*/*.png"):match("%S+")
  sh(at .. "cp " .. own .. " kept.png && printf x >> " .. own) -- a figure that its recipe does not give
  out = sh(at .. "$Q replay " .. own .. " --force")
  t.ok(out:find("not the same bytes as out/", 1, true) and q.system.read_file(folder .. "/" .. own) == q.system.read_file(folder .. "/kept.png"),
    "a figure in its own folder is compared as it was before", out)
  out, err, status = sh(at .. "$Q replay moved.png --help && $Q replay --help")
  t.ok(status == 0 and out:find("\n  noise ", 1, true) and out:find("quench replay FIGURE.png", 1, true) and not err:find("running", 1, true),
    "--help shows what can be changed, and runs nothing", out .. err)
  out, err, status = sh(at .. "$Q replay moved.png --noise=0.5")
  t.ok(status == 0 and not out:find("same bytes", 1, true), "and with another parameter", out .. err)
  q.plot{x = "x", {"points", {1}, {1}}}:save(folder .. "/plain.png")
  out, err, status = sh(at .. "$Q show plain.png")
  t.ok(out == "" and status == 1 and err:find("was not made by a recipe", 1, true), "a figure without a recipe", err)
  out, err, status = sh(at .. "$Q replay nothing.png")
  t.ok(out == "" and status == 1 and err:find("nothing.png", 1, true), "a missing figure", err)
end)

sh.clean()
tap.done()
