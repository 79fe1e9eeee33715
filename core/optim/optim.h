/* optim.h - the one interface of all optimizers.
 *
 *   Optimizer *o;
 *   TRY(optim_new(optim_find("adamw"), NULL, 1.0, &o));          // clip the gradient's norm at 1
 *   TRY(optim_group(o, NULL));                             // default settings; more groups may follow
 *   TRY(optim_parameter(o, &(ParameterSpec){.tensor = w, .name = "w", .role = ROLE_HIDDEN, .decay = true}));
 *   ...
 *   TRY(optim_step(o, NULL, &norm));                       // uses w->grad
 *   optim_free(o);
 *
 * A new optimizer is one file with a settings table and an OptimInfo, and one line in
 * table.c. Its settings are a struct of doubles in the order of the table; the
 * table is the only place where names, defaults, ranges and meanings stand, and Lua's
 * checks, help() and the reference pages are made from it.
 *
 * What a parameter's rule is depends on its role (Muon turns hidden matrices, its other
 * parameters get AdamW). A rule is either elementwise - it fills in an Update and the
 * frame runs all tensors of that rule in one parallel region - or works on one
 * parameter at a time (`step`). All state lives in named slots (tensors) and numbers, so
 * that saving, loading and counting bytes is done here once. */
#ifndef quench_optim_h
#define quench_optim_h

#include <math.h>
#include <stdbool.h>

#include "base/status.h"
#include "kernel/kernel.h"
#include "tensor/tensor.h"

typedef enum Role { ROLE_INPUT, ROLE_HIDDEN, ROLE_VECTOR, ROLE_OUTPUT, ROLE_COUNT } Role;
extern const char *const role_names[ROLE_COUNT + 1]; /* "input", "hidden", ..., NULL */

/* --- settings --- */
enum { MAX_SETTING = 3, OPEN_LOW = 1, OPEN_HIGH = 2 };
typedef enum SettingKind { SETTING_NUMBER, SETTING_INTEGER, SETTING_BOOLEAN, SETTING_CHOICE, SETTING_LIST } SettingKind;

typedef struct Setting {
  const char *name;            /* NULL ends a table */
  SettingKind kind;
  double value[MAX_SETTING];   /* default; of a choice: its index */
  double low, high;            /* both zero: any finite number */
  int open;                    /* OPEN_LOW, OPEN_HIGH: that end is excluded */
  int count;                   /* of a list; 0 means 1 */
  const char *const *choices;  /* ends with NULL */
  const char *doc;
} Setting;

/* Ranges that recur: [0, inf), (0, inf), what is added to a denominator, [0, 1), [1, 2^31). */
#define AT_LEAST_0 .low = 0, .high = INFINITY
#define ABOVE_0 .low = 0, .high = INFINITY, .open = OPEN_LOW
#define EPSILON .low = 1e-37, .high = INFINITY /* less would be 0 in f32, and 0 / 0 a silent NaN */
#define BELOW_1 .low = 0, .high = 1, .open = OPEN_HIGH
#define WHOLE .kind = SETTING_INTEGER, .low = 1, .high = 2147483647
#define SWITCH .kind = SETTING_BOOLEAN, .low = 0, .high = 1
#define SETTING_LR(v) {"lr", .value = {v}, AT_LEAST_0, .doc = "learning rate"}
#define SETTING_BETAS(a, b) {"betas", SETTING_LIST, {a, b}, BELOW_1, .count = 2, .doc = "decay of the first and second moment"}
#define SETTING_EPS(v) {"eps", .value = {v}, EPSILON, .doc = "added to the denominator"}
#define SETTING_WEIGHT_DECAY(v) {"weight_decay", .value = {v}, AT_LEAST_0, .doc = "decoupled decay, times the learning rate"}

/* --- parameters --- */
typedef struct Slot {
  char *name;     /* "m"; in a saved state "<parameter>.m" */
  Tensor *tensor;
} Slot;

typedef struct ParameterSpec {
  Tensor *tensor;    /* f32 or f64, contiguous */
  const char *name;  /* unique; for messages and saved states */
  Role role;
  bool decay;        /* weight decay applies */
  bool normalised;   /* a norm follows, so that the scale of this weight does not matter (AdamC) */
} ParameterSpec;

enum { MAX_NUMBERS = 3 };

typedef struct Rule Rule;
typedef struct Parameter {
  Tensor *tensor;
  char *name;
  Role role;
  bool decay, normalised;
  int group;
  const void *settings;        /* of its group: the optimizer's struct */
  const Rule *rule;
  double step;                 /* updates so far; in a rule: counting this one */
  double number[MAX_NUMBERS];  /* further counters, named by the rule */
  Slot *slot;
  int slots;
  void *scratch;               /* the rule's own, released by rule->release */
  /* during a step */
  Tensor *gradient;            /* contiguous; NULL: the parameter sits this step out */
  double clip;                 /* factor on the gradient */
  bool pending;
} Parameter;

struct Rule {
  Status (*prepare)(Parameter *p);  /* checks p against the rule, makes slots; may be NULL */
  UpdateRule kind;
  void (*update)(Parameter *p, double scale, Update *u); /* elementwise: the coefficients of this step */
  Status (*step)(Parameter *p, double scale);            /* otherwise. scale: the schedule's factor on lr */
  const char *numbers[MAX_NUMBERS];
  void (*release)(Parameter *p);
  Status (*swap)(Parameter *p, bool evaluate); /* schedule-free: puts the point to evaluate, or to train at, into the tensor */
  Status (*observe)(Parameter *p);             /* Sophia: takes p->gradient as a sample of the curvature */
  Status (*init)(Parameter *p, uint64_t seed); /* Scion: sets the weights to a starting point of its own */
  Status (*loaded)(Parameter *p);              /* after a state was loaded: checks it, rebuilds scratch */
};

typedef struct OptimInfo {
  const char *name, *doc, *source;
  const Setting *settings;
  const Rule *(*rule)(const Parameter *p); /* by role, shape and settings; NULL with the error recorded */
} OptimInfo;

typedef struct Optimizer {
  const OptimInfo *info;
  char *name;          /* for messages */
  double max_norm;     /* 0: no clipping */
  Parameter *parameter;
  int parameters, room;
  double **group;      /* the settings structs */
  int groups;
  double steps;        /* taken so far */
  bool evaluating;     /* between optim_swap(o, true) and optim_swap(o, false) */
  Update *update;      /* room for all parameters */
  double *partial;     /* partial sums of the norm */
  int64_t partials;
} Optimizer;

extern const OptimInfo *const optim_table[]; /* ends with NULL */
extern const OptimInfo optim_custom; /* no rule of its own: begin, the caller's update, end */
const OptimInfo *optim_find(const char *name);
int optim_settings_count(const OptimInfo *info); /* doubles in the settings struct */

/* name: for messages, NULL for the rule's own. max_norm: of all gradients together, 0 for no clipping. */
Status optim_new(const OptimInfo *info, const char *name, double max_norm, Optimizer **out);
void optim_free(Optimizer *o); /* NULL is fine */
/* Opens a group: settings as doubles in table order (NULL: the defaults), checked. Parameters added next belong to it. */
Status optim_group(Optimizer *o, const double *settings);
Status optim_parameter(Optimizer *o, const ParameterSpec *spec);
/* Changes one number of a group's settings between steps (by hand, or per-group experiments). */
Status optim_set(Optimizer *o, int group, const char *name, double value);

/* A step in two halves, so that an optimizer written elsewhere (Lua) can do its own update in between. begin checks
 * every gradient and measures the norm before anything changes; each parameter's gradient and clip factor are then set. */
Status optim_begin(Optimizer *o, double *norm);
Status optim_apply(Optimizer *o, const double *scale /* one a group; NULL: 1 */);
void optim_end(Optimizer *o); /* lets go of the gradients */
/* The gradient taken by begin times its clip factor, one reference; NULL (and OK) if the parameter has none. */
Status optim_gradient(const Optimizer *o, int index, Tensor **out);
/* All of it. norm (may be NULL) gets the norm before clipping. */
Status optim_step(Optimizer *o, const double *scale, double *norm);

Status optim_norm(Optimizer *o, double *norm);      /* of the gradients that are there now */
Status optim_swap(Optimizer *o, bool evaluate);     /* optimizers without two points do nothing */
Status optim_observe(Optimizer *o);                 /* Sophia's Hessian sample from .grad; others: ERR_UNSUPPORTED */
Status optim_init(Optimizer *o, uint64_t seed);     /* Scion's starting point; others: ERR_UNSUPPORTED */
void optim_zero_grad(Optimizer *o);                 /* drops the gradients */
int64_t optim_state_bytes(const Optimizer *o);

/* --- state (state.c): everything a resumed run needs, by name. Numbers are f64 scalars, integers among them exact --- */
int optim_entries(const Optimizer *o);
/* Entry index of 0 .. entries - 1: its name, and its value with one reference (a slot itself, not a copy). */
Status optim_entry(const Optimizer *o, int index, char *name, size_t room, Tensor **value);
/* Sets the entry `name` from value (same shape, any real type). Unknown names are errors. A loader goes through
 * all entries with apply = false first, compares their number with optim_entries, and only then applies: a state
 * that does not fit changes nothing. optim_loaded ends it. */
Status optim_load(Optimizer *o, const char *name, const Tensor *value, bool apply);
Status optim_loaded(Optimizer *o);

/* --- for rules --- */
/* A zeroed state tensor under p; like: of p's shape and type. */
Status optim_slot(Parameter *p, const char *name, int ndim, const int64_t *shape);
Status optim_slot_like(Parameter *p, const char *name);
/* An Update over p with its gradient, its first three slots of p's size, and all coefficients neutral. */
Update optim_update(const Parameter *p);
/* w = shrink w - lr direction, for rules with a direction of their own (dense, p's size). One that is not finite
 * (squares of a huge gradient that overflowed) is ERR_NUMERIC, and w stays. */
Status optim_move(Parameter *p, const Tensor *direction, double lr, double shrink);
static inline double optim_decay(const Parameter *p, double weight_decay) { return p->decay ? weight_decay : 0; }
static inline double bias_correction(double beta, double step) { return 1 - pow(beta, step); }

#endif
