/* linear_fused.c - linear layers whose output pass does what follows them: an activation
 * (the first half of an MLP), or rotary positions on heads (the projection to queries and keys).
 *
 *   linear_activated: u = x w^T + b, y = f(u); u is the second output, of which the gradient is a function.
 *   linear_turned:    y = R (x w^T + b), R the turn of each position, so dy goes back turned by -R.
 * The ops they are made of (linear, gelu ..., turn_heads) give the same bits and are the test's oracle. */
#include <string.h>

#include "autograd/ops/ops.h"

extern const OpInfo linear_activated_op, linear_turned_op, turn_heads_op;

/* --- linear and activation --- */

/* What a linear layer's output pass can do, by the names of the ops that do the same. */
static const struct { const char *name; Unary f; } activations[] = {{"gelu", U_GELU}, {"gelu_tanh", U_GELU_TANH}, {"silu", U_SILU}};
enum { ACTIVATIONS = sizeof activations / sizeof *activations };

static Unary activation_of(const char *name, bool *known) {
  for (int i = 0; i < ACTIVATIONS; i++)
    if (strcmp(name, activations[i].name) == 0) return *known = true, activations[i].f;
  return *known = false, activations[0].f;
}

static const char *activation_name(Unary f) {
  int i = 0;
  while (activations[i].f != f) i++; /* f came from activation_of */
  return activations[i].name;
}

static Unary f_of(const Node *n) { return (Unary)n->attributes.ints[0]; }

/* f'(u) g; in the place of g where only this pass holds it */
static Tensor *through_activation(Unary f, Tensor *u, Tensor *g) {
  if (!gradient_is_ours(g) || !tensor_contiguous(u)) return op_activation_backward(f, u, g);
  kernels_for(u)->activation_backward(f, tensor_numel(u), tensor_data(u), tensor_data(g), tensor_data(g));
  tensor_touch(g);
  return g;
}

static Status activated_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  Tensor *through = NULL, *whole;
  if (g[0] && !(through = through_activation(f_of(n), node_output(n, 1), g[0]))) return error_code();
  whole = through && g[1] ? op_add(through, g[1]) : through ? through : g[1];
  return whole ? op_linear_vjp(n, &whole, gin) : error_code();
}

static Status activated_jvp(Node *n, Tensor *const *t, Tensor **out) {
  TRY(op_linear_jvp(n, t, &out[1]));
  out[0] = op_activation_backward(f_of(n), n->out[1], out[1]);
  return out[0] ? OK : error_code();
}

Status op_linear_activated_again(Node *n, Tensor *const *tin, Tensor *const *tout, Tensor **out) {
  (void)tin;
  return (*out = op_activation_backward(f_of(n), n->out[1], tout[1])) ? OK : error_code();
}

/* Room for a number a result; in the place of x where only this pass holds that */
static Tensor *over(Tensor *x, const Tensor *like) { return x && tangent_may_overwrite(x) ? x : op_new_like(like); }

/* f'(u) g and its tangent, then as linear */
Status op_linear_activated_pair(Node *n, const Pair *p, bool *applies) {
  if (!(*applies = p->tout && p->gout[0] && !p->gout[1] && n->in[0]->ndim > 1)) return OK; /* u has no other reader */
  Tensor *u = n->out[1], *tu = op_dense(p->tout[1]), *g = op_dense(p->gout[0]), *tg = op_dense(p->tgout[0]), *t = NULL;
  if (!g || (p->tout[1] && !tu) || (p->tgout[0] && !tg)) return error_code();
  Tensor *through = over(g, u);
  if (!through || ((tu || tg) && !(t = over(tg, u)))) return error_code();
  kernels_for(u)->activation_pair(f_of(n), tensor_numel(u), tensor_data(u), tensor_data(g), tu ? tensor_data(tu) : NULL, tg ? tensor_data(tg) : NULL,
                                  tensor_data(through), t ? tensor_data(t) : NULL);
  tensor_touch(through), t ? tensor_touch(t) : (void)0;
  const Pair below = {&through, &t, p->tin, NULL, p->wanted, p->spent, p->gin, p->tgin};
  return op_linear_pair(n, &below, applies);
}

static Status activated_compose(Node *n, Tensor *const *in, Tensor **out) {
  out[1] = op_linear(in[0], in[1], in[2]);
  out[0] = op_unary_named(activation_name(f_of(n)), out[1]);
  return out[0] ? OK : error_code();
}

const OpInfo linear_activated_op = {"linear_activated", 4, 2, "f(x w^T + b) in one pass, f = gelu, gelu_tanh or silu; and x w^T + b", activated_vjp,
                                    activated_jvp, activated_compose, false};

Tensor *op_linear_activated(Tensor *x, Tensor *w, Tensor *b, const char *function) {
  bool known;
  const Unary f = activation_of(function, &known);
  if (!known) return fail(ERR_ARGUMENT, "linear_activated: no activation '%s'; there are gelu, gelu_tanh and silu", function), NULL;
  Tensor *u = op_linear_result(x, w, b), *y = u ? op_new_like(u) : NULL;
  if (!y || op_linear_into(u, x, w, (Joined){.bias = b, .activation = f, .activated = y}) != OK) return NULL;
  Attributes a = {.ints = {f}};
  return graph_record(&linear_activated_op, 4, (Tensor *[]){x, w, b, NULL}, 2, (Tensor *[]){y, u}, &a) == OK ? y : NULL;
}

/* --- heads that turn: (..., time, N), N = heads of `width`, of every `group` of which the first `turned` turn --- */

enum { TX, COSINES, SINES };           /* inputs of turn_heads; linear_turned has x, w, b, then the angles */
enum { LT_COSINES = 4, LT_SINES = 5 }; /* after x, w, b and linear's residual, which is absent here */

/* ints: width, rotated, group, turned, interleaved, sign */
static Turn turn_of(const Attributes *a, const Tensor *y, Tensor *cosines, Tensor *sines, int sign) {
  const int64_t *i = a->ints;
  return (Turn){.time = y->shape[y->ndim - 2], .width = i[0], .rotated = i[1], .group = i[2], .turned = i[3], .interleaved = i[4],
                .sign = (double)(i[5] * sign), .cosines = tensor_data(cosines), .sines = tensor_data(sines)};
}

static Status turn_check(const char *op, int ndim, const int64_t *shape, DType d, const Tensor *c, const Tensor *s, const Attributes *a) {
  const int64_t width = a->ints[0], rotated = a->ints[1], group = a->ints[2], turned = a->ints[3];
  if (ndim < 2) return fail(ERR_SHAPE, "%s: needs (..., time, heads x width), got %s", op, dims_text(ndim, shape));
  if (width < 1 || group < 1 || shape[ndim - 1] % (width * group))
    return fail(ERR_SHAPE, "%s: %lld numbers a position are not whole groups of %lld heads of width %lld", op, (long long)shape[ndim - 1],
                (long long)group, (long long)width);
  if (turned < 0 || turned > group || rotated < 0 || rotated % 2 || rotated > width)
    return fail(ERR_ARGUMENT, "%s: rotated must be even and at most the width %lld of a head, got %lld; turned at most the group %lld, got %lld", op,
                (long long)width, (long long)rotated, (long long)group, (long long)turned);
  if (c->dtype != d || s->dtype != d || c->ndim != 2 || !tensor_same_shape(c, s) || c->shape[0] < shape[ndim - 2] || c->shape[1] != rotated / 2)
    return fail(ERR_SHAPE, "%s: cosines %s and sines %s must both be %s (at least %lld positions, %lld)", op, shape_text(c), shape_text(s),
                dtype_name(d), (long long)shape[ndim - 2], (long long)(rotated / 2));
  if (tensor_needs_grad(c) || tensor_needs_grad(s)) return fail(ERR_UNSUPPORTED, "%s: the angles have no gradient; detach them", op);
  return OK;
}

/* y turns where it lies. */
static Status turn_in_place(Tensor *y, const Attributes *a, Tensor *cosines, Tensor *sines, int sign) {
  Tensor *c = op_dense(cosines), *s = op_dense(sines);
  if (!c || !s) return error_code();
  const Turn t = turn_of(a, y, c, s, sign);
  const int64_t n = y->shape[y->ndim - 1];
  if (n) kernels_for(y)->turn(&t, tensor_numel(y) / n, n, tensor_data(y));
  tensor_touch(y);
  return OK;
}

static Tensor *turn_heads(Tensor *x, Tensor *cosines, Tensor *sines, Attributes a, int sign) {
  a.ints[5] *= sign;
  Tensor *from = op_dense(x), *y = from ? op_new_like(from) : NULL;
  if (!y) return NULL;
  Loop l;
  loop_make(&l, 2, (Tensor *[]){y, from});
  kernels_for(y)->copy(&l);
  if (turn_in_place(y, &a, cosines, sines, 1) != OK) return NULL;
  return op_done(&turn_heads_op, 3, (Tensor *[]){x, cosines, sines}, y, &a);
}

static Status turn_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  gin[0] = turn_heads(g[0], n->in[COSINES], n->in[SINES], n->attributes, -1);
  return gin[0] ? OK : error_code();
}
static Status turn_jvp(Node *n, Tensor *const *t, Tensor **out) {
  if (!t[0]) return OK;
  out[0] = turn_heads(t[0], n->in[COSINES], n->in[SINES], n->attributes, 1);
  return out[0] ? OK : error_code();
}
const OpInfo turn_heads_op = {"turn_heads", 3, 1, "rotary positions on the first heads of each group, (..., time, heads x width)", turn_vjp, turn_jvp,
                              NULL, true};

static Attributes turn_attributes(Heading h) { return (Attributes){.ints = {h.width, h.rotated, h.group, h.turned, h.interleaved, 1}}; }

Tensor *op_turn_heads(Tensor *x, Tensor *cosines, Tensor *sines, Heading h) {
  const Attributes a = turn_attributes(h);
  if (!x || !cosines || !sines || !op_check_real("turn_heads", x, "the input")) return NULL;
  if (turn_check("turn_heads", x->ndim, x->shape, x->dtype, cosines, sines, &a) != OK) return NULL;
  return turn_heads(x, cosines, sines, a, 1);
}

static Status turned_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  Tensor *back = g[0];
  if (gradient_is_ours(back)) TRY(turn_in_place(back, &n->attributes, n->in[LT_COSINES], n->in[LT_SINES], -1));
  else if (!(back = turn_heads(back, n->in[LT_COSINES], n->in[LT_SINES], n->attributes, -1))) return error_code();
  return op_linear_vjp(n, &back, gin);
}

/* x turned; where it lies, if nobody else holds it and nothing is recorded */
static Tensor *turn_over(Node *n, Tensor *x, int sign) {
  Tensor *cosines = n->in[LT_COSINES], *sines = n->in[LT_SINES];
  if (grad_enabled() || x->node || !tangent_may_overwrite(x)) return turn_heads(x, cosines, sines, n->attributes, sign);
  return turn_in_place(x, &n->attributes, cosines, sines, sign) == OK ? x : NULL;
}

static Status turned_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *y;
  TRY(op_linear_jvp(n, t, &y));
  out[0] = turn_over(n, y, 1);
  return out[0] ? OK : error_code();
}

Status op_linear_turned_pair(Node *n, const Pair *p, bool *applies) {
  if (!(*applies = n->in[0]->ndim > 1)) return OK; /* as of op_linear_pair: what comes now may overwrite the gradients */
  Tensor *tg = p->tgout[0], *back = turn_over(n, p->gout[0], -1), *t = tg ? turn_over(n, tg, -1) : NULL;
  if (!back || (tg && !t)) return error_code();
  const Pair below = {&back, &t, p->tin, NULL, p->wanted, p->spent, p->gin, p->tgin};
  return op_linear_pair(n, &below, applies);
}

static Status turned_compose(Node *n, Tensor *const *in, Tensor **out) {
  out[0] = turn_heads(op_linear(in[0], in[1], in[2]), in[LT_COSINES], in[LT_SINES], n->attributes, 1);
  return out[0] ? OK : error_code();
}

const OpInfo linear_turned_op = {"linear_turned", 6, 1, "x w^T + b with rotary positions on its heads, in one pass", turned_vjp, turned_jvp,
                                 turned_compose, true};

Tensor *op_linear_turned(Tensor *x, Tensor *w, Tensor *b, Tensor *cosines, Tensor *sines, Heading h) {
  const Attributes a = turn_attributes(h);
  Tensor *y = cosines && sines ? op_linear_result(x, w, b) : NULL;
  if (!y || turn_check("linear_turned", y->ndim, y->shape, y->dtype, cosines, sines, &a) != OK) return NULL;
  Tensor *c = op_dense(cosines), *s = op_dense(sines);
  if (!c || !s) return NULL;
  const Turn t = turn_of(&a, y, c, s, 1);
  const bool joins = h.width * h.group <= TURN_MAX;
  if (op_linear_into(y, x, w, (Joined){.bias = b, .turn = joins ? &t : NULL}) != OK) return NULL;
  if (!joins && turn_in_place(y, &a, c, s, 1) != OK) return NULL;
  return op_done(&linear_turned_op, 6, (Tensor *[]){x, w, b, NULL, cosines, sines}, y, &a);
}
