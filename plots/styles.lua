--- Methods of panels: which colour and dash each layer has.

local colour = require "quench.plots.colour"

local styles = {}

--- The place in the colour cycle of a layer: a label keeps its place in all panels, others count up in their panel.
local function choose_slot(layer, slots, taken, before)
  local own = layer.o.label -- a fit's own label is only its numbers
  if own and slots[own] then return slots[own] end
  if layer.kind.follows and not own and before then return before.slot end
  local slot = 1
  while taken[slot] or (own and slots.used and slots.used[slot]) do slot = slot + 1 end
  if own then
    slots.used = slots.used or {}
    slots[own], slots.used[slot] = slot, true
  end
  return slot
end

--- Gives every layer its colour. `slots` maps labels to places of the cycle and is shared by the panels of a figure.
function styles:assign_colours(slots)
  local right, before, taken = 0, nil, {}
  for _, layer in ipairs(self.layers) do
    right = right + (layer.o.axis == "y2" and 1 or 0)
    if layer.o.label and slots[layer.o.label] then taken[slots[layer.o.label]] = true end
  end
  for _, layer in ipairs(self.layers) do
    local o, theme = layer.o, self.theme
    local quiet = layer.kind.colourless or (layer.o.axis == "y2" and right == 1)
    local given = o.colour or (self.o.colours and layer.label and self.o.colours[layer.label])
    if given == nil and not quiet then
      layer.slot = choose_slot(layer, slots, taken, before)
      taken[layer.slot] = true
      layer.colour = theme.cycle[(layer.slot - 1) % #theme.cycle + 1]
      if layer.kind.follows and not o.label and before then layer.colour = before.colour end
    else
      layer.slot = type(o.colour) == "number" and o.colour or layer.label and slots[layer.label] or 1
      layer.colour = given and colour.parse(given, layer.where, theme.cycle) or theme.muted
    end
    if o.alpha and not layer.kind.colourless then layer.colour = colour.alpha(layer.colour, o.alpha) end
    if not layer.kind.colourless then before = layer end
  end
end

--- In a legend, lines differ in their dashes too, for grey print; labels beside the lines need no such help.
function styles:assign_dashes()
  local lines = 0
  for _, e in ipairs(self.entries) do
    for _, layer in ipairs(e.layers) do
      if layer.kind.ends and layer.o.axis == "y" then lines = lines + 1 break end
    end
  end
  for _, layer in ipairs(self.layers) do layer.dash_slot = self.mode ~= "direct" and lines > 1 and layer.slot or nil end
end

return styles
