/* llama2c.c - the model files of llama2.c (github.com/karpathy/llama2.c): a header of sizes, then f32 arrays in a
 * fixed order, each of them for all layers at once. They are shown under Hugging Face's names for Llama.
 *
 * Legacy files begin with seven i32; version 1 with the magic "ak42" and a header of 256 bytes, and have the norms first.
 * Rotary embedding there turns neighbouring pairs, Hugging Face's turns halves: rows of q_proj and k_proj
 * need reordering (quench/convert.lua does it). The quantized version 2 is not read. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/safetensors.h"

enum { MAGIC = 0x616b3432, HEADER_V1 = 256, PER_LAYER = 9, LARGEST = 1 << 24 };

typedef struct Sizes {
  int32_t dim, hidden, layers, heads, kv_heads, vocab, context;
} Sizes;

typedef struct Reading {
  const uint8_t *data;
  const char *name; /* of the file */
  uint64_t at, bytes;
  SafeEntry *entries;
  int count;
  char (*names)[96];
} Reading;

static Status check_sizes(const Sizes *z, const char *name) {
  const int32_t *v = &z->dim;
  for (int i = 0; i < 7; i++)
    if (v[i] < 1 || v[i] > LARGEST) return fail(ERR_FORMAT, "'%s': no llama2.c model: size %d of its header is %d", name, i + 1, v[i]);
  if (z->dim % z->heads || z->heads % z->kv_heads || z->dim / z->heads % 2)
    return fail(ERR_FORMAT, "'%s': no llama2.c model: dim %d, heads %d, kv_heads %d do not fit", name, z->dim, z->heads, z->kv_heads);
  return OK;
}

/* One matrix (rows, columns), or a vector if columns is 0. layer < 0: not of a layer. */
static Status take(Reading *r, const char *what, int layer, int64_t rows, int64_t columns) {
  uint64_t n = (uint64_t)rows * (uint64_t)(columns ? columns : 1) * 4; /* both at most 2^24 */
  if (n > r->bytes - r->at)
    return fail(ERR_FORMAT, "'%s': cut off: the header's sizes need more than its %llu bytes", r->name, (unsigned long long)r->bytes);
  char *name = r->names[r->count];
  if (layer < 0) snprintf(name, sizeof *r->names, "%s.weight", what);
  else snprintf(name, sizeof *r->names, "model.layers.%d.%s.weight", layer, what);
  r->entries[r->count++] = (SafeEntry){
    .name = name, .type = E_F32, .ndim = columns ? 2 : 1, .shape = {rows, columns}, .numel = (int64_t)(n / 4),
    .data = r->data + r->at, .begin = r->at, .end = r->at + n, .file = r->name};
  r->at += n;
  return OK;
}

static Status take_all(Reading *r, int layers, const char *what, int64_t rows, int64_t columns) {
  for (int i = 0; i < layers; i++) TRY(take(r, what, i, rows, columns));
  return OK;
}

static Status take_matrices(Reading *r, const Sizes *z) {
  int64_t kv = (int64_t)z->dim / z->heads * z->kv_heads;
  TRY(take_all(r, z->layers, "self_attn.q_proj", z->dim, z->dim));
  TRY(take_all(r, z->layers, "self_attn.k_proj", kv, z->dim));
  TRY(take_all(r, z->layers, "self_attn.v_proj", kv, z->dim));
  return take_all(r, z->layers, "self_attn.o_proj", z->dim, z->dim);
}

static Status take_mlp(Reading *r, const Sizes *z) {
  TRY(take_all(r, z->layers, "mlp.gate_proj", z->hidden, z->dim));
  TRY(take_all(r, z->layers, "mlp.down_proj", z->dim, z->hidden));
  return take_all(r, z->layers, "mlp.up_proj", z->hidden, z->dim);
}

static Status take_legacy(Reading *r, const Sizes *z, bool tied) {
  TRY(take(r, "model.embed_tokens", -1, z->vocab, z->dim));
  TRY(take_all(r, z->layers, "input_layernorm", z->dim, 0));
  TRY(take_matrices(r, z));
  TRY(take_all(r, z->layers, "post_attention_layernorm", z->dim, 0));
  TRY(take_mlp(r, z));
  TRY(take(r, "model.norm", -1, z->dim, 0));
  r->at += (uint64_t)z->context * (uint64_t)(z->dim / z->heads) * 4; /* tables of cosines and sines */
  if (r->at > r->bytes) return fail(ERR_FORMAT, "'%s': cut off", r->name);
  return tied ? OK : take(r, "lm_head", -1, z->vocab, z->dim);
}

static Status take_v1(Reading *r, const Sizes *z, bool tied) {
  TRY(take_all(r, z->layers, "input_layernorm", z->dim, 0));
  TRY(take_all(r, z->layers, "post_attention_layernorm", z->dim, 0));
  TRY(take(r, "model.norm", -1, z->dim, 0));
  TRY(take(r, "model.embed_tokens", -1, z->vocab, z->dim));
  TRY(take_matrices(r, z));
  TRY(take_mlp(r, z));
  return tied ? OK : take(r, "lm_head", -1, z->vocab, z->dim);
}

static Status gather(Reading *r, const Sizes *z, bool tied, bool legacy, SafeTensors **out) {
  static const char *const keys[] = {"dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len"};
  char text[7][16];
  SafePair pairs[9] = {{"format", "llama2.c"}, {"tied", tied ? "true" : "false"}};
  TRY(legacy ? take_legacy(r, z, tied) : take_v1(r, z, tied));
  if (r->at != r->bytes) return fail(ERR_FORMAT, "'%s': %llu bytes behind the last weight", r->name, (unsigned long long)(r->bytes - r->at));
  for (int i = 0; i < 7; i++) {
    snprintf(text[i], sizeof text[i], "%d", (&z->dim)[i]);
    pairs[2 + i] = (SafePair){keys[i], text[i]};
  }
  return safetensors_gather(r->count, r->entries, 9, pairs, out);
}

Status llama2c_parse(const uint8_t *data, size_t bytes, const char *name, SafeTensors **out) {
  *out = NULL;
  Sizes z;
  uint32_t head[2] = {0, 0};
  if (bytes < sizeof z + 8) return fail(ERR_FORMAT, "'%s': no llama2.c model: %zu bytes are too few", name, bytes);
  memcpy(head, data, sizeof head);
  bool legacy = head[0] != MAGIC;
  if (!legacy && head[1] != 1) return fail(ERR_UNSUPPORTED, "'%s': a llama2.c model of version %u; versions 0 and 1 are read", name, head[1]);
  memcpy(&z, data + (legacy ? 0 : 8), sizeof z);
  bool tied = legacy ? z.vocab > 0 : bytes > HEADER_V1 && data[8 + sizeof z] != 0;
  if (legacy && z.vocab < 0 && z.vocab >= -LARGEST) z.vocab = -z.vocab;
  TRY(check_sizes(&z, name));
  uint64_t count = (uint64_t)z.layers * PER_LAYER + 3;
  if (count * 4 > bytes) return fail(ERR_FORMAT, "'%s': cut off: %d layers in %zu bytes", name, z.layers, bytes);
  Reading r = {.data = data, .name = name, .at = legacy ? sizeof z : HEADER_V1, .bytes = bytes};
  r.entries = mem_calloc((size_t)count, sizeof *r.entries);
  r.names = mem_calloc((size_t)count, sizeof *r.names);
  Status s = r.entries && r.names ? gather(&r, &z, tied, legacy, out) : error_code();
  mem_free(r.entries);
  mem_free(r.names);
  return s;
}
