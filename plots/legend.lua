--- The legend: which entries it has, how large it is, and where it hides least.

local text = require "quench.plots.text"

local legend = {}

--- Entries of the layers in order, those with the same label together.
function legend.entries(layers)
  local out, by_label = {}, {}
  for _, layer in ipairs(layers) do
    if layer.label and layer.kind.swatch then
      local e = by_label[layer.label]
      if not e then
        e = {label = layer.label, layers = {}}
        by_label[layer.label] = e
        out[#out + 1] = e
      end
      if not e[layer.kind.name] then -- a second curve of the name adds nothing to its sign
        e[layer.kind.name] = true
        e.layers[#e.layers + 1] = layer
      end
    end
  end
  return out
end

local swatch_width, swatch_gap, pad, column_gap = 22, 5, 5, 14

--- Size of the box with the entries in `columns` columns.
function legend.measure(entries, theme, columns)
  columns = math.max(1, math.min(columns or 1, #entries))
  local rows = math.ceil(#entries / columns)
  local row_height = 1.45 * theme.size
  local widths = {}
  for i, e in ipairs(entries) do
    local column = math.floor((i - 1) / rows) + 1
    widths[column] = math.max(widths[column] or 0, (theme.measure(e.label, theme.size)))
  end
  local width = 2 * pad - column_gap
  for _, w in ipairs(widths) do width = width + swatch_width + swatch_gap + w + column_gap end
  return {width = width, height = rows * row_height + 2 * pad - 0.25 * theme.size, rows = rows, row_height = row_height, widths = widths}
end

--- Columns that fit into a width.
function legend.columns_for(entries, theme, width)
  for columns = #entries, 2, -1 do
    if legend.measure(entries, theme, columns).width <= width then return columns end
  end
  return 1
end

function legend.draw(entries, size, view, x, y, boxed)
  local theme = view.theme
  if boxed then view.scene:rectangle(x, y, size.width, size.height):fill(theme.legend) end
  local cx = x + pad
  for column, w in ipairs(size.widths) do
    for row = 1, size.rows do
      local e = entries[(column - 1) * size.rows + row]
      if e then
        local cy = y + pad + (row - 0.5) * size.row_height - 0.125 * theme.size
        for _, layer in ipairs(e.layers) do layer.kind.swatch(layer, view, cx, cy, swatch_width) end
        view.scene:text(cx + swatch_width + swatch_gap, cy, e.label, {size = theme.size, valign = 0.5, colour = theme.ink})
      end
    end
    cx = cx + swatch_width + swatch_gap + w + column_gap
  end
end

--- Sums of ink over all rectangles that start at the top left.
local function integral(ink, cols, rows)
  local sum = {}
  for j = 0, rows do
    local row = 0
    for i = 0, cols do
      if i == 0 or j == 0 then sum[j * (cols + 1) + i] = 0
      else
        row = row + ink[(j - 1) * cols + i]
        sum[j * (cols + 1) + i] = sum[(j - 1) * (cols + 1) + i] + row
      end
    end
  end
  return function(x0, y0, x1, y1)
    local w = cols + 1
    return sum[y1 * w + x1] - sum[y0 * w + x1] - sum[y1 * w + x0] + sum[y0 * w + x0]
  end
end

local cell = 3 -- points; fine enough to see a line

--- The best place for a box of this size by what `sum` says is drawn there: cost, column, row, ink as a part of the box.
-- Free places near corners win, the upper right one first.
local function best_place(sum, cols, rows, size)
  local w, h = math.ceil((size.width + 4) / cell), math.ceil((size.height + 4) / cell)
  local edge, best = 2, nil
  for j = edge, rows - h - edge do
    for i = edge, cols - w - edge do
      local ink = sum(i, j, i + w, j + h) / (w * h)
      local right, left = (cols - w - edge - i) / cols, (i - edge) / cols
      local top, bottom = (j - edge) / rows, (rows - h - edge - j) / rows
      local cost = 60 * ink + math.min(right, left + 0.02) + math.min(top, bottom + 0.04)
      if not best or cost < best.cost then best = {cost = cost, i = i, j = j, ink = ink} end
    end
  end
  return best
end

--- Where in the panel, and in how many columns, the legend covers least of what items `first`.. have drawn.
-- Returns its size, x, y and the ink covered as a part of its area; x is nil if it is larger than the panel.
function legend.place(entries, first, view)
  local cols, rows = math.floor(view.width / cell), math.floor(view.height / cell)
  local sum = integral(view.scene:ink(first, view.left, view.top, cols * cell, rows * cell, cols, rows), cols, rows)
  local chosen, size = nil, legend.measure(entries, view.theme, 1)
  for columns = 1, math.min(3, #entries) do
    local box = legend.measure(entries, view.theme, columns)
    local place = best_place(sum, cols, rows, box)
    if place then
      place.cost = place.cost + 0.15 * (columns - 1)
      if not chosen or place.cost < chosen.cost then chosen, size = place, box end
    end
  end
  if not chosen then return size end
  return size, view.left + chosen.i * cell + 2, view.top + chosen.j * cell + 2, chosen.ink
end

--- Labels at the right ends of curves: their heights, moved apart; nil if they don't fit well.
-- ends: {y = height of the curve's end, layer =}. Returns a list {y =, layer =, width =} and the widest label.
function legend.direct(ends, theme, top, bottom)
  local height = 1.2 * theme.size
  table.sort(ends, function(a, b) return a.y < b.y end)
  for _, e in ipairs(ends) do e.at = e.y end
  for _ = 1, 50 do -- push neighbours apart, half the overlap each
    local moved = false
    for i = 2, #ends do
      local overlap = ends[i - 1].at + height - ends[i].at
      if overlap > 0.01 then
        ends[i - 1].at, ends[i].at = ends[i - 1].at - overlap / 2, ends[i].at + overlap / 2
        moved = true
      end
    end
    for _, e in ipairs(ends) do e.at = math.max(top, math.min(bottom, e.at)) end
    if not moved then break end
  end
  local widest = 0
  for i, e in ipairs(ends) do
    if math.abs(e.at - e.y) > 1.1 * height then return nil end
    if i > 1 and e.at - ends[i - 1].at < 0.9 * height then return nil end
    for _, line in ipairs(text.lines(e.layer.label)) do widest = math.max(widest, (theme.measure(line, theme.size))) end
  end
  return ends, widest
end

return legend
