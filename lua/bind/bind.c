/* bind.c - helpers shared by the bindings: errors, integers, option fields. */
#include "bind/bind.h"

#include <math.h>
#include <string.h>

#include "base/interrupt.h"

/* Position of the first frame outside Quench's own Lua sources ("quench/..."), so that
 * an error points at the user's line. */
static void push_position(lua_State *L) {
  lua_Debug ar;
  for (int level = 1; lua_getstack(L, level, &ar); level++) {
    lua_getinfo(L, "Sl", &ar);
    if (ar.currentline > 0 && strncmp(ar.short_src, "quench/", 7) != 0) {
      lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
      return;
    }
  }
  lua_pushliteral(L, "");
}

int bind_raise(lua_State *L) {
  pool_drain();
  if (error_code() == ERR_INTERRUPT) interrupt_raise();
  push_position(L);
  lua_pushstring(L, error_message());
  error_clear();
  lua_concat(L, 2);
  return lua_error(L);
}

void bind_check(lua_State *L, Status s) {
  if (s != OK) bind_raise(L);
}

int64_t bind_integer(lua_State *L, int arg, const char *what) {
  double v = luaL_checknumber(L, arg);
  if (v != floor(v) || fabs(v) > 9007199254740992.0)
    luaL_argerror(L, arg, lua_pushfstring(L, "%s must be a whole number, got %f", what, v));
  return (int64_t)v;
}

int bind_axis(lua_State *L, int arg, const Tensor *t) {
  int64_t axis = bind_integer(L, arg, "axis");
  if (axis == 0 || axis > t->ndim || axis < -t->ndim)
    luaL_argerror(L, arg, lua_pushfstring(L, "axis %d out of range for shape %s (axes count from 1, or from the end with -1)",
                                          (int)axis, shape_text(t)));
  return (int)(axis > 0 ? axis - 1 : axis + t->ndim);
}

static bool is_listed(const char *name, const char *const *names) {
  while (*names && strcmp(*names, name)) names++;
  return *names != NULL;
}

bool bind_options(lua_State *L, int arg, const char *what, const char *const *names) {
  if (lua_isnoneornil(L, arg)) return false;
  if (!lua_istable(L, arg)) luaL_error(L, "%s: options are a table, got %s", what, luaL_typename(L, arg));
  for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
    if (lua_type(L, -2) == LUA_TSTRING && is_listed(lua_tostring(L, -2), names)) continue;
    lua_pushvalue(L, -2);
    lua_pushfstring(L, "%s: unknown option '%s'; options: %s", what, lua_tostring(L, -1) ? lua_tostring(L, -1) : luaL_typename(L, -1), names[0]);
    for (int i = 1; names[i]; i++) lua_pushfstring(L, "%s, %s", lua_tostring(L, -1), names[i]);
    luaL_error(L, "%s", lua_tostring(L, -1));
  }
  return true;
}

double bind_field_number(lua_State *L, int arg, const char *key, double otherwise) {
  lua_getfield(L, arg, key);
  double v = lua_isnil(L, -1) ? otherwise : lua_tonumber(L, -1);
  lua_pop(L, 1);
  return v;
}

int64_t bind_field_integer(lua_State *L, int arg, const char *key, int64_t otherwise) {
  return (int64_t)bind_field_number(L, arg, key, (double)otherwise);
}

int bind_field_boolean(lua_State *L, int arg, const char *key, int otherwise) {
  lua_getfield(L, arg, key);
  int v = lua_isnil(L, -1) ? otherwise : lua_toboolean(L, -1);
  lua_pop(L, 1);
  return v;
}

const char *bind_field_string(lua_State *L, int arg, const char *key, const char *otherwise) {
  lua_getfield(L, arg, key);
  const char *s = lua_isnil(L, -1) ? otherwise : lua_tostring(L, -1);
  lua_pop(L, 1); /* the table at arg keeps the string alive */
  return s;
}
