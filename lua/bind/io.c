/* io.c - safetensors files in Lua. */
#include <string.h>

#include "bind/bind.h"
#include "bind/modules.h"
#include "io/safetensors.h"

static const char *const FILE_TYPE = "quench.safetensors";

typedef struct File { SafeTensors *f; } File;

static SafeTensors *file_arg(lua_State *L) {
  File *h = luaL_checkudata(L, 1, FILE_TYPE);
  if (!h->f) luaL_argerror(L, 1, "this file was closed");
  return h->f;
}

static const SafeEntry *entry_arg(lua_State *L) {
  const SafeTensors *f = file_arg(L);
  const char *name = luaL_checkstring(L, 2);
  const SafeEntry *e = safetensors_find(f, name);
  if (!e) luaL_error(L, "no tensor '%s' in this file", name);
  return e;
}

static int file_open(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  File *h = lua_newuserdata(L, sizeof *h);
  h->f = NULL;
  luaL_getmetatable(L, FILE_TYPE);
  lua_setmetatable(L, -2);
  bind_check(L, safetensors_open(path, &h->f));
  return 1;
}

static int file_close(lua_State *L) {
  File *h = luaL_checkudata(L, 1, FILE_TYPE);
  safetensors_close(h->f);
  h->f = NULL;
  return 0;
}

static int file_names(lua_State *L) {
  const SafeTensors *f = file_arg(L);
  lua_createtable(L, f->count, 0);
  for (int i = 0; i < f->count; i++) lua_pushstring(L, f->entries[i].name), lua_rawseti(L, -2, i + 1);
  return 1;
}

static int file_metadata(lua_State *L) {
  const SafeTensors *f = file_arg(L);
  lua_createtable(L, 0, f->pairs);
  for (int i = 0; i < f->pairs; i++) lua_pushstring(L, f->metadata[i].value), lua_setfield(L, -2, f->metadata[i].key);
  return 1;
}

static int file_has(lua_State *L) {
  lua_pushboolean(L, safetensors_find(file_arg(L), luaL_checkstring(L, 2)) != NULL);
  return 1;
}

static int file_info(lua_State *L) {
  const SafeEntry *e = entry_arg(L);
  lua_createtable(L, 0, 5);
  lua_pushstring(L, element_name(e->type)), lua_setfield(L, -2, "dtype");
  lua_pushnumber(L, (double)e->numel), lua_setfield(L, -2, "numel");
  lua_pushnumber(L, (double)(e->end - e->begin)), lua_setfield(L, -2, "bytes");
  lua_pushstring(L, e->file), lua_setfield(L, -2, "file");
  lua_createtable(L, e->ndim, 0);
  for (int i = 0; i < e->ndim; i++) lua_pushnumber(L, (double)e->shape[i]), lua_rawseti(L, -2, i + 1);
  lua_setfield(L, -2, "shape");
  return 1;
}

static int file_nonfinite(lua_State *L) {
  const SafeEntry *e = entry_arg(L);
  lua_pushnumber(L, (double)element_nonfinite(e->type, e->data, e->numel));
  return 1;
}

/* read(name, dtype?) */
static int file_read_tensor(lua_State *L) {
  const SafeEntry *e = entry_arg(L);
  DType d;
  Tensor *t;
  if (!lua_isnoneornil(L, 3)) bind_check(L, dtype_parse(luaL_checkstring(L, 3), &d));
  bind_check(L, safetensors_read(e, lua_isnoneornil(L, 3) ? NULL : &d, &t));
  return bind_push_tensor(L, pool_keep(t));
}

static int count_keys(lua_State *L, int arg) {
  int n = 0;
  if (lua_isnoneornil(L, arg)) return 0;
  luaL_checktype(L, arg, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1), n++)
    if (lua_type(L, -2) != LUA_TSTRING) luaL_argerror(L, arg, "names must be strings");
  return n;
}

/* The strings stay alive in the caller's tables while the arrays point at them. */
static SafePair *metadata_arg(lua_State *L, int arg, int *count) {
  int n = *count = count_keys(L, arg);
  SafePair *pairs = lua_newuserdata(L, sizeof *pairs * (size_t)(n + 1));
  if (n == 0) return pairs;
  for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
    if (lua_type(L, -1) != LUA_TSTRING) luaL_error(L, "save: metadata '%s' must be a string, got a %s", lua_tostring(L, -2), luaL_typename(L, -1));
    pairs[--n] = (SafePair){.key = lua_tostring(L, -2), .value = lua_tostring(L, -1)};
  }
  return pairs;
}

/* save(path, tensors, metadata?) */
static int save(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  int pairs, n = count_keys(L, 2), at = 0;
  lua_settop(L, 3);
  SafePair *metadata = metadata_arg(L, 3, &pairs);
  const char **names = lua_newuserdata(L, sizeof *names * (size_t)(n + 1));
  Tensor **tensors = lua_newuserdata(L, sizeof *tensors * (size_t)(n + 1));
  for (lua_pushnil(L); at < n && lua_next(L, 2); lua_pop(L, 1), at++) {
    names[at] = lua_tostring(L, -2);
    if (!bind_is_tensor(L, -1)) luaL_error(L, "save: '%s' must be a tensor, got a %s", names[at], luaL_typename(L, -1));
    tensors[at] = bind_tensor(L, lua_gettop(L));
  }
  bind_check(L, safetensors_save(path, n, names, tensors, pairs, metadata));
  return 0;
}

static const luaL_Reg functions[] = {{"open", file_open}, {"save", save}, {NULL, NULL}};

static const luaL_Reg methods[] = {
  {"names", file_names}, {"metadata", file_metadata}, {"has", file_has}, {"info", file_info}, {"nonfinite", file_nonfinite},
  {"read", file_read_tensor}, {"close", file_close}, {"__gc", file_close}, {NULL, NULL},
};

int bind_open_io(lua_State *L) {
  luaL_newmetatable(L, FILE_TYPE);
  luaL_register(L, NULL, methods);
  lua_pushvalue(L, -1), lua_setfield(L, -2, "__index");
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
