/* main.c - the interpreter: picks OpenBLAS's kernels, opens Lua, makes the embedded
 * modules loadable, and hands the arguments to lua/quench/cli.lua.
 *
 * The JIT compiler starts switched off: a compiled loop cannot be interrupted by
 * Ctrl-C in the LuaJIT of the distributions, and calls of C functions, which is what
 * recipes do, are faster without it (18 against 28 ns). `quench --jit` and q.map opt in. */
#include <luajit.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/interrupt.h"
#include "base/mem.h"
#include "bind/bind.h"
#include "bind/modules.h"
#include "kernel/kernel.h"
#include "libraries.h"

extern const struct { const char *name; const unsigned char *text; size_t bytes; } embedded_files[];

/* system.embedded(path): text of a file inside the binary ("recipes/decay.lua"), or nil; without path a list of all. */
static int embedded(lua_State *L) {
  const char *path = luaL_optstring(L, 1, NULL);
  if (!path) lua_newtable(L);
  for (int i = 0; embedded_files[i].name; i++) {
    if (path && strcmp(path, embedded_files[i].name) == 0) {
      lua_pushlstring(L, (const char *)embedded_files[i].text, embedded_files[i].bytes);
      return 1;
    }
    if (!path) lua_pushstring(L, embedded_files[i].name), lua_rawseti(L, -2, i + 1);
  }
  return path ? 0 : 1;
}

/* The searcher for require: "quench" is lua/quench/init.lua, "quench.x" lua/quench/x.lua,
 * "quench.plots.x" plots/x.lua. Chunk names start with "quench/" so that errors skip them. */
static int search(lua_State *L) {
  const char *name = luaL_checkstring(L, 1);
  char path[256], chunk[300];
  if (strcmp(name, "quench") == 0) snprintf(path, sizeof path, "lua/quench/init.lua");
  else if (strncmp(name, "quench.plots.", 13) == 0) snprintf(path, sizeof path, "plots/%s.lua", name + 13);
  else if (strncmp(name, "quench.", 7) == 0) {
    snprintf(path, sizeof path, "lua/quench/%s.lua", name + 7);
    for (char *p = path + 11; p < path + strlen(path) - 4; p++)
      if (*p == '.') *p = '/';
  } else return 0;
  for (int i = 0; embedded_files[i].name; i++) {
    if (strcmp(path, embedded_files[i].name) != 0) continue;
    snprintf(chunk, sizeof chunk, "=quench/%s", path + (strncmp(path, "lua/quench/", 11) == 0 ? 11 : 0));
    if (luaL_loadbuffer(L, (const char *)embedded_files[i].text, embedded_files[i].bytes, chunk) != 0) return lua_error(L);
    return 1;
  }
  lua_pushfstring(L, "\n\tno embedded file '%s'", path);
  return 1;
}

static void install_modules(lua_State *L) {
  lua_getglobal(L, "package");
  lua_getfield(L, -1, "preload");
  for (const BindModule *m = bind_modules; m->name; m++) lua_pushcfunction(L, m->open), lua_setfield(L, -2, m->name);
  lua_pop(L, 1);
  lua_getfield(L, -1, "loaders"); /* after preload, before the file system */
  int n = (int)lua_objlen(L, -1);
  for (int i = n; i >= 2; i--) lua_rawgeti(L, -1, i), lua_rawseti(L, -2, i + 1);
  lua_pushcfunction(L, search), lua_rawseti(L, -2, 2);
  lua_pop(L, 2);
  lua_pushcfunction(L, embedded), lua_setglobal(L, "__embedded"); /* taken by quench/init.lua */
}

static lua_State *interrupted_state;

static void stop_hook(lua_State *L, lua_Debug *ar);

/* Is the function that runs one of ours, which knows what an interruption is? */
static bool ours(lua_State *L, lua_Debug *ar) {
  lua_getinfo(L, "S", ar);
  return strncmp(ar->source, "=quench/", 8) == 0;
}

enum { PATIENCE = 10000, STRIDE = 100 }; /* instructions; or one second */
static volatile sig_atomic_t waited = -1;  /* instructions since the error was raised, -1: it has not been seen yet */

static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Has the user's code had the time to clean up, or to say with clear_interrupt that all is well? */
static bool patience_ends(lua_State *L) {
  static double since;
  if (waited < 0) {
    since = seconds(), waited = 0;
    lua_sethook(interrupted_state, stop_hook, LUA_MASKCOUNT, STRIDE);
    return false;
  }
  if (waited < PATIENCE && seconds() - since < 1) return waited += STRIDE, false;
  if (waited < PATIENCE) waited = PATIENCE;
  lua_sethook(L, stop_hook, LUA_MASKCOUNT, 1);
  return true;
}

/* Runs between two Lua instructions after Ctrl-C and raises an error. Where the user's code catches that one and goes on, as
 * in `while true do pcall(f) end`, it raises another at every instruction outside of the protected call, until code of ours
 * has it (the prompt, the end of the program, an estimate that returns what it has) and clears it. */
static void stop_hook(lua_State *L, lua_Debug *ar) {
  if (interrupt_pending()) {
    interrupt_raise();
    waited = -1, patience_ends(L);
    luaL_error(L, "interrupted");
  }
  if (!interrupt_raised()) {
    if (!interrupt_noted()) lua_sethook(L, NULL, 0, 0);
    return;
  }
  if (!ours(L, ar) && patience_ends(L)) luaL_error(L, "interrupted");
}

/* One press stops the action. Three within two seconds end the program: the way out of a
 * compiled loop, where no hook runs. */
static void on_interrupt(int signal_number) {
  static struct timespec first;
  static int presses;
  static const char patience[] = "\nfinishing this step; Ctrl-C again stops at once\n";
  static const char farewell[] = "\nquench: killed by repeated Ctrl-C\n";
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  if (!interrupt_pending() || now.tv_sec - first.tv_sec > 2) first = now, presses = 0;
  if (++presses >= 3) {
    if (write(STDERR_FILENO, farewell, sizeof farewell - 1) < 0) _exit(129);
    _exit(128 + signal_number);
  }
  interrupt_request();
  waited = -1;
  if (interrupt_noted() && !interrupt_pending() && write(STDERR_FILENO, patience, sizeof patience - 1) < 0) return;
  lua_sethook(interrupted_state, stop_hook, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
}

/* Frees Lua garbage when the core runs out of memory; true asks for a retry. */
static bool reclaim(void *state) {
  lua_gc(state, LUA_GCCOLLECT, 0);
  mem_trim();
  return true;
}

/* cli.lua(program, arguments...) -> exit status */
static int run(lua_State *L, int argc, char **argv) {
  lua_getglobal(L, "debug"), lua_getfield(L, -1, "traceback"), lua_remove(L, -2);
  lua_getglobal(L, "require");
  lua_pushliteral(L, "quench.cli");
  int status = lua_pcall(L, 1, 1, 1);
  if (status == 0) {
    luaL_checkstack(L, argc, "too many arguments");
    for (int i = 0; i < argc; i++) lua_pushstring(L, argv[i]);
    status = lua_pcall(L, argc, 1, 1);
  }
  if (status == 0) return (int)lua_tointeger(L, -1);
  const char *message = lua_tostring(L, -1);
  fprintf(stderr, "quench: %s\n", message ? message : "error without a message");
  return 1;
}

int main(int argc, char **argv) {
  const char *blas_why = settle_libraries(argv), *tiles = getenv("QUENCH_TILES");
  if (tiles && strcmp(tiles, "0") == 0) kernel_use_tiles(false);
  lua_State *L = luaL_newstate();
  if (!L) return fputs("quench: no memory for the interpreter\n", stderr), 1;
  luaL_openlibs(L);
  luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF); /* after openlibs, which switches it on */
  install_modules(L);
  lua_pushstring(L, blas_why), lua_setfield(L, LUA_REGISTRYINDEX, "quench.blas_why"); /* for bind/machine.c */
  mem_set_reclaim(reclaim, L);
  interrupted_state = L;
  signal(SIGINT, on_interrupt);
  int code = run(L, argc, argv);
  if (fflush(stdout) != 0 && code == 0) {
    fputs("quench: cannot write to standard output\n", stderr);
    code = 1;
  }
  mem_set_reclaim(NULL, NULL);
  signal(SIGINT, SIG_DFL);
  lua_close(L);
  return code;
}
