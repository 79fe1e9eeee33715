/* text.c - UTF-8 repair, R data files and n-grams: what Lua modules need of texts. */
#include <string.h>

#include "base/mem.h"
#include "bind/bind.h"
#include "bind/modules.h"
#include "io/ngram.h"
#include "io/rdata.h"
#include "io/utf8.h"

static const char *const BUFFER = "quench.text.buffer", *const RDATA = "quench.text.rdata";

static int buffer_gc(lua_State *L) {
  buffer_free(luaL_checkudata(L, 1, BUFFER));
  return 0;
}

Buffer *bind_new_buffer(lua_State *L) {
  Buffer *b = lua_newuserdata(L, sizeof *b);
  *b = (Buffer){0};
  if (luaL_newmetatable(L, BUFFER)) lua_pushcfunction(L, buffer_gc), lua_setfield(L, -2, "__gc");
  lua_setmetatable(L, -2);
  return b;
}

int bind_push_buffer(lua_State *L, Buffer *b) {
  lua_pushlstring(L, b->used ? b->data : "", b->used);
  buffer_free(b);
  return 1;
}

/* repair(text): ill-formed UTF-8 becomes U+FFFD */
static int repair(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 1, &bytes);
  if (utf8_valid(text, bytes) == bytes) return lua_settop(L, 1), 1;
  Buffer *b = bind_new_buffer(L);
  bind_check(L, utf8_repair(b, text, bytes));
  return bind_push_buffer(L, b);
}

static int rdata_gc(lua_State *L) {
  rdata_free(luaL_checkudata(L, 1, RDATA));
  return 0;
}

/* rdata(path) -> table name -> text: the character vectors of an R data file */
static int rdata(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  RData *d = lua_newuserdata(L, sizeof *d);
  *d = (RData){0};
  luaL_getmetatable(L, RDATA);
  lua_setmetatable(L, -2);
  bind_check(L, rdata_read(path, d));
  lua_createtable(L, 0, d->count);
  for (int i = 0; i < d->count; i++) {
    lua_pushlstring(L, d->item[i].text, d->item[i].bytes);
    lua_setfield(L, -2, d->item[i].name);
  }
  rdata_free(d);
  return 1;
}

/* ngram(train, test, order) -> bits a byte */
static int ngram(lua_State *L) {
  size_t train_bytes, test_bytes;
  const char *train = luaL_checklstring(L, 1, &train_bytes), *test = luaL_checklstring(L, 2, &test_bytes);
  double bits;
  bind_check(L, ngram_bits(train, train_bytes, test, test_bytes, (int)bind_integer(L, 3, "order"), &bits));
  lua_pushnumber(L, bits);
  return 1;
}

static const luaL_Reg functions[] = {{"repair", repair}, {"rdata", rdata}, {"ngram", ngram}, {NULL, NULL}};

int bind_open_text(lua_State *L) {
  luaL_newmetatable(L, RDATA);
  lua_pushcfunction(L, rdata_gc), lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  luaL_register(L, NULL, functions);
  return 1;
}
