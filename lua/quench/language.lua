--- A synthetic language whose entropy is known exactly: a random sparse Markov chain of order k.
--
-- Tokens 0 .. V-1. After a token, `branching` others can follow (drawn once, frequent ones more often:
-- Zipf); which of them is likely depends on the last k tokens, a little on each length of context:
--   p(choice c | context) ~ exp(strength * sum over j = 1..k of z_j(last j tokens, c) / sqrt(k)),  z_j normal.
-- So a model can gain from every token of context up to k, and from none beyond.
--
-- A state is a path: the token k steps back and the k - 1 choices since, V b^(k-1) states. The chain is
-- irreducible by construction (token i can always be followed by i + 1), so it has one stationary
-- distribution pi, and with it everything is a finite sum: the entropy rate
--   H = - sum pi(s) sum_c p(c|s) ln p(c|s)      (nats per token; Shannon, 1948, section 7)
-- and the least loss with n < k tokens of context, where pi and p are summed over the rest of the state.

local q = require "quench"
local ffi = require "ffi"
local Data = require "quench.dataset"
local compiled = require "quench.compiled"
local system = require "quench.c.system"
local options = require "quench.options"
local help = require "quench.help"

local MOST_STATES = 2 ^ 22

local spec = options.spec("q.data.language", {
  {"vocab", "integer", default = 64, min = 2, max = 65536, doc = "different tokens"},
  {"order", "integer", default = 2, min = 1, max = 8, doc = "tokens of context that matter"},
  {"branching", "integer", default = 8, min = 2, doc = "tokens that can follow a token"},
  {"strength", "number", default = 1.5, min = 0, doc = "how much the context tells; 0: all followers equally likely"},
  {"zipf", "number", default = 1, min = 0, doc = "exponent of how often tokens occur among the followers; 0: all the same"},
  {"seed", "integer", default = 0, doc = "of the language and of its texts"},
  {"train", "integer", default = 2 ^ 20, min = 1, unit = "tokens", doc = "length of the train split"},
  {"validation", "integer", default = 2 ^ 16, min = 1, unit = "tokens", doc = "length of the validation split"},
})

local doubles, ints = ffi.typeof "double[?]", ffi.typeof "int32_t[?]"

--- follow[t * b + c]: the token that choice c leads to from t; all different for one t.
local function make_followers(o, stream)
  local V, b = o.vocab, o.branching
  local cumulative, total = doubles(V), 0
  for i = 0, V - 1 do
    total = total + (i + 1) ^ -o.zipf
    cumulative[i] = total
  end
  local function draw()
    local u, low, high = stream:uniform() * total, 0, V - 1
    while low < high do
      local middle = math.floor((low + high) / 2)
      if cumulative[middle] <= u then low = middle + 1 else high = middle end
    end
    return low
  end
  local follow = ints(V * b)
  for t = 0, V - 1 do
    local taken = {[(t + 1) % V] = true}
    follow[t * b] = (t + 1) % V
    for c = 1, b - 1 do
      local x, tries = draw(), 0
      while taken[x] do -- after some tries the next free one, so that it ends for any exponent
        tries = tries + 1
        x = tries < 20 and draw() or (x + 1) % V
      end
      taken[x] = true
      follow[t * b + c] = x
    end
  end
  return follow
end

--- p[s * b + c], from one table of normal numbers for each length of context.
local function make_probabilities(o, follow, states)
  local V, b, k = o.vocab, o.branching, o.order
  local p = doubles(states * b)
  local z, pinned = {}, {}
  for j = 1, k do
    local normal = q.zeros(V * b ^ j, "f64"):normal_(q.stream(o.seed, "language.z" .. j))
    pinned[j], z[j] = normal, ffi.cast("double *", normal:data())
  end
  local scale = o.strength / math.sqrt(k)
  compiled(function()
    for j = 1, k do
      -- the last j tokens of state s: the token j - 1 choices before its end, and those choices
      local tail, zj = b ^ (j - 1), z[j]
      for s = 0, states - 1 do
        local rest, token = s, math.floor(s / b ^ (k - 1))
        for step = k - 2, j - 1, -1 do
          local place = b ^ step
          token = follow[token * b + math.floor(rest / place) % b]
          rest = rest % place
        end
        local context = token * tail + s % tail
        for c = 0, b - 1 do p[s * b + c] = p[s * b + c] + scale * zj[context * b + c] end
      end
      system.check_interrupt()
    end
    for s = 0, states - 1 do
      local total = 0
      for i = s * b, s * b + b - 1 do
        p[i] = math.exp(p[i])
        total = total + p[i]
      end
      for i = s * b, s * b + b - 1 do p[i] = p[i] / total end
    end
  end)
  for _, normal in ipairs(pinned) do normal:free() end
  return p
end

--- next[s * b + c]: the state behind choice c.
local function make_transitions(o, follow, states)
  local b, to = o.branching, ints(states * o.branching)
  local first = b ^ (o.order - 1)
  for s = 0, states - 1 do
    for c = 0, b - 1 do
      if o.order == 1 then
        to[s * b + c] = follow[s * b + c]
      else
        local token, rest = math.floor(s / first), s % first
        local oldest = math.floor(rest * b / first)
        to[s * b + c] = follow[token * b + oldest] * first + (rest * b) % first + c
      end
    end
  end
  return to
end

--- The stationary distribution by power iteration with the lazy chain (I + P) / 2, which no period stops.
local function stationary(p, to, states, b)
  local pi, new = doubles(states), doubles(states)
  for s = 0, states - 1 do pi[s] = 1 / states end
  local change
  compiled(function()
    for _ = 1, 100000 do
      for s = 0, states - 1 do new[s] = 0.5 * pi[s] end
      for s = 0, states - 1 do
        local half = 0.5 * pi[s]
        for i = s * b, s * b + b - 1 do new[to[i]] = new[to[i]] + half * p[i] end
      end
      change = 0
      for s = 0, states - 1 do change = change + math.abs(new[s] - pi[s]) end
      pi, new = new, pi
      system.check_interrupt()
      if change < 1e-14 then break end
    end
  end)
  if not (change < 1e-10) then
    options.fail("q.data.language: the chain mixes too slowly (change %g); choose a larger branching", change)
  end
  return pi
end

-- ---- the data object ------------------------------------------------------

local Language = setmetatable({}, {__index = Data})
Language.__index = Language
Language.__tostring = Data.__tostring

--- -sum over groups of w ln(w / their total), in nats.
local function entropy_of(weights, groups, width)
  local h = 0
  for g = 0, groups - 1 do
    local total = 0
    for i = g * width, g * width + width - 1 do total = total + weights[i] end
    for i = g * width, g * width + width - 1 do
      if weights[i] > 0 then h = h - weights[i] * math.log(weights[i] / total) end
    end
  end
  return h
end

--- The least possible mean loss (nats per token) of a model that sees the last n tokens.
function Language:floor(n)
  local V, b, k = self.options.vocab, self.options.branching, self.options.order
  if type(n) ~= "number" or n < 0 or n ~= math.floor(n) then
    options.fail("language:floor(n): n counts tokens of context, got %s", tostring(n))
  end
  n = math.min(n, k)
  if self.floors[n] then return self.floors[n] end
  local groups, width = n == 0 and 1 or V * b ^ (n - 1), n == 0 and V or b
  local weights = doubles(groups * width)
  for s = 0, self.states - 1 do
    local token, rest = math.floor(s / b ^ (k - 1)), s
    for step = k - 2, math.max(n - 1, 0), -1 do
      local place = b ^ step
      token = self.follow[token * b + math.floor(rest / place) % b]
      rest = rest % place
    end
    local group = n == 0 and 0 or token * b ^ (n - 1) + s % b ^ (n - 1)
    for c = 0, b - 1 do
      local i = n == 0 and self.follow[token * b + c] or group * b + c
      weights[i] = weights[i] + self.pi[s] * self.p[s * b + c]
    end
  end
  self.floors[n] = entropy_of(weights, groups, width)
  return self.floors[n]
end

--- The entropy rate in nats per token: the loss that no model can beat.
function Language:entropy() return self:floor(self.options.order) end

function Language:vocab_size() return self.options.vocab end

Language.bytes, Language.text, Language.bytes_per_token = false, false, false -- there are no bytes behind it

--- n tokens of the language, begun in the stationary distribution.
function Language:generate(n, stream)
  local b, states = self.options.branching, self.states
  local p, to, pi, follow = self.p, self.to, self.pi, self.follow
  local uniform, ids = q.zeros(n + 1, "f64"):uniform_(stream), q.zeros(n, "i32")
  local u, out = ffi.cast("double *", uniform:data()), ffi.cast("int32_t *", ids:data())
  local first = b ^ (self.options.order - 1)
  compiled(function()
    local s, left = 0, u[n]
    while s < states - 1 and left >= pi[s] do left, s = left - pi[s], s + 1 end
    local token = math.floor(s / first) -- the token that the state ends in: follow its choices
    for step = self.options.order - 2, 0, -1 do token = follow[token * b + math.floor(s / b ^ step) % b] end
    for i = 0, n - 1 do
      local c, rest = 0, u[i]
      while c < b - 1 and rest >= p[s * b + c] do rest, c = rest - p[s * b + c], c + 1 end
      token = follow[token * b + c]
      out[i] = token
      s = to[s * b + c]
    end
  end)
  uniform:free()
  return ids
end

local function language(o)
  o = spec(o)
  if o.branching > o.vocab then options.fail("q.data.language: branching %d is more than the vocab of %d", o.branching, o.vocab) end
  local states = o.vocab * o.branching ^ (o.order - 1)
  if states * o.branching > MOST_STATES then
    options.fail("q.data.language: vocab * branching^order = %.0f transitions, at most %d; lower one of them", states * o.branching,
      MOST_STATES)
  end
  local self = setmetatable({options = o, states = states, floors = {}, name = "language", parts = {}}, Language)
  self.follow = make_followers(o, q.stream(o.seed, "language.followers"))
  self.p = make_probabilities(o, self.follow, states)
  self.to = make_transitions(o, self.follow, states)
  self.pi = stationary(self.p, self.to, states, o.branching)
  for _, split in ipairs{"train", "validation"} do
    self.parts[split] = {tokens = self:generate(o[split], q.stream(o.seed, "language." .. split))}
  end
  return self
end

help.add{"language:entropy", Language.entropy, "d:entropy() -> nats per token", "The entropy rate of a synthetic language: no model's loss is below.",
  source = "Shannon, 1948, section 7", see = {"q.data.language", "language:floor"}}

help.add{"language:floor", Language.floor, "d:floor(n) -> nats per token", "The least mean loss of a model that sees the last n tokens.",
  text = "floor(0) is the entropy of token frequencies; from the language's order on it is the entropy rate.", see = {"language:entropy"}}

help.add{"language:generate", Language.generate, "d:generate(n, stream) -> i32 tensor (n)", "More text of a synthetic language.",
  example = [[q.data.language{seed = 1}:generate(1000, q.stream(1, "more"))]], see = {"q.data.language"}}

help.add{"q.data.language", language, "language(options) -> data", "A synthetic language whose entropy rate is known exactly.",
  text = [[
A random sparse Markov chain. data:entropy() is its entropy rate in nats per token, the loss that no model can beat;
data:floor(n) the least loss with n tokens of context (n = 0: token frequencies alone). Otherwise as q.data.text:
batch, tokens, splits, vocab_size. The same options give the same language and the same texts. data:generate(n, stream)
makes more of it.]],
  options = spec, errors = "more transitions than fit", source = "Shannon, 1948, section 7: entropy of a Markov source",
  example = [[
local data = q.data.language{vocab = 64, order = 2, seed = 1}
print(data:floor(0), data:floor(1), data:entropy())]], see = {"q.data.text"}}

return language
