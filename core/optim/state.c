/* state.c - what a resumed run needs, by name: "<parameter>.<slot>", "<parameter>.step"
 * the rule's own numbers, and "steps" for the whole. Numbers travel as f64 scalars, which hold every integer
 * a run can reach, so that a state is a plain table of tensors and goes into a file
 * like any other. A state that was saved and loaded continues bit for bit. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "optim/optim.h"

static int numbers_of(const Parameter *p) {
  int n = 0;
  while (n < MAX_NUMBERS && p->rule->numbers[n]) n++;
  return n;
}

static int entries_of(const Parameter *p) { return 1 + numbers_of(p) + p->slots; }

int optim_entries(const Optimizer *o) {
  int n = 1;
  for (int i = 0; i < o->parameters; i++) n += entries_of(&o->parameter[i]);
  return n;
}

/* Entry 0 is the count of steps; then come, for each parameter, its step, numbers and slots. */
Status optim_entry(const Optimizer *o, int index, char *name, size_t room, Tensor **value) {
  if (o->evaluating) return fail(ERR_ARGUMENT, "%s: the parameters hold the point for evaluation; call opt:train() before saving", o->name);
  snprintf(name, room, "steps");
  if (index-- == 0) return tensor_scalar(F64, o->steps, value);
  const Parameter *p = o->parameter;
  while (index >= entries_of(p)) index -= entries_of(p++);
  int numbers = 1 + numbers_of(p);
  if (index >= numbers) {
    const Slot *s = &p->slot[index - numbers];
    snprintf(name, room, "%s.%s", p->name, s->name);
    *value = tensor_retain(s->tensor);
    return OK;
  }
  snprintf(name, room, "%s.%s", p->name, index == 0 ? "step" : p->rule->numbers[index - 1]);
  return tensor_scalar(F64, index == 0 ? p->step : p->number[index - 1], value);
}

int64_t optim_state_bytes(const Optimizer *o) {
  int64_t bytes = 0;
  for (int i = 0; i < o->parameters; i++)
    for (int k = 0; k < o->parameter[i].slots; k++) {
      const Tensor *t = o->parameter[i].slot[k].tensor;
      bytes += tensor_numel(t) * (int64_t)dtype_bytes(t->dtype);
    }
  return bytes;
}

/* "layers.0.w.m" belongs to the parameter whose name and a dot it starts with: the longest such. */
static Parameter *owner(const Optimizer *o, const char *name, const char **rest) {
  Parameter *best = NULL;
  size_t longest = 0;
  for (int i = 0; i < o->parameters; i++) {
    size_t n = strlen(o->parameter[i].name);
    if (n < longest || strncmp(name, o->parameter[i].name, n) != 0 || name[n] != '.') continue;
    best = &o->parameter[i], longest = n;
    *rest = name + n + 1;
  }
  return best;
}

static Status load_number(const char *name, const Tensor *value, bool apply, double *out) {
  double number;
  if (tensor_numel(value) != 1) return fail(ERR_SHAPE, "optimizer state: '%s' must be one number, got %s", name, shape_text(value));
  TRY(tensor_get(value, (int64_t[MAX_DIMS]){0}, &number));
  if (apply) *out = number;
  return OK;
}

Status optim_load(Optimizer *o, const char *name, const Tensor *value, bool apply) {
  if (strcmp(name, "steps") == 0) return load_number(name, value, apply, &o->steps);
  const char *rest = NULL;
  Parameter *p = owner(o, name, &rest);
  if (!p) return fail(ERR_ARGUMENT, "%s: the state's entry '%s' belongs to no parameter here", o->name, name);
  if (strcmp(rest, "step") == 0) return load_number(name, value, apply, &p->step);
  for (int k = 0; k < numbers_of(p); k++)
    if (strcmp(rest, p->rule->numbers[k]) == 0) return load_number(name, value, apply, &p->number[k]);
  for (int k = 0; k < p->slots; k++) {
    if (strcmp(rest, p->slot[k].name) != 0) continue;
    if (!tensor_same_shape(value, p->slot[k].tensor))
      return fail(ERR_SHAPE, "%s: the state's entry '%s' is %s, expected %s", o->name, name, shape_text(value), shape_text(p->slot[k].tensor));
    return apply ? tensor_copy(p->slot[k].tensor, value) : OK;
  }
  return fail(ERR_ARGUMENT, "%s: parameter '%s' has no state called '%s'; was the state saved by another optimizer?", o->name, p->name, rest);
}

Status optim_loaded(Optimizer *o) {
  for (int i = 0; i < o->parameters; i++)
    if (o->parameter[i].rule->loaded) TRY(o->parameter[i].rule->loaded(&o->parameter[i]));
  return OK;
}
