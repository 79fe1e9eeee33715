/* optim.c - the frame around the rules: life of an optimizer, its groups and
 * parameters, and the order of a step.
 *
 * A step first looks at all gradients: shapes, types, and one pass that sums their
 * squares in fixed blocks. A sum that is not finite ends the step before anything
 * changed; otherwise its root gives the clip factor, which the rules fold into their own
 * read of the gradient. Then the elementwise rules run, each over all its tensors at
 * once, and the others one parameter after the other. */
#include "optim/optim.h"

#include <string.h>

#include "autograd/op.h"
#include "base/mem.h"
#include "optim/settings.h"

const char *const role_names[ROLE_COUNT + 1] = {"input", "hidden", "vector", "output", NULL};

/* --- life --- */

Status optim_new(const OptimInfo *info, const char *name, double max_norm, Optimizer **out) {
  if (!name) name = info->name;
  if (!(max_norm >= 0)) return fail(ERR_ARGUMENT, "%s: clip must be a norm above 0, got %g", name, max_norm);
  Optimizer *o = mem_calloc(1, sizeof *o);
  if (!o) return error_code();
  o->info = info;
  o->max_norm = max_norm;
  o->name = mem_strdup(name);
  if (!o->name) {
    mem_free(o);
    return error_code();
  }
  *out = o;
  return OK;
}

static void free_parameter(Parameter *p) {
  if (p->rule && p->rule->release) p->rule->release(p);
  for (int i = 0; i < p->slots; i++) {
    mem_free(p->slot[i].name);
    tensor_release(p->slot[i].tensor);
  }
  mem_free(p->slot);
  mem_free(p->name);
  tensor_release(p->gradient);
  tensor_release(p->tensor);
}

void optim_free(Optimizer *o) {
  if (!o) return;
  for (int i = 0; i < o->parameters; i++) free_parameter(&o->parameter[i]);
  for (int i = 0; i < o->groups; i++) mem_free(o->group[i]);
  mem_free(o->parameter);
  mem_free(o->group);
  mem_free(o->update);
  mem_free(o->partial);
  mem_free(o->name);
  mem_free(o);
}

Status optim_group(Optimizer *o, const double *settings) {
  double **grown = mem_realloc(o->group, ((size_t)o->groups + 1) * sizeof *grown);
  if (!grown) return error_code();
  o->group = grown;
  TRY(settings_make(o->info, settings, &grown[o->groups]));
  o->groups++;
  return OK;
}

Status optim_set(Optimizer *o, int group, const char *name, double value) {
  if (group < 0 || group >= o->groups) return fail(ERR_ARGUMENT, "%s: there is no group %d", o->name, group + 1);
  return settings_set(o->info, o->group[group], name, value);
}

static Status check_parameter(const Optimizer *o, const ParameterSpec *s) {
  const char *op = o->name;
  if (o->groups == 0) return fail(ERR_ARGUMENT, "%s: open a group before adding parameters", op);
  if (!dtype_is_real(s->tensor->dtype))
    return fail(ERR_DTYPE, "%s: parameter '%s' must be f32 or f64, got %s", op, s->name, dtype_name(s->tensor->dtype));
  if (!tensor_contiguous(s->tensor))
    return fail(ERR_ARGUMENT, "%s: parameter '%s' %s is a strided view; give the tensor that owns the values", op, s->name, shape_text(s->tensor));
  if (tensor_numel(s->tensor) == 0) return fail(ERR_SHAPE, "%s: parameter '%s' %s is empty", op, s->name, shape_text(s->tensor));
  for (int i = 0; i < o->parameters; i++) {
    if (o->parameter[i].tensor == s->tensor)
      return fail(ERR_ARGUMENT, "%s: parameters '%s' and '%s' are the same tensor; list it once", op, o->parameter[i].name, s->name);
    if (strcmp(o->parameter[i].name, s->name) == 0) return fail(ERR_ARGUMENT, "%s: two parameters are called '%s'", op, s->name);
  }
  return OK;
}

static int64_t blocks_of(const Parameter *p) { return (tensor_numel(p->tensor) + UPDATE_BLOCK - 1) / UPDATE_BLOCK; }

/* Room for one more parameter in the arrays that run along the parameters. */
static Status grow(Optimizer *o, const Tensor *t) {
  if (o->parameters == o->room) {
    int room = o->room ? 2 * o->room : 16;
    Parameter *p = mem_realloc(o->parameter, (size_t)room * sizeof *p);
    if (!p) return error_code();
    o->parameter = p;
    Update *u = mem_realloc(o->update, (size_t)room * sizeof *u);
    if (!u) return error_code();
    o->update = u, o->room = room;
  }
  int64_t blocks = o->partials + (tensor_numel(t) + UPDATE_BLOCK - 1) / UPDATE_BLOCK;
  double *partial = mem_realloc(o->partial, (size_t)blocks * sizeof *partial);
  if (!partial) return error_code();
  o->partial = partial, o->partials = blocks;
  return OK;
}

Status optim_parameter(Optimizer *o, const ParameterSpec *s) {
  TRY(check_parameter(o, s));
  TRY(grow(o, s->tensor));
  Parameter p = {.role = s->role, .decay = s->decay, .normalised = s->normalised, .group = o->groups - 1, .settings = o->group[o->groups - 1]};
  p.name = mem_strdup(s->name);
  if (!p.name) return error_code();
  p.tensor = tensor_retain(s->tensor);
  p.rule = o->info->rule(&p);
  Status status = !p.rule ? error_code() : p.rule->prepare ? p.rule->prepare(&p) : OK;
  if (status != OK) {
    free_parameter(&p);
    return fail_in("parameter '%s'", s->name);
  }
  o->parameter[o->parameters++] = p;
  return OK;
}

/* --- for rules --- */

Status optim_slot(Parameter *p, const char *name, int ndim, const int64_t *shape) {
  Slot *grown = mem_realloc(p->slot, ((size_t)p->slots + 1) * sizeof *grown);
  if (!grown) return error_code();
  p->slot = grown;
  Slot s = {mem_strdup(name), NULL};
  if (!s.name) return error_code();
  if (tensor_zeros(p->tensor->dtype, ndim, shape, &s.tensor)) {
    mem_free(s.name);
    return error_code();
  }
  p->slot[p->slots++] = s;
  return OK;
}

Status optim_slot_like(Parameter *p, const char *name) { return optim_slot(p, name, p->tensor->ndim, p->tensor->shape); }

Update optim_update(const Parameter *p) {
  Update u = {.n = tensor_numel(p->tensor), .w = tensor_data(p->tensor), .g = p->gradient ? tensor_data(p->gradient) : NULL};
  for (int i = 0; i < p->slots && i < 3; i++)
    if (tensor_numel(p->slot[i].tensor) == u.n) u.s[i] = tensor_data(p->slot[i].tensor);
  u.c = (Coefficients){.clip = p->clip, .shrink = 1, .scale1 = 1, .scale2 = 1, .mix = 1};
  return u;
}

Status optim_move(Parameter *p, const Tensor *direction, double lr, double shrink) {
  const Kernels *kernels = kernels_for(p->tensor);
  Update u = optim_update(p);
  if (!kernels->all_finite(u.n, tensor_data(direction)))
    return fail(ERR_NUMERIC, "the direction is not finite, though the gradient is (its norm is %g); this parameter was not changed",
                sqrt(kernels->dot(u.n, u.g, u.g)));
  u.s[0] = tensor_data(direction);
  u.c.lr = lr, u.c.shrink = shrink;
  kernels->update(UPDATE_APPLY, 1, &u);
  return OK;
}

/* --- gradients --- */

static Status take_gradient(const Optimizer *o, Parameter *p) {
  Tensor *g = p->tensor->grad;
  if (!g) return OK;
  if (g->dtype != p->tensor->dtype || !tensor_same_shape(g, p->tensor))
    return fail(ERR_SHAPE, "%s: the gradient of '%s' is %s %s, the parameter %s %s", o->name, p->name, dtype_name(g->dtype), shape_text(g),
                dtype_name(p->tensor->dtype), shape_text(p->tensor));
  return tensor_contiguous_copy(g, &p->gradient);
}

/* The first entry of the gradient that is not finite, for the message. */
static Status blame(const Optimizer *o, const Parameter *p) {
  int64_t n = tensor_numel(p->gradient), flat[1] = {n}, step[1] = {1};
  Tensor *row;
  TRY(tensor_view(p->gradient, 1, flat, step, p->gradient->offset, &row));
  double v = 0;
  int64_t i = 0;
  while (i < n && tensor_get(row, &i, &v) == OK && isfinite(v)) i++;
  tensor_release(row);
  if (i == n) return fail(ERR_NUMERIC, "%s: the squares of the gradient of '%s' overflow", o->name, p->name);
  int64_t at[MAX_DIMS], rest = i;
  for (int k = p->tensor->ndim - 1; k >= 0; k--) at[k] = rest % p->tensor->shape[k] + 1, rest /= p->tensor->shape[k];
  return fail(ERR_NUMERIC, "%s: the gradient of '%s' %s is %s at %s (counted from 1); nothing was changed", o->name, p->name,
              shape_text(p->gradient), isnan(v) ? "NaN" : "infinite", dims_text(p->tensor->ndim, at));
}

/* Sum of squares over all gradients: blocks in order within a tensor, tensors in order. */
static Status measure(Optimizer *o, double *norm) {
  double total = 0;
  for (DType d = F32; d <= F64; d++) {
    int count = 0;
    for (int i = 0; i < o->parameters; i++)
      if (o->parameter[i].gradient && o->parameter[i].tensor->dtype == d) o->update[count++] = optim_update(&o->parameter[i]);
    if (count) kernels_of(0, d)->gradient_squares(count, o->update, o->partial);
    const double *partial = o->partial;
    for (int i = 0; i < o->parameters; i++) {
      const Parameter *p = &o->parameter[i];
      if (!p->gradient || p->tensor->dtype != d) continue;
      double sum = 0;
      for (int64_t b = blocks_of(p); b > 0; b--) sum += *partial++;
      if (!isfinite(sum)) return blame(o, p);
      total += sum;
    }
  }
  if (!isfinite(total)) return fail(ERR_NUMERIC, "%s: the norm of the gradients overflows", o->name);
  *norm = sqrt(total);
  return OK;
}

void optim_end(Optimizer *o) {
  for (int i = 0; i < o->parameters; i++) {
    tensor_release(o->parameter[i].gradient);
    o->parameter[i].gradient = NULL;
  }
}

static Status take_gradients(Optimizer *o, double *norm) {
  int found = 0;
  for (int i = 0; i < o->parameters; i++) {
    TRY(take_gradient(o, &o->parameter[i]));
    found += o->parameter[i].gradient != NULL;
  }
  if (!found) return fail(ERR_ARGUMENT, "%s: none of the %d parameters has a gradient; call loss:backward() first", o->name, o->parameters);
  return measure(o, norm);
}

/* The factor is PyTorch's clip_grad_norm_: max_norm / (norm + 1e-6), at most 1. */
Status optim_begin(Optimizer *o, double *norm) {
  if (o->evaluating)
    return fail(ERR_ARGUMENT, "%s: the parameters hold the point for evaluation; call opt:train() before the next step", o->name);
  optim_end(o);
  if (take_gradients(o, norm)) {
    optim_end(o);
    return error_code();
  }
  double clip = o->max_norm > 0 ? fmin(1, o->max_norm / (*norm + 1e-6)) : 1;
  for (int i = 0; i < o->parameters; i++) o->parameter[i].clip = clip;
  return OK;
}

Status optim_norm(Optimizer *o, double *norm) {
  Status s = take_gradients(o, norm);
  optim_end(o);
  return s;
}

void optim_zero_grad(Optimizer *o) {
  for (int i = 0; i < o->parameters; i++) {
    tensor_release(o->parameter[i].tensor->grad);
    o->parameter[i].tensor->grad = NULL;
  }
}

Status optim_gradient(const Optimizer *o, int index, Tensor **out) {
  const Parameter *p = &o->parameter[index];
  *out = NULL;
  if (!p->gradient) return OK;
  if (p->clip == 1) {
    *out = tensor_retain(p->gradient);
    return OK;
  }
  TRY(tensor_like(p->gradient, out));
  Loop l;
  loop_make(&l, 2, (Tensor *const[]){*out, p->gradient});
  kernels_for(*out)->unary(U_MUL, &l, p->clip);
  return OK;
}

/* --- the step --- */

static double scale_of(const Parameter *p, const double *scale) { return scale ? scale[p->group] : 1; }

/* Runs p's elementwise rule over p and every later parameter with the same rule and type. */
static void run_elementwise(Optimizer *o, int first, const double *scale) {
  const Parameter *lead = &o->parameter[first];
  int count = 0;
  for (int i = first; i < o->parameters; i++) {
    Parameter *p = &o->parameter[i];
    if (!p->pending || p->rule != lead->rule || p->tensor->dtype != lead->tensor->dtype) continue;
    o->update[count] = optim_update(p);
    p->rule->update(p, scale_of(p, scale), &o->update[count++]);
    p->pending = false;
  }
  kernels_for(lead->tensor)->update(lead->rule->kind, count, o->update);
}

/* Rules compute with operations: their temporaries go, and nothing is recorded. */
static Status run_one(Parameter *p, double scale) {
  Pool pool = pool_open();
  bool was = grad_enable(false);
  Status s = p->rule->step(p, scale);
  grad_enable(was);
  pool_close(pool);
  return s;
}

Status optim_apply(Optimizer *o, const double *scale) {
  for (int i = 0; i < o->groups && scale; i++)
    if (!isfinite(scale[i]) || scale[i] < 0) return fail(ERR_ARGUMENT, "%s: the rate's scale must be a number from 0 up, got %g", o->name, scale[i]);
  o->steps++;
  for (int i = 0; i < o->parameters; i++) {
    Parameter *p = &o->parameter[i];
    p->pending = p->gradient != NULL;
    p->step += p->pending;
  }
  for (int i = 0; i < o->parameters; i++) {
    Parameter *p = &o->parameter[i];
    if (!p->gradient) continue;
    if (p->pending && p->rule->update) run_elementwise(o, i, scale);
    if (p->rule->step && run_one(p, scale_of(p, scale))) return fail_in("%s: parameter '%s'", o->name, p->name);
    tensor_touch(p->tensor);
  }
  return OK;
}

Status optim_step(Optimizer *o, const double *scale, double *norm) {
  double unused;
  TRY(optim_begin(o, norm ? norm : &unused));
  Status s = optim_apply(o, scale);
  optim_end(o);
  return s;
}

Status optim_swap(Optimizer *o, bool evaluate) {
  if (o->evaluating == evaluate) return OK;
  for (int i = 0; i < o->parameters; i++) {
    Parameter *p = &o->parameter[i];
    if (!p->rule->swap) continue;
    TRY(p->rule->swap(p, evaluate));
    tensor_touch(p->tensor);
    o->evaluating = evaluate;
  }
  return OK;
}

/* Calls one optional entry of every rule that has it. */
typedef enum Call { OBSERVE, INIT } Call;

static Status call_one(Parameter *p, Call call, uint64_t seed) {
  Pool pool = pool_open();
  bool was = grad_enable(false);
  Status s = call == INIT ? p->rule->init(p, seed) : p->rule->observe(p);
  grad_enable(was);
  pool_close(pool);
  if (call == INIT) tensor_touch(p->tensor);
  return s;
}

static Status call_all(Optimizer *o, Call call, uint64_t seed, const char *what) {
  bool any = false;
  for (int i = 0; i < o->parameters; i++) {
    Parameter *p = &o->parameter[i];
    if (call == INIT ? !p->rule->init : !p->rule->observe || !p->gradient) continue;
    TRY(call_one(p, call, seed));
    any = true;
  }
  return any ? OK : fail(ERR_UNSUPPORTED, "%s: this optimizer has no %s", o->name, what);
}

Status optim_observe(Optimizer *o) {
  double norm;
  Status s = take_gradients(o, &norm);
  for (int i = 0; i < o->parameters; i++) o->parameter[i].clip = 1;
  if (s == OK) s = call_all(o, OBSERVE, 0, "use for samples of the curvature (sophia does)");
  optim_end(o);
  return s;
}

Status optim_init(Optimizer *o, uint64_t seed) { return call_all(o, INIT, seed, "starting point of its own (scion does)"); }
