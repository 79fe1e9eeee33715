/* All derivatives of the network ops in f64 (op_check.h), strided inputs, partial
 * tangents, errors. */
#include "tests/unit/op_check.h"

static Tensor *layer_norm(Tensor *const *in, void *c) { return (void)c, op_layer_norm(in[0], in[1], in[2], 1e-3); }
static Tensor *layer_norm_plain(Tensor *const *in, void *c) { return (void)c, op_layer_norm(in[0], NULL, NULL, 1e-3); }
static Tensor *layer_norm_bias(Tensor *const *in, void *c) { return (void)c, op_layer_norm(op_transpose(in[0], 0, 1), NULL, in[1], 1e-3); }
static Tensor *rms_norm(Tensor *const *in, void *c) { return (void)c, op_rms_norm(in[0], in[1], 1e-3); }
static Tensor *rms_norm_plain(Tensor *const *in, void *c) { return (void)c, op_rms_norm(in[0], NULL, 1e-3); }

/* the gradient of the norm joins that of what passes it by */
static Tensor *norms_beside(Tensor *const *in, void *c) {
  (void)c;
  Tensor *h = op_tanh(in[0]), *y = op_add(op_square(op_layer_norm(h, in[1], in[2], 1e-3)), h);
  return op_add(op_square(op_rms_norm(y, in[1], 1e-3)), y);
}

static Tensor *layer_norm_residual(Tensor *const *in, void *c) { return (void)c, op_layer_norm_add(in[0], in[1], in[2], 1e-3, in[3]); }
static Tensor *rms_norm_residual(Tensor *const *in, void *c) { return (void)c, op_rms_norm_add(in[0], in[1], 1e-3, op_transpose(in[2], 0, 1)); }

static Tensor *targets; /* constants of the functions below; owned by main's pool */
static Tensor *cosines, *sines;

static Tensor *cross_entropy(Tensor *const *in, void *c) { return (void)c, op_cross_entropy(in[0], targets); }

typedef struct Rotation { int64_t rotated; bool interleaved, strided; } Rotation;
static Tensor *rotary(Tensor *const *in, void *context) {
  Rotation *t = context;
  Tensor *x = t->strided ? op_permute(in[0], (int[]){0, 2, 1, 3}) : in[0];
  return op_rotary(x, op_narrow(cosines, 1, 0, t->rotated / 2), op_narrow(sines, 1, 0, t->rotated / 2), t->rotated, t->interleaved);
}

static Tensor *attention(Tensor *const *in, void *window) { return op_attention(in[0], in[1], in[2], 0.7, *(int64_t *)window); }
/* q, k, v as views of one packed (batch, time, heads, 3 width) projection */
static Tensor *attention_packed(Tensor *const *in, void *window) {
  Tensor *part[3];
  if (op_split(in[0], 3, 3, (int64_t[]){3, 3, 3}, part) != OK) return NULL;
  return op_attention(part[0], part[1], part[2], 0.7, *(int64_t *)window);
}
static Tensor *attention_queries(Tensor *const *in, void *fixed) { return op_attention(in[0], fixed, fixed, 0.7, 0); }

static Tensor *dropout(Tensor *const *in, void *c) {
  (void)c;
  Random r = random_stream(7, "test");
  return op_dropout(in[0], 0.4, &r);
}
static Tensor *conv1d(Tensor *const *in, void *c) { return (void)c, op_conv1d(in[0], in[1], in[2]); }
static Tensor *conv1d_plain(Tensor *const *in, void *c) { return (void)c, op_conv1d(in[0], in[1], NULL); }

static void check_norms(void) {
  check_op("layer_norm", layer_norm, NULL, 3, (Shape[]){{3, {2, 3, 5}}, {1, {5}}, {1, {5}}});
  check_op("layer_norm without weight and bias", layer_norm_plain, NULL, 1, (Shape[]){{2, {3, 4}}});
  check_op("layer_norm of a transposed view, bias alone", layer_norm_bias, NULL, 2, (Shape[]){{2, {4, 3}}, {1, {4}}});
  check_op("norms beside a residual", norms_beside, NULL, 3, (Shape[]){{2, {3, 5}}, {1, {5}}, {1, {5}}});
  check_op("layer_norm and a residual", layer_norm_residual, NULL, 4, (Shape[]){{2, {3, 5}}, {1, {5}}, {1, {5}}, {2, {3, 5}}});
  check_op("rms_norm and a residual that lies otherwise", rms_norm_residual, NULL, 3, (Shape[]){{2, {3, 5}}, {1, {5}}, {2, {5, 3}}});
  check_op("rms_norm", rms_norm, NULL, 2, (Shape[]){{2, {4, 6}}, {1, {6}}});
  check_op("rms_norm without weight", rms_norm_plain, NULL, 1, (Shape[]){{1, {7}}});
}

static void check_losses(void) {
  targets = tensor_of(I32, (Shape){2, {2, 3}}, (double[]){0, 4, -1, 2, 2, -100});
  check_op("cross_entropy", cross_entropy, NULL, 1, (Shape[]){{3, {2, 3, 5}}});
  targets = tensor_of(I32, (Shape){1, {1}}, (double[]){0});
  check_op("cross_entropy of one class", cross_entropy, NULL, 1, (Shape[]){{2, {1, 1}}});
  targets = tensor_of(I32, (Shape){1, {3}}, (double[]){-1, -1, -1});
  check_op("cross_entropy without targets", cross_entropy, NULL, 1, (Shape[]){{2, {3, 4}}});
}

static void check_rotary(void) {
  double c[5 * 3], s[5 * 3];
  for (int i = 0; i < 15; i++) c[i] = cos(i), s[i] = sin(i);
  cosines = tensor_of(F64, (Shape){2, {5, 3}}, c), sines = tensor_of(F64, (Shape){2, {5, 3}}, s);
  check_op("rotary", rotary, &(Rotation){6, false, false}, 1, (Shape[]){{4, {2, 4, 2, 6}}});
  check_op("rotary, interleaved, part of the width", rotary, &(Rotation){4, true, false}, 1, (Shape[]){{4, {1, 5, 2, 7}}});
  check_op("rotary of a view", rotary, &(Rotation){4, false, true}, 1, (Shape[]){{4, {2, 2, 5, 5}}});
}

static void check_attention(void) {
  int64_t none = 0, window = 2;
  check_op("attention", attention, &none, 3, (Shape[]){{4, {2, 5, 2, 3}}, {4, {2, 5, 2, 3}}, {4, {2, 5, 2, 3}}});
  check_op("attention, grouped heads, window", attention, &window, 3, (Shape[]){{4, {1, 6, 4, 2}}, {4, {1, 6, 2, 2}}, {4, {1, 6, 2, 2}}});
  check_op("attention over one time step", attention, &none, 3, (Shape[]){{4, {2, 1, 2, 2}}, {4, {2, 1, 1, 2}}, {4, {2, 1, 1, 2}}});
  check_op("attention on a packed projection", attention_packed, &none, 1, (Shape[]){{4, {2, 4, 2, 9}}});
  Tensor *fixed = random_tensor((Shape){4, {2, 5, 2, 3}});
  check_op("attention in the queries alone", attention_queries, fixed, 1, (Shape[]){{4, {2, 5, 2, 3}}});
}

static void check_rest(void) {
  check_op("dropout", dropout, NULL, 1, (Shape[]){{2, {5, 7}}});
  check_op("conv1d", conv1d, NULL, 3, (Shape[]){{3, {2, 6, 3}}, {2, {3, 4}}, {1, {3}}});
  check_op("conv1d, more taps than time", conv1d_plain, NULL, 2, (Shape[]){{3, {1, 2, 2}}, {2, {2, 5}}});
}

/* The share of zeros, the scale of the rest, the advance of the stream. */
static void check_dropout_law(void) {
  Shape shape = {1, {100003}};
  Tensor *x;
  tensor_new(F32, 1, shape.shape, &x);
  tensor_fill(pool_keep(x), 2);
  Random r = random_stream(1, "dropout"), before = r;
  Tensor *y = op_dropout(x, 0.25, &r), *z = op_dropout(x, 0.25, &r);
  int zeros = 0, kept = 0, differ = 0;
  for (int64_t i = 0; i < shape.shape[0]; i++) {
    float a = ((float *)tensor_data(y))[i], b = ((float *)tensor_data(z))[i];
    zeros += a == 0, kept += a == (float)(1 / 0.75) * 2, differ += a != b;
  }
  ok(zeros + kept == shape.shape[0], "dropout gives 0 or x / (1 - p)");
  ok(fabs(zeros / 100003.0 - 0.25) < 5 * sqrt(0.25 * 0.75 / 100003), "a share p is dropped (%d of 100003)", zeros);
  ok(abs(differ - (int)(2 * 0.25 * 0.75 * 100003)) < 700, "the next mask is independent (%d differ)", differ);
  ok(r.counter == before.counter + 2 * 25001, "the stream advances by a quarter of the values");
  ok(op_dropout(x, 0, &r) == x, "p = 0 is the identity");
  Tensor *none = op_dropout(x, 1, &r);
  ok(none && ((float *)tensor_data(none))[0] == 0 && ((float *)tensor_data(none))[100002] == 0, "p = 1 drops all");
}

static void check_errors(void) {
  Tensor *x = random_tensor((Shape){2, {3, 4}}), *w = random_tensor((Shape){1, {5}}), *four = random_tensor((Shape){4, {1, 2, 3, 4}});
  Tensor *other = random_tensor((Shape){4, {1, 2, 2, 4}}), *angles = random_tensor((Shape){2, {1, 2}});
  Tensor *ids = tensor_of(I32, (Shape){1, {3}}, (double[]){0, 4, 1}), *few = tensor_of(I32, (Shape){1, {2}}, (double[]){0, 1});
  Tensor *single = tensor_of(F32, (Shape){1, {4}}, (double[]){1, 1, 1, 1});
  Random r = random_stream(1, "x");
  fails_with(op_layer_norm(x, w, NULL, 1e-5), "layer_norm: weight (5) does not fit the last axis of (3, 4)", "layer_norm: wrong weight");
  fails_with(op_layer_norm(x, single, NULL, 1e-5), "the input is f64, the weight f32", "layer_norm: mixed types");
  fails_with(op_layer_norm_add(x, NULL, NULL, 0, w), "layer_norm: residual f64 (5) does not fit the input f64 (3, 4)", "layer_norm: wrong residual");
  fails_with(op_rms_norm(x, NULL, -1), "eps", "rms_norm: negative eps");
  fails_with(op_rms_norm(ids, NULL, 0), "rms_norm: the input must hold real numbers", "rms_norm: integers");
  fails_with(op_cross_entropy(x, ids), "4, outside", "cross_entropy: a target beyond the classes");
  fails_with(op_cross_entropy(x, few), "cross_entropy: targets (2) do not name one class for each row of logits (3, 4)", "cross_entropy: too few targets");
  fails_with(op_cross_entropy(x, random_tensor((Shape){1, {3}})), "must be i32", "cross_entropy: real targets");
  fails_with(op_rotary(x, angles, angles, 4, false), "(batch, time, heads, width)", "rotary: two axes");
  fails_with(op_rotary(four, angles, angles, 4, false), "at least 2 positions", "rotary: too few positions");
  fails_with(op_rotary(four, angles, angles, 3, false), "even", "rotary: odd share");
  fails_with(op_attention(four, other, other, 1, 0), "heads of k divide those of q", "attention: heads that do not divide");
  fails_with(op_attention(x, x, x, 1, 0), "(batch, time, heads, width)", "attention: two axes");
  fails_with(op_attention(four, four, four, 1, -1), "window", "attention: negative window");
  fails_with(op_dropout(x, 1.5, &r), "dropout: p must be in 0 .. 1, got 1.5", "dropout: p beyond 1");
  fails_with(op_conv1d(x, x, NULL), "conv1d: the input must be (batch, time, channels)", "conv1d: two axes");
  ok(op_attention(NULL, four, four, 1, 0) == NULL, "NULL in, NULL out");
}

int main(void) {
  Pool p = pool_open();
  check_norms();
  check_losses();
  check_rotary();
  check_attention();
  check_rest();
  check_dropout_law();
  check_errors();
  pool_close(p);
  return done();
}
