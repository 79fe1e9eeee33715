--- optim/parameters.lua - from what a user hands to an optimizer to groups of records.
--
-- Parameters may be given as
--   {w, b, ...}                                   plain tensors
--   m:named_parameters()                          records {name=, tensor=, role=, decay=, normalised=}
--   m                                             a model with :named_parameters()
--   {{params = {...}, lr = 0.01}, {params = ...}} groups with settings of their own
-- A record's role is input, hidden, vector or output; without one, tensors of two and more axes are
-- hidden, others vectors. Weight decay applies unless the record says decay = false.

local options = require "quench.options"

local M = {}

M.roles = {"input", "hidden", "vector", "output"}

local function is_tensor(v)
  local mt = getmetatable(v)
  return type(v) == "userdata" and type(mt) == "table" and mt.__name == "tensor"
end

local function is_role(role)
  for _, r in ipairs(M.roles) do
    if r == role then return true end
  end
end

--- A checked record from a tensor or a record; n is its place, which names it if nothing else does.
local function record_of(where, entry, n)
  local record = is_tensor(entry) and {tensor = entry} or entry
  if type(record) ~= "table" then
    options.fail("%s: parameter %d must be a tensor or a record {name=, tensor=, role=, decay=}, got a %s", where, n, type(entry))
  end
  local tensor = record.tensor or record[2]
  local name = record.name or record[1] or tostring(n)
  if not is_tensor(tensor) then options.fail("%s: parameter %d ('%s') has no tensor", where, n, tostring(name)) end
  local role = record.role or (tensor:ndim() >= 2 and "hidden" or "vector")
  if not is_role(role) then
    options.fail("%s: parameter '%s' has the unknown role '%s'%s; roles: %s", where, name, tostring(role),
      options.suggest(role, M.roles), table.concat(M.roles, ", "))
  end
  local normalised = record.normalised
  if normalised == nil then normalised = role == "hidden" end
  return {tensor = tensor, name = name, role = role, decay = record.decay ~= false, normalised = normalised, layer = record.layer}
end

--- Does a group's `match` (a pattern on the name, a role given as role=, or a function of the record) take this record?
local function matches(group, record)
  if group.role and group.role ~= record.role then return false end
  if type(group.match) == "string" and not record.name:find(group.match) then return false end
  if type(group.match) == "function" and not group.match(record) then return false end
  return true
end

local function list_of(where, params)
  if type(params) == "table" and not params.tensor and type(params.named_parameters) == "function" then return params:named_parameters() end
  if type(params) ~= "table" then options.fail("%s: the parameters must be a list or a model, got a %s", where, type(params)) end
  if #params == 0 then options.fail("%s: the list of parameters is empty", where) end
  return params
end

local own = {params = true, match = true, role = true, schedule = true}

--- The settings of a group table: everything but what picks its parameters.
local function settings_of(group)
  local settings = {}
  for key, value in pairs(group) do
    if not own[key] then settings[key] = value end
  end
  return settings
end

local function is_group(entry) return type(entry) == "table" and entry.params ~= nil end

--- Groups {settings=, schedule=, records=} in order; `rules` are the groups option: {match=|role=, settings...}.
function M.groups(where, params, rules)
  local groups, count = {}, 0
  local function open(group)
    groups[#groups + 1] = {settings = settings_of(group), schedule = group.schedule, rule = group, records = {}}
    return groups[#groups]
  end
  local chosen = {}
  local function place(entry, into)
    count = count + 1
    local record = record_of(where, entry, count)
    for _, rule in ipairs(into and {} or rules) do
      if matches(rule, record) then into = chosen[rule] break end
    end
    into = into or chosen.rest
    into.records[#into.records + 1] = record
  end
  for _, rule in ipairs(rules) do chosen[rule] = open(rule) end
  chosen.rest = open{}
  for _, entry in ipairs(list_of(where, params)) do
    if is_group(entry) then
      local group = open(entry)
      for _, inner in ipairs(list_of(where, entry.params)) do place(inner, group) end
    else
      place(entry)
    end
  end
  local filled = {}
  for _, group in ipairs(groups) do
    if #group.records > 0 then
      filled[#filled + 1] = group
    elseif group.rule.match or group.rule.role then
      options.fail("%s: a group (%s) matches no parameter", where, group.rule.role or tostring(group.rule.match))
    end
  end
  return filled
end

return M
