--- Corpora by name: fetched once, checked by SHA-256, kept in the user's cache.
--
-- The folder is $QUENCH_DATA, or quench/ under $XDG_CACHE_HOME (~/.cache). Each text is pinned by its
-- own digest, so it does not matter which source it came from or how that was packed.

local system = require "quench.c.system"
local text = require "quench.c.text"
local options = require "quench.options"
local progress = require "quench.progress"

local M = {}

-- Jane Austen's novels as packed by the R package janeaustenr (public domain; package MIT): from Debian's
-- package where apt is, else from the package's repository at its release 1.0.0.
local janeausten = {
  package = "r-cran-janeaustenr",
  inside = "usr/lib/R/site-library/janeaustenr/data/Rdata",
  url = "https://raw.githubusercontent.com/juliasilge/janeaustenr/c50b202f9a6ef24f14d4b1306aab7a0fe9aca011/data/%s.rda",
  texts = {
    prideprejudice = "dfc684d4f857fa938268f9ab9c5567b64bd0691251eca959644adeabe6287a4d",
    emma = "7c67b5985c6d0de1efaeb5d342d52cb82c38083c40e2295129e30e87ee690ebe",
    northangerabbey = "51f91bbe0517db8e65cff009b097ce0a1836124c4e0532ac19e6c0cad982abed",
    sensesensibility = "105e1651fe93bed7130078578efd31e0c557d68667ba672ddc876f735b30fe09",
    mansfieldpark = "98bc90519cdf4ef663ad7de2734bb529435ef24f7abbde6bb1a50898871dafe9",
    persuasion = "8061549557aebd2fd6e353d18d9197cb707029112bd52d4d8b174583a925848a",
  },
}

M.corpora = {
  austen = {
    source = janeausten, doc = "Pride and Prejudice and Emma to train (1.57 MB), Northanger Abbey to validate (0.43 MB)",
    train = {"prideprejudice", "emma"}, validation = {"northangerabbey"},
  },
  austen6 = {
    source = janeausten, doc = "five novels to train (3.59 MB), Northanger Abbey to validate (0.43 MB)",
    train = {"prideprejudice", "emma", "sensesensibility", "mansfieldpark", "persuasion"}, validation = {"northangerabbey"},
  },
}

--- The folder that corpora are kept in.
function M.folder()
  local given = os.getenv "QUENCH_DATA"
  if given and given ~= "" then return given end
  local cache = os.getenv "XDG_CACHE_HOME"
  if not cache or cache == "" then cache = (os.getenv "HOME" or "/tmp") .. "/.cache" end
  return cache .. "/quench"
end

local function quote(s) return "'" .. s:gsub("'", "'\\''") .. "'" end

--- Runs a shell command in a folder. Returns true, or nil and the last line it wrote.
local function run(folder, command)
  local log = folder .. "/log"
  if os.execute(("cd %s && { %s ; } >%s 2>&1 </dev/null"):format(quote(folder), command, quote(log))) == 0 then return true end
  local last = "no output"
  for line in system.read_file(log):gmatch "[^\n]+" do
    if line:find "%S" then last = line end
  end
  return nil, last
end

local function has(program) return os.execute(("command -v %s >/dev/null 2>&1"):format(program)) == 0 end

--- The texts of Debian's package, unpacked without being installed; or nil and why not.
local function from_debian(source, folder)
  if not source.package then return nil, "no Debian package" end
  if not has "apt-get" or not has "dpkg-deb" then return nil, "no apt-get here" end
  local download = "apt-get download " .. source.package
  local ok, why = run(folder, download)
  if not ok then ok, why = run(folder, "apt-get update && " .. download) end -- lists may be missing (as root only)
  if ok then ok, why = run(folder, "dpkg-deb -x " .. source.package .. "_*.deb unpacked") end
  if not ok then return nil, ("%s: %s"):format(download, why) end
  return text.rdata(folder .. "/unpacked/" .. source.inside)
end

--- The named texts from the repository of the package.
local function from_web(source, folder, names)
  local get = has "curl" and "curl -fsSL --max-time 120 %s" or has "wget" and "wget -q -T 60 -O - %s"
  if not get then return nil, "neither curl nor wget here" end
  if not has "bzip2" then return nil, "no bzip2 here" end
  local texts = {}
  for _, name in ipairs(names) do
    local url = source.url:format(name)
    local ok, why = run(folder, (get .. " >%s.bz2 && bzip2 -dc %s.bz2 >%s.rda"):format(quote(url), name, name, name))
    if not ok then return nil, ("%s: %s"):format(url, why) end
    texts[name] = text.rdata(("%s/%s.rda"):format(folder, name))[name]
  end
  return texts
end

local function intact(source, name, content) return content and system.sha256(content) == source.texts[name] end

--- Writes the texts that pass their check; returns nil and the name of the first that does not.
local function keep(source, folder, names, texts)
  for _, name in ipairs(names) do
    if not intact(source, name, texts[name]) then return nil, ("the text of '%s' is not the expected one (SHA-256)"):format(name) end
    system.write_file(("%s/%s.txt"):format(folder, name), texts[name])
  end
  return true
end

local function fetch_missing(name, corpus, folder, missing)
  local reasons = {}
  local work = ("%s/.fetch-%d"):format(folder, system.process())
  progress.message("fetching the corpus %s (%s)", name, corpus.doc)
  for _, from in ipairs{from_debian, from_web} do
    require("quench.recipe.store").remove(work)
    system.make_directories(work)
    local fine, texts, why = pcall(from, corpus.source, work, missing)
    if not fine then texts, why = nil, texts end
    local kept, wrong = nil, why
    if texts then kept, wrong = keep(corpus.source, folder, missing, texts) end
    if kept then reasons = nil break end
    reasons[#reasons + 1] = wrong
  end
  require("quench.recipe.store").remove(work)
  if not reasons then return end
  options.fail([[the corpus '%s' could not be fetched:
  %s
With no way to the network, train on a text of your own (--text FILE, or q.data.text{path = "FILE"}), or copy
%s.txt from another machine's cache into %s]], name, table.concat(reasons, "\n  "), table.concat(missing, ".txt, "), folder)
end

--- Makes sure that a corpus is there. Returns {train = {paths}, validation = {paths}}.
function M.fetch(name)
  local corpus = M.corpora[name]
  if not corpus then
    local names = {}
    for key in pairs(M.corpora) do names[#names + 1] = key end
    table.sort(names)
    options.fail("no corpus '%s'%s; there are: %s", tostring(name), options.suggest(tostring(name), names), table.concat(names, ", "))
  end
  local folder = M.folder() .. "/janeaustenr"
  local paths, missing, seen = {train = {}, validation = {}}, {}, {}
  for split, list in pairs(paths) do
    for i, part in ipairs(corpus[split]) do
      list[i] = ("%s/%s.txt"):format(folder, part)
      local content = not seen[part] and system.exists(list[i]) and system.read_file(list[i])
      if not seen[part] and not intact(corpus.source, part, content) then missing[#missing + 1] = part end
      seen[part] = true
    end
  end
  if #missing > 0 then
    table.sort(missing)
    system.make_directories(folder)
    fetch_missing(name, corpus, folder, missing)
  end
  return paths
end

return M
