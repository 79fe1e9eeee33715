/* tokenizer.c - tokenizers in Lua. */
#include "io/tokenizer.h"

#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/modules.h"
#include "io/pattern.h"

static const char *const TOKENIZER = "quench.tokenizer", *const IDS = "quench.ids";

typedef struct Handle { Tokenizer *t; } Handle;

static Tokenizer *tokenizer_arg(lua_State *L) { return ((Handle *)luaL_checkudata(L, 1, TOKENIZER))->t; }

static int tokenizer_gc(lua_State *L) {
  Handle *h = luaL_checkudata(L, 1, TOKENIZER);
  tokenizer_free(h->t);
  h->t = NULL;
  return 0;
}

static Handle *new_handle(lua_State *L) {
  Handle *h = lua_newuserdata(L, sizeof *h);
  h->t = NULL;
  luaL_getmetatable(L, TOKENIZER);
  lua_setmetatable(L, -2);
  return h;
}

static int ids_gc(lua_State *L) {
  ids_free(luaL_checkudata(L, 1, IDS));
  return 0;
}

static Ids *new_ids(lua_State *L) {
  Ids *ids = lua_newuserdata(L, sizeof *ids);
  *ids = (Ids){0};
  luaL_getmetatable(L, IDS);
  lua_setmetatable(L, -2);
  return ids;
}

/* --- making --- */

static int load(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  bind_check(L, tokenizer_load(path, &new_handle(L)->t));
  return 1;
}

static int bytes(lua_State *L) {
  bind_check(L, tokenizer_bytes(&new_handle(L)->t));
  return 1;
}

/* train(text, vocab_size, min_count, pattern, specials) */
static int train(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 1, &length), *pattern = luaL_checkstring(L, 4);
  luaL_checktype(L, 5, LUA_TTABLE);
  TrainOptions o = {.vocab_size = (int32_t)bind_integer(L, 2, "vocab_size"), .min_count = bind_integer(L, 3, "min_count")};
  o.specials = (int)lua_objlen(L, 5);
  o.pattern = pattern_named(pattern) ? pattern_named(pattern) : pattern;
  const char **special = lua_newuserdata(L, sizeof *special * (size_t)(o.specials + 1));
  for (int i = 0; i < o.specials; i++) { /* the table keeps the strings alive */
    lua_rawgeti(L, 5, i + 1);
    if (lua_type(L, -1) != LUA_TSTRING) return luaL_argerror(L, 5, "special tokens must be strings");
    special[i] = lua_tostring(L, -1);
    lua_pop(L, 1);
  }
  o.special = special;
  bind_check(L, tokenizer_train(text, length, &o, &new_handle(L)->t));
  return 1;
}

/* --- using --- */

static int push_ids(lua_State *L, Ids *ids, int as_tensor) {
  if (!as_tensor) {
    lua_createtable(L, (int)ids->count, 0);
    for (int64_t i = 0; i < ids->count; i++) lua_pushinteger(L, ids->id[i]), lua_rawseti(L, -2, (int)i + 1);
    ids_free(ids);
    return 1;
  }
  Tensor *t;
  bind_check(L, tensor_new(I32, 1, &ids->count, &t));
  if (ids->count) memcpy(tensor_data(t), ids->id, (size_t)ids->count * sizeof *ids->id);
  ids_free(ids);
  return bind_push_tensor(L, pool_keep(t));
}

/* encode(text, special, as_tensor) */
static int encode(lua_State *L) {
  Tokenizer *t = tokenizer_arg(L);
  size_t length;
  const char *text = luaL_checklstring(L, 2, &length);
  Ids *ids = new_ids(L);
  bind_check(L, tokenizer_encode(t, text, length, lua_toboolean(L, 3), ids));
  return push_ids(L, ids, lua_toboolean(L, 4));
}

static void read_list(lua_State *L, int arg, Ids *ids) {
  int n = (int)lua_objlen(L, arg);
  for (int i = 1; i <= n; i++) {
    lua_rawgeti(L, arg, i);
    double v = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || v != (double)(int32_t)v) luaL_error(L, "decode: entry %d is no token id", i);
    bind_check(L, ids_add(ids, (int32_t)v));
    lua_pop(L, 1);
  }
}

static void read_tensor(lua_State *L, Tensor *t, Ids *ids) {
  if (t->dtype != I32) luaL_error(L, "decode: ids must be an i32 tensor, got %s", dtype_name(t->dtype));
  Tensor *dense;
  bind_check(L, tensor_contiguous_copy(t, &dense)); /* t itself if it is dense */
  Status s = ids_append(ids, tensor_data(dense), tensor_numel(t));
  tensor_release(dense);
  bind_check(L, s);
}

/* decode(ids, skip): a list or an i32 tensor */
static int decode(lua_State *L) {
  const Tokenizer *t = tokenizer_arg(L);
  Ids *ids = new_ids(L);
  if (bind_is_tensor(L, 2)) read_tensor(L, bind_tensor(L, 2), ids);
  else luaL_checktype(L, 2, LUA_TTABLE), read_list(L, 2, ids);
  Buffer *b = bind_new_buffer(L);
  bind_check(L, tokenizer_decode(t, ids->id, ids->count, lua_toboolean(L, 3), b));
  ids_free(ids);
  return bind_push_buffer(L, b);
}

static int save(lua_State *L) {
  bind_check(L, tokenizer_save(tokenizer_arg(L), luaL_checkstring(L, 2)));
  return 0;
}

static int vocab_size(lua_State *L) { return lua_pushinteger(L, tokenizer_vocab_size(tokenizer_arg(L))), 1; }

/* token(id) -> bytes, special; nil if no token has it */
static int token(lua_State *L) {
  double id = luaL_checknumber(L, 2);
  const Token *t = id == (double)(int32_t)id ? tokenizer_token(tokenizer_arg(L), (int32_t)id) : NULL;
  if (!t) return lua_pushnil(L), 1;
  lua_pushlstring(L, t->bytes, (size_t)t->length);
  lua_pushboolean(L, t->special);
  return 2;
}

/* id(bytes) -> id or nil */
static int id(lua_State *L) {
  size_t length;
  const char *text = luaL_checklstring(L, 2, &length);
  int32_t found = tokenizer_id(tokenizer_arg(L), text, length);
  if (found < 0) lua_pushnil(L);
  else lua_pushinteger(L, found);
  return 1;
}

static const luaL_Reg functions[] = {{"load", load}, {"bytes", bytes}, {"train", train}, {NULL, NULL}};

static const luaL_Reg methods[] = {
  {"encode", encode}, {"decode", decode}, {"save", save}, {"vocab_size", vocab_size}, {"token", token}, {"id", id},
  {"__gc", tokenizer_gc}, {NULL, NULL},
};

int bind_open_tokenizer(lua_State *L) {
  luaL_newmetatable(L, TOKENIZER);
  luaL_register(L, NULL, methods);
  lua_pushvalue(L, -1), lua_setfield(L, -2, "__index");
  luaL_newmetatable(L, IDS);
  lua_pushcfunction(L, ids_gc), lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
