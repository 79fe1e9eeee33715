--- runs.lua - the public training runs whose checkpoints the paper walks along: where they lie, their revisions, how
-- a revision's name gives step and tokens, the learning rate, and configuration that differs between stages.
--
-- Sources: the revision lists of the paper's code (aldakata/TrainingDynamicsQuantizationRobustness, config/gptq), the
-- reports and configuration files of the runs. What was not found is left out: a run without `rate` has no
-- published schedule that we could read.
--
-- A stage is {pattern of the name, with the step as first capture; scale = steps a unit; after = steps before this stage;
-- tokens_after = tokens before it; config = values for config.json; rate = function(step of the stage) -> learning rate}.

local function cosine(peak, final, warmup, horizon)
  return function(step)
    if step < warmup then return peak * step / warmup end
    local x = math.min(1, (step - warmup) / (horizon - warmup))
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * x))
  end
end

local function wsd(peak, final, warmup, from, steps, shape)
  return function(step)
    if step < warmup then return peak * step / warmup end
    local x = math.min(1, math.max(0, (step - from) / steps))
    return peak + (final - peak) * (shape == "sqrt" and math.sqrt(x) or x)
  end
end

local function linear_to_zero(peak, steps)
  return function(step) return peak * math.max(0, 1 - step / steps) end
end

--- Names made of a pattern and numbers: names("step%d", {1, 2}).
local function names(format, numbers, more)
  local list = {}
  for i, n in ipairs(numbers) do list[i] = format:format(n) end
  for _, name in ipairs(more or {}) do list[#list + 1] = name end
  return list
end

local function range(from, to, step)
  local list = {}
  for n = from, to, step do list[#list + 1] = n end
  return list
end

local function join(...)
  local list = {}
  for _, part in ipairs{...} do
    for _, v in ipairs(part) do list[#list + 1] = v end
  end
  return list
end

-- OLMo 2: cosine over 5e12 tokens to a tenth after 8.39e9 tokens of warm-up; then ingredients, from where the first
-- stage ended linearly to 0. batch: tokens a step; last: steps of the first stage; steps: of each ingredient.
local function olmo2(hub, peak, batch, last, steps)
  local main = cosine(peak, peak / 10, 8.39e9 / batch, 5e12 / batch)
  local stages = {{"^stage1%-step(%d+)%-tokens%d+B$", rate = main}}
  for k, n in ipairs(steps) do
    if n > 0 then
      local pattern = ("^stage2%%-ingredient%d%%-step(%%d+)%%-tokens%%d+B$"):format(k)
      stages[#stages + 1] = {pattern, after = last, rate = linear_to_zero(main(last), n), ingredient = k}
    end
  end
  return {hub = hub, family = "olmo2", tokens_per_step = batch, stages = stages}
end

local runs = {}

runs["smollm3-3b"] = {
  hub = "HuggingFaceTB/SmolLM3-3B-checkpoints", family = "smollm3", tokens_per_step = 2359296,
  revisions = join(names("stage1-step-%dk", {40, 80, 120, 160}), names("stage1-step-%dk", range(200, 3400, 200)),
    names("stage2-step-%dk", {3480, 3680, 3880, 4080, 4200}),
    names("stage3-step-%dk", {4240, 4360, 4400, 4440, 4480, 4520, 4560, 4600, 4640, 4680, 4720}),
    names("lc-4k-to-32k-step-%dk", range(4, 20, 4)), names("lc-32k-to-64k-step-%dk", range(4, 20, 4)),
    {"it-mid-training", "it-SFT", "it-LC-expert", "it-soup-APO"}),
  -- The rotary base is the stage's own; loading an early stage with the last configuration ruins its loss in silence.
  stages = {
    {"^stage[123]%-step%-(%d+)k$", scale = 1000, config = {rope_theta = 50000}, rate = wsd(2e-4, 0, 2000, 4198001, 522000)},
    {"^lc%-4k%-to%-32k%-step%-(%d+)k$", scale = 1000, after = 4720000, config = {rope_theta = 2000000}, rate = cosine(2e-5, 0, 0, 20000)},
    {"^lc%-32k%-to%-64k%-step%-(%d+)k$", scale = 1000, after = 4740000, config = {rope_theta = 5000000}, rate = cosine(2e-5, 0, 0, 20000)},
  },
}

runs["olmo2-1b"] = olmo2("allenai/OLMo-2-0425-1B", 4e-4, 512 * 4096, 1907359, {23852, 23852, 23852})
runs["olmo2-7b"] = olmo2("allenai/OLMo-2-1124-7B", 3e-4, 1024 * 4096, 928646, {11931, 11931, 11931})
runs["olmo2-13b"] = olmo2("allenai/OLMo-2-1124-13B", 3e-4, 2048 * 4096, 596057, {11931, 11931, 11931, 35773})
runs["olmo2-32b"] = olmo2("allenai/OLMo-2-0325-32B", 6e-4, 2048 * 4096, 721901, {11921, 0, 35763, 11921})
-- of the first stage the ends only: those between are listed on the hub
runs["olmo2-1b"].revisions = names("stage2-ingredient%d-step23852-tokens51B", {1, 2, 3},
  {"stage1-step40000-tokens84B", "stage1-step1890000-tokens3964B"})
runs["olmo2-7b"].revisions = names("stage2-ingredient%d-step11931-tokens50B", {1, 2, 3},
  {"stage1-step35000-tokens147B", "stage1-step928646-tokens3896B"})
runs["olmo2-13b"].revisions = names("stage2-ingredient%d-step11931-tokens100B", {1, 2, 3},
  {"stage1-step38000-tokens319B", "stage1-step596057-tokens5001B"})
runs["olmo2-32b"].revisions = {"stage1-step17000-tokens143B", "stage1-step721901-tokens6056B", "stage2-ingredient1-step11921-tokens101B",
  "stage2-ingredient3-step35763-tokens301B"}

runs["amber-7b"] = {
  hub = "LLM360/Amber", family = "llama", revisions = names("ckpt_%03d", range(0, 350, 10), {"ckpt_355"}), stages = {{"^ckpt_(%d+)$"}},
}

runs["apertus-8b"] = {
  hub = "swiss-ai/Apertus-8B-2509", family = "apertus",
  revisions = {"step50000-tokens210B", "step1700000-tokens7232B", "step2627139-tokens15T"},
  stages = {{"^step(%d+)%-tokens%d+[BT]$", rate = wsd(1.1e-4, 1.1e-5, 0, 2627139 - 197219, 197219, "sqrt")}},
}

runs["opensci-1.7b"] = {
  hub = "open-sci/open-sci-ref-v0.01-1.7b-nemotron-hq-1T-4096", family = "opensci", tokens_per_step = 1008 * 4096,
  revisions = {"iter_0058000", "iter_0242000"}, stages = {{"^iter_(%d+)$"}},
}

runs["pythia-160m"] = {
  hub = "EleutherAI/pythia-160m", family = "gpt_neox", tokens_per_step = 1024 * 2048,
  revisions = join(names("step%d", {0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512}), names("step%d", range(1000, 143000, 1000))),
  stages = {{"^step(%d+)$", rate = cosine(6e-4, 6e-5, 1430, 143000)}},
}

return runs
