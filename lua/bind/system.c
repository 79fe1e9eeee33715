/* system.c - memory, threads, files, clock: what Lua modules need of the system. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "bind/bind.h"
#include "bind/modules.h"

extern const char quench_build[]; /* made by the Makefile */

#define LOCK "quench.lock"
#define FOLDER "quench.folder"

static int system_memory(lua_State *L) {
  MemStats s = mem_stats();
  lua_createtable(L, 0, 6);
  lua_pushnumber(L, (double)s.live), lua_setfield(L, -2, "live");
  lua_pushnumber(L, (double)s.peak), lua_setfield(L, -2, "peak");
  lua_pushnumber(L, (double)s.cached), lua_setfield(L, -2, "cached");
  lua_pushnumber(L, (double)s.blocks), lua_setfield(L, -2, "blocks");
  lua_pushnumber(L, (double)s.system), lua_setfield(L, -2, "system");
  lua_pushnumber(L, (double)s.requests), lua_setfield(L, -2, "requests");
  return 1;
}

static int system_reset_peak(lua_State *L) {
  (void)L;
  mem_reset_peak();
  return 0;
}

static int system_memory_limit(lua_State *L) {
  mem_set_limit((size_t)luaL_checknumber(L, 1));
  return 0;
}

static int system_fail_at(lua_State *L) {
  mem_fail_at((size_t)luaL_checknumber(L, 1));
  return 0;
}

static int system_clock(lua_State *L) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  lua_pushnumber(L, (double)t.tv_sec + 1e-9 * (double)t.tv_nsec);
  return 1;
}

static int system_interrupted(lua_State *L) {
  lua_pushboolean(L, interrupt_pending());
  return 1;
}

static int system_check_interrupt(lua_State *L) {
  bind_check(L, interrupt_check());
  return 0;
}

static int system_clear_interrupt(lua_State *L) {
  (void)L;
  interrupt_clear();
  return 0;
}

/* defer_interrupt(on): Ctrl-C waits until it is switched off again; a second one does not. */
static int system_defer_interrupt(lua_State *L) {
  interrupt_defer(lua_toboolean(L, 1));
  return 0;
}

static int system_interrupt(lua_State *L) { /* as Ctrl-C does */
  (void)L;
  interrupt_request();
  return 0;
}

static int system_read_file(lua_State *L) {
  char *text;
  size_t bytes;
  bind_check(L, file_read(luaL_checkstring(L, 1), &text, &bytes));
  lua_pushlstring(L, text, bytes);
  mem_free(text);
  return 1;
}

static int system_write_file(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 2, &bytes);
  bind_check(L, file_write_all(luaL_checkstring(L, 1), text, bytes));
  return 0;
}

static int system_append_file(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 2, &bytes);
  bind_check(L, file_append(luaL_checkstring(L, 1), text, bytes));
  return 0;
}

static int system_make_directories(lua_State *L) {
  bind_check(L, file_make_directories(luaL_checkstring(L, 1)));
  return 0;
}

static int system_exists(lua_State *L) {
  lua_pushboolean(L, access(luaL_checkstring(L, 1), F_OK) == 0);
  return 1;
}

/* kind(path): "file", "folder", "other", or nil if there is nothing. */
static int system_kind(lua_State *L) {
  struct stat s;
  if (stat(luaL_checkstring(L, 1), &s) != 0) return 0;
  lua_pushstring(L, S_ISREG(s.st_mode) ? "file" : S_ISDIR(s.st_mode) ? "folder" : "other");
  return 1;
}

/* same(a, b): do both paths lead to the same file or folder? false where there is nothing. */
static int system_same(lua_State *L) {
  struct stat a, b;
  const char *first = luaL_checkstring(L, 1), *second = luaL_checkstring(L, 2);
  lua_pushboolean(L, stat(first, &a) == 0 && stat(second, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino);
  return 1;
}

static int system_size(lua_State *L) {
  struct stat s;
  if (stat(luaL_checkstring(L, 1), &s) != 0) return 0;
  lua_pushnumber(L, (double)s.st_size);
  return 1;
}

/* modified(path): when it was last written, in seconds as os.time has them; nil if it is not there. */
static int system_modified(lua_State *L) {
  struct stat s;
  if (stat(luaL_checkstring(L, 1), &s) != 0) return 0;
  lua_pushnumber(L, (double)s.st_mtime);
  return 1;
}

/* list(folder): names inside, unsorted, or nil and the reason. */
static int system_list(lua_State *L) {
  DIR **handle = lua_newuserdata(L, sizeof *handle);
  *handle = NULL;
  luaL_getmetatable(L, FOLDER), lua_setmetatable(L, -2);
  *handle = opendir(luaL_checkstring(L, 1));
  if (!*handle) return lua_pushnil(L), lua_pushstring(L, strerror(errno)), 2;
  lua_newtable(L);
  int n = 0;
  for (struct dirent *e; (e = readdir(*handle));)
    if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) lua_pushstring(L, e->d_name), lua_rawseti(L, -2, ++n);
  closedir(*handle), *handle = NULL;
  return 1;
}

static int folder_gc(lua_State *L) {
  DIR **handle = lua_touserdata(L, 1);
  if (*handle) closedir(*handle), *handle = NULL;
  return 0;
}

/* lock(path): an exclusive lock on the file (made if missing) that ends with lock:release(),
 * collection or the death of the process; nil if somebody else has it. */
static int system_lock(lua_State *L) {
  const char *path = luaL_checkstring(L, 1);
  int *fd = lua_newuserdata(L, sizeof *fd);
  *fd = -1;
  luaL_getmetatable(L, LOCK), lua_setmetatable(L, -2);
  *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (*fd < 0) return luaL_error(L, "cannot open '%s': %s", path, strerror(errno));
  if (flock(*fd, LOCK_EX | LOCK_NB) == 0) return 1;
  if (errno == EWOULDBLOCK) return 0;
  return luaL_error(L, "cannot lock '%s': %s", path, strerror(errno));
}

static int lock_release(lua_State *L) {
  int *fd = luaL_checkudata(L, 1, LOCK);
  if (*fd >= 0) close(*fd), *fd = -1;
  return 0;
}

static int system_sha256(lua_State *L) {
  size_t bytes;
  const char *text = luaL_checklstring(L, 1, &bytes);
  char hex[65];
  sha256_hex(text, bytes, hex);
  lua_pushstring(L, hex);
  return 1;
}

static int system_sleep(lua_State *L) {
  double seconds = luaL_checknumber(L, 1);
  struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
  nanosleep(&t, NULL); /* a signal ends it early, which is wanted */
  return 0;
}

static int system_directory(lua_State *L) {
  char path[PATH_MAX];
  if (!getcwd(path, sizeof path)) return 0;
  lua_pushstring(L, path);
  return 1;
}

static int system_is_terminal(lua_State *L) {
  lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
  return 1;
}

static int system_process(lua_State *L) {
  lua_pushnumber(L, (double)getpid());
  return 1;
}

static const luaL_Reg functions[] = {
  {"memory", system_memory}, {"reset_peak", system_reset_peak}, {"memory_limit", system_memory_limit},
  {"fail_at", system_fail_at}, {"clock", system_clock},
  {"interrupted", system_interrupted}, {"check_interrupt", system_check_interrupt}, {"clear_interrupt", system_clear_interrupt},
  {"interrupt", system_interrupt}, {"defer_interrupt", system_defer_interrupt},
  {"read_file", system_read_file}, {"write_file", system_write_file}, {"append_file", system_append_file},
  {"make_directories", system_make_directories}, {"exists", system_exists}, {"is_terminal", system_is_terminal},
  {"process", system_process}, {"kind", system_kind}, {"same", system_same}, {"size", system_size}, {"modified", system_modified},
  {"list", system_list}, {"lock", system_lock}, {"sha256", system_sha256}, {"sleep", system_sleep}, {"directory", system_directory},
  {NULL, NULL},
};

int bind_open_system(lua_State *L) {
  luaL_newmetatable(L, FOLDER);
  lua_pushcfunction(L, folder_gc), lua_setfield(L, -2, "__gc");
  luaL_newmetatable(L, LOCK);
  lua_pushcfunction(L, lock_release), lua_setfield(L, -2, "__gc");
  lua_newtable(L);
  lua_pushcfunction(L, lock_release), lua_setfield(L, -2, "release");
  lua_setfield(L, -2, "__index");
  lua_pop(L, 2);
  lua_newtable(L); /* a name here would become a global */
  luaL_register(L, NULL, functions);
  lua_pushliteral(L, QUENCH_VERSION), lua_setfield(L, -2, "version");
  lua_pushstring(L, quench_build), lua_setfield(L, -2, "build"); /* hash of the sources */
  return 1;
}
