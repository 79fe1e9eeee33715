/* json.c - JSON text to Lua values. Writing is done in Lua (quench/json.lua). */
#include "io/json.h"

#include "bind/bind.h"
#include "bind/modules.h"

static const char *const DOCUMENT = "quench.json.document", *const ARRAY = "quench.json.array";

static int document_gc(lua_State *L) {
  jsondoc_free(luaL_checkudata(L, 1, DOCUMENT));
  return 0;
}

static void push_value(lua_State *L, json_t *v, bool nulls);

static void push_array(lua_State *L, json_t *v, bool nulls) {
  size_t n = json_array_size(v);
  lua_createtable(L, (int)n, 0);
  for (size_t i = 0; i < n; i++) {
    push_value(L, json_array_get(v, i), nulls);
    lua_rawseti(L, -2, (int)i + 1);
  }
  if (n > 0) return;
  luaL_getmetatable(L, ARRAY); /* so that [] does not come back as {} */
  lua_setmetatable(L, -2);
}

static void push_object(lua_State *L, json_t *v, bool nulls) {
  const char *key;
  json_t *item;
  lua_createtable(L, 0, (int)json_object_size(v));
  json_object_foreach(v, key, item) {
    if (json_is_null(item) && !nulls) continue;
    push_value(L, item, nulls);
    lua_setfield(L, -2, key);
  }
}

static void push_value(lua_State *L, json_t *v, bool nulls) {
  luaL_checkstack(L, 8, "JSON nested too deep");
  if (json_is_object(v)) push_object(L, v, nulls);
  else if (json_is_array(v)) push_array(L, v, nulls);
  else if (json_is_string(v)) lua_pushlstring(L, json_string_value(v), json_string_length(v));
  else if (json_is_number(v)) lua_pushnumber(L, json_number_value(v));
  else if (json_is_null(v)) lua_pushlightuserdata(L, NULL);
  else lua_pushboolean(L, json_is_true(v));
}

/* decode(text, name, nulls) */
static int decode(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 1, &bytes);
  JsonDoc *d = lua_newuserdata(L, sizeof *d);
  *d = (JsonDoc){0};
  luaL_getmetatable(L, DOCUMENT);
  lua_setmetatable(L, -2);
  bind_check(L, jsondoc_parse(d, text, bytes, luaL_checkstring(L, 2), JSONDOC_REALS));
  push_value(L, d->root, lua_toboolean(L, 3));
  jsondoc_free(d);
  return 1;
}

static const luaL_Reg functions[] = {{"decode", decode}, {NULL, NULL}};

int bind_open_json(lua_State *L) {
  luaL_newmetatable(L, DOCUMENT);
  lua_pushcfunction(L, document_gc), lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  lua_pushlightuserdata(L, NULL), lua_setfield(L, -2, "null");
  luaL_newmetatable(L, ARRAY), lua_setfield(L, -2, "array");
  return 1;
}
