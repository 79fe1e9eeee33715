/* optim.c - the optimizers in Lua: the table of what there is, and one handle type.
 * Options, roles and groups are sorted out in quench/optim.lua. */
#include "optim/optim.h"

#include <math.h>
#include <string.h>

#include "bind/bind.h"
#include "bind/modules.h"

static const char *const OPTIMIZER = "quench.optimizer";

static Optimizer *self(lua_State *L) { return *(Optimizer **)luaL_checkudata(L, 1, OPTIMIZER); }

/* --- the table --- */

static void push_setting(lua_State *L, const Setting *s) {
  static const char *const kinds[] = {"number", "integer", "boolean", "choice", "list"};
  int count = s->count ? s->count : 1;
  lua_createtable(L, 0, 8);
  lua_pushstring(L, s->name), lua_setfield(L, -2, "name");
  lua_pushstring(L, kinds[s->kind]), lua_setfield(L, -2, "kind");
  lua_pushstring(L, s->doc), lua_setfield(L, -2, "doc");
  lua_pushnumber(L, s->low), lua_setfield(L, -2, "low");
  lua_pushnumber(L, s->high), lua_setfield(L, -2, "high");
  lua_pushboolean(L, s->open & OPEN_LOW), lua_setfield(L, -2, "open_low");
  lua_pushboolean(L, s->open & OPEN_HIGH), lua_setfield(L, -2, "open_high");
  lua_newtable(L);
  for (int i = 0; i < count; i++) lua_pushnumber(L, s->value[i]), lua_rawseti(L, -2, i + 1);
  lua_setfield(L, -2, "value");
  if (!s->choices) return;
  lua_newtable(L);
  for (int i = 0; s->choices[i]; i++) lua_pushstring(L, s->choices[i]), lua_rawseti(L, -2, i + 1);
  lua_setfield(L, -2, "choices");
}

static int list(lua_State *L) { /* list() -> {{name=, doc=, source=, settings={...}}, ...} */
  lua_newtable(L);
  for (int i = 0; optim_table[i]; i++) {
    const OptimInfo *info = optim_table[i];
    lua_createtable(L, 0, 4);
    lua_pushstring(L, info->name), lua_setfield(L, -2, "name");
    lua_pushstring(L, info->doc), lua_setfield(L, -2, "doc");
    lua_pushstring(L, info->source), lua_setfield(L, -2, "source");
    lua_newtable(L);
    for (int k = 0; info->settings[k].name; k++) push_setting(L, &info->settings[k]), lua_rawseti(L, -2, k + 1);
    lua_setfield(L, -2, "settings");
    lua_rawseti(L, -2, i + 1);
  }
  return 1;
}

/* --- life --- */

static int new(lua_State *L) { /* new(rule or nil, name, max_norm) */
  const char *rule = luaL_optstring(L, 1, NULL), *name = luaL_checkstring(L, 2);
  const OptimInfo *info = rule ? optim_find(rule) : &optim_custom;
  if (!info) return bind_raise(L);
  double max_norm = luaL_optnumber(L, 3, 0);
  Optimizer **handle = lua_newuserdata(L, sizeof *handle);
  *handle = NULL;
  luaL_getmetatable(L, OPTIMIZER);
  lua_setmetatable(L, -2);
  bind_check(L, optim_new(info, name, max_norm, handle));
  return 1;
}

static int collect(lua_State *L) {
  Optimizer **handle = luaL_checkudata(L, 1, OPTIMIZER);
  optim_free(*handle);
  *handle = NULL;
  return 0;
}

static int group(lua_State *L) { /* o:group{numbers in table order} */
  Optimizer *o = self(L);
  int n = (int)lua_objlen(L, 2);
  if (n != optim_settings_count(o->info)) return luaL_error(L, "group: %d settings expected, got %d", optim_settings_count(o->info), n);
  double *values = lua_newuserdata(L, sizeof(double) * (size_t)(n + 1));
  for (int i = 0; i < n; i++) lua_rawgeti(L, 2, i + 1), values[i] = lua_tonumber(L, -1), lua_pop(L, 1);
  bind_check(L, optim_group(o, values));
  return 0;
}

static int parameter(lua_State *L) { /* o:parameter(tensor, name, role, decay, normalised) */
  ParameterSpec s = {bind_tensor(L, 2), luaL_checkstring(L, 3), (Role)luaL_checkoption(L, 4, "hidden", role_names), lua_toboolean(L, 5),
                     lua_toboolean(L, 6)};
  bind_check(L, optim_parameter(self(L), &s));
  return 0;
}

static int set(lua_State *L) { /* o:set(group, name, value) */
  bind_check(L, optim_set(self(L), (int)bind_integer(L, 2, "group") - 1, luaL_checkstring(L, 3), luaL_checknumber(L, 4)));
  return 0;
}

/* --- steps --- */

/* The list of scales at arg, one a group, as doubles; nil gives NULL. */
static const double *scales(lua_State *L, int arg, const Optimizer *o) {
  if (lua_isnoneornil(L, arg)) return NULL;
  luaL_checktype(L, arg, LUA_TTABLE);
  double *values = lua_newuserdata(L, sizeof(double) * (size_t)(o->groups + 1));
  for (int i = 0; i < o->groups; i++) {
    lua_rawgeti(L, arg, i + 1);
    values[i] = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : NAN;
    lua_pop(L, 1);
  }
  return values;
}

static int step(lua_State *L) { /* o:step({scale a group}) -> norm before clipping */
  double norm;
  Optimizer *o = self(L);
  bind_check(L, optim_step(o, scales(L, 2, o), &norm));
  return lua_pushnumber(L, norm), 1;
}

static int begin(lua_State *L) {
  double norm;
  bind_check(L, optim_begin(self(L), &norm));
  return lua_pushnumber(L, norm), 1;
}

static int apply(lua_State *L) {
  Optimizer *o = self(L);
  bind_check(L, optim_apply(o, scales(L, 2, o)));
  return 0;
}

static int finish(lua_State *L) {
  optim_end(self(L));
  return 0;
}

static int index_arg(lua_State *L, const Optimizer *o) {
  int64_t i = bind_integer(L, 2, "parameter");
  if (i < 1 || i > o->parameters) luaL_argerror(L, 2, "no such parameter");
  return (int)i - 1;
}

static int gradient(lua_State *L) { /* o:gradient(i): clipped; nil where there is none */
  Optimizer *o = self(L);
  Tensor *g;
  bind_check(L, optim_gradient(o, index_arg(L, o), &g));
  return g ? bind_push_tensor(L, pool_keep(g)) : 0;
}

static int slot(lua_State *L) { /* o:slot(i, name): makes a zeroed state tensor of parameter i and returns it */
  Optimizer *o = self(L);
  Parameter *p = &o->parameter[index_arg(L, o)];
  bind_check(L, optim_slot_like(p, luaL_checkstring(L, 3)));
  return bind_push_tensor(L, p->slot[p->slots - 1].tensor);
}

static int norm(lua_State *L) {
  double value;
  bind_check(L, optim_norm(self(L), &value));
  return lua_pushnumber(L, value), 1;
}

static int zero_grad(lua_State *L) {
  optim_zero_grad(self(L));
  return 0;
}

static int swap(lua_State *L) { /* o:swap(evaluate) */
  bind_check(L, optim_swap(self(L), lua_toboolean(L, 2)));
  return 0;
}

static int observe(lua_State *L) {
  bind_check(L, optim_observe(self(L)));
  return 0;
}

static int init(lua_State *L) { /* o:init(seed) */
  bind_check(L, optim_init(self(L), (uint64_t)bind_integer(L, 2, "seed")));
  return 0;
}

/* --- state --- */

static int state(lua_State *L) { /* o:state() -> {name = tensor}, the live ones */
  Optimizer *o = self(L);
  char name[512];
  int n = optim_entries(o);
  lua_createtable(L, 0, n);
  for (int i = 0; i < n; i++) {
    Tensor *value;
    bind_check(L, optim_entry(o, i, name, sizeof name, &value));
    bind_push_tensor(L, pool_keep(value));
    lua_setfield(L, -2, name);
  }
  return 1;
}

/* One pass over the table at arg: checks, or applies. Plain numbers are taken as scalars. */
static int load_pass(lua_State *L, Optimizer *o, bool apply) {
  int n = 0;
  for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1), n++) {
    if (lua_type(L, -2) != LUA_TSTRING) return luaL_error(L, "load: the keys of a state are names");
    Tensor *value;
    if (bind_is_tensor(L, -1)) {
      value = bind_tensor(L, lua_gettop(L));
    } else {
      bind_check(L, tensor_scalar(F64, luaL_checknumber(L, -1), &value));
      pool_keep(value);
    }
    bind_check(L, optim_load(o, lua_tostring(L, -2), value, apply));
    pool_drain();
  }
  return n;
}

static int load(lua_State *L) { /* o:load{name = tensor}: all or nothing */
  Optimizer *o = self(L);
  luaL_checktype(L, 2, LUA_TTABLE);
  int n = load_pass(L, o, false);
  if (n != optim_entries(o)) {
    fail(ERR_ARGUMENT, "%s: the state has %d entries, %d are needed; was it saved for other parameters?", o->name, n, optim_entries(o));
    return bind_raise(L);
  }
  load_pass(L, o, true);
  bind_check(L, optim_loaded(o));
  return 0;
}

static int state_bytes(lua_State *L) { return lua_pushnumber(L, (double)optim_state_bytes(self(L))), 1; }
static int steps(lua_State *L) { return lua_pushnumber(L, self(L)->steps), 1; }

static const luaL_Reg methods[] = {
  {"group", group}, {"parameter", parameter}, {"set", set}, {"step", step}, {"begin", begin}, {"apply", apply}, {"finish", finish},
  {"gradient", gradient}, {"slot", slot}, {"norm", norm}, {"zero_grad", zero_grad}, {"swap", swap}, {"observe", observe}, {"init", init},
  {"state", state}, {"load", load}, {"state_bytes", state_bytes}, {"steps", steps}, {"__gc", collect}, {NULL, NULL},
};

static const luaL_Reg functions[] = {{"list", list}, {"new", new}, {NULL, NULL}};

int bind_open_optim(lua_State *L) {
  luaL_newmetatable(L, OPTIMIZER);
  luaL_register(L, NULL, methods);
  lua_pushvalue(L, -1), lua_setfield(L, -2, "__index");
  lua_pop(L, 1);
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
