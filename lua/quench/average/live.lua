--- average/live.lua - averages that follow a run: LAWA, EMA, SWA.

local c = require "quench.c.tensor"
local options = require "quench.options"
local sources = require "quench.average.sources"

local M = {}

local Average = {}
Average.__index = Average

--- Looks at the weights after a step; takes them in when it is their turn.
function Average:update(weights, step)
  self.seen = step or self.seen + 1
  local o = self.options
  if self.seen >= (o.start or 1) and (self.seen - (o.start or o.every)) % o.every == 0 then
    self.taken = self.taken + 1
    c.no_grad(self.take, self, sources.of(self.name, weights, ""))
  end
end

--- The averaged weights, or nil before the first were taken.
function Average:weights()
  if self.taken == 0 then return nil end
  return self:mean()
end

--- Runs fn(model) with the averaged weights in the model, then puts the very same weights back.
function Average:apply(model, fn)
  local mean = self:weights() or options.fail("%s: no weights were taken yet", self.name)
  local kept = {}
  for _, r in ipairs(model:named_parameters()) do kept[#kept + 1] = {r.tensor or r[2], (r.tensor or r[2]):clone(), r.name or r[1]} end
  local function put(which)
    c.no_grad(function()
      for _, k in ipairs(kept) do k[1]:copy_(which == "mean" and mean[k[3]] or k[2]) end
    end)
  end
  put "mean"
  local results = {pcall(fn, model)}
  put "kept"
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- What a resumed run needs: a table of tensors.
function Average:state()
  local state = {taken = c.full(self.taken, "f64"), seen = c.full(self.seen, "f64")}
  for k, set in ipairs(self.sets) do
    for name, t in pairs(set) do state[k .. "." .. name] = t end
  end
  return state
end

function Average:load(state)
  local sets = {}
  for key, t in pairs(state) do
    local k, name = key:match("^(%d+)%.(.+)$")
    if k then
      sets[tonumber(k)] = sets[tonumber(k)] or {}
      sets[tonumber(k)][name] = t:clone()
    elseif key ~= "taken" and key ~= "seen" then
      options.fail("%s: the state has an unknown entry '%s'", self.name, key)
    end
  end
  if not state.taken or not state.seen then options.fail("%s: the state lacks 'taken' and 'seen'", self.name) end
  self.sets, self.taken, self.seen = sets, state.taken:item(), state.seen:item()
end

local function new(name, o, take, mean)
  return setmetatable({name = name, options = o, sets = {}, taken = 0, seen = 0, take = take, mean = mean}, Average)
end

local EVERY = {"every", "integer", default = 1, min = 1, doc = "steps between two weights that are taken"}
local START = {"start", "integer", min = 1, doc = "first step that is taken [every]"}

local function copies(source)
  local set = {}
  for _, name in ipairs(source.names) do set[name] = source.read(name):clone() end
  return set
end

--- Moves each tensor of the only set by `share` of the way to the new weights; the first weights start it.
local function approach(self, source, start, share)
  self.sets[1] = self.sets[1] or start(source)
  for _, name in ipairs(source.names) do
    local t = source.read(name)
    if sources.is_real(t) then self.sets[1][name]:axpby_(1 - share, t:detach(), share) end
  end
end

local lawa = options.spec("q.average.lawa", {{"every", "integer", default = 500, min = 1, doc = EVERY.doc}, START,
  {"window", "integer", default = 5, min = 1, doc = "how many of the latest are averaged"}})

function M.lawa(given)
  local o = lawa(given)
  return new("q.average.lawa", o, function(self, source)
    self.sets[#self.sets + 1] = copies(source)
    while #self.sets > o.window do table.remove(self.sets, 1) end -- more than one too many after the load of a longer window
  end, function(self) -- of as many as there are: never scaled by an empty place
    return sources.combine(self.name, sources.list(self.name, self.sets, ""), sources.equal_shares(#self.sets))
  end)
end

--- The only set times a factor.
local function one_set(self, factor) return sources.combine(self.name, {sources.of(self.name, self.sets[1], "")}, {factor}) end

local ema = options.spec("q.average.ema", {EVERY, START,
  {"decay", "number", default = 0.999, min = 0, below = 1, doc = "share of the old average"},
  {"bias_correction", "boolean", default = true,
    doc = "start from zero and divide by 1 - decay^t; without it start at the first weights"}})

local function zeros_of(source)
  local set = {}
  for _, name in ipairs(source.names) do
    local t = source.read(name)
    set[name] = sources.is_real(t) and c.zeros(t:shape(), t:dtype()) or t:clone()
  end
  return set
end

function M.ema(given)
  local o = ema(given)
  return new("q.average.ema", o, function(self, source)
    approach(self, source, o.bias_correction and zeros_of or copies, 1 - o.decay)
  end, function(self)
    return one_set(self, o.bias_correction and 1 / (1 - o.decay ^ self.taken) or 1)
  end)
end

local swa = options.spec("q.average.swa", {EVERY, START})

function M.swa(given)
  return new("q.average.swa", swa(given), function(self, source)
    approach(self, source, zeros_of, 1 / self.taken)
  end, function(self) return one_set(self, 1) end)
end

M.options = {lawa = lawa, ema = ema, swa = swa}

return M
