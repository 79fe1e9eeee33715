/* tokenizer_make.c - new tokenizers: bytes, and byte-level BPE trained on text. Both are written as a
 * tokenizer.json and read back, so that there is one way for a tokenizer to come about. */
#include <string.h>

#include "base/interrupt.h"
#include "io/bpe_train.h"
#include "io/json.h"
#include "io/tokenizer_parts.h"
#include "io/utf8.h"

/* Bytes in their visible form (see byte_characters in tokenizer_json.c), quoted for JSON. */
static Status add_visible(Buffer *b, const char *bytes, size_t length) {
  Buffer text = {0};
  Status s = OK;
  for (size_t i = 0; i < length && s == OK; i++) {
    uint32_t byte = (uint8_t)bytes[i], c = byte;
    if (byte < 33) c = 256 + byte;
    else if (byte >= 127 && byte <= 160) c = 256 + 33 + (byte - 127);
    else if (byte == 173) c = 256 + 67;
    char utf8[4];
    s = buffer_add(&text, utf8, (size_t)utf8_put(c, utf8));
  }
  if (s == OK) s = json_quote(b, text.data, text.used);
  buffer_free(&text);
  return s;
}

static Status add_specials(Buffer *b, const Learned *m, const TrainOptions *o) {
  TRY(buffer_text(b, "  \"added_tokens\": ["));
  for (int i = 0; i < o->specials; i++) {
    TRY(buffer_print(b, "%s\n    {\"id\": %d, \"content\": ", i ? "," : "", m->tokens + i));
    TRY(json_quote(b, o->special[i], strlen(o->special[i])));
    TRY(buffer_text(b, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}"));
  }
  return buffer_text(b, "],\n");
}

static Status add_pretokenizer(Buffer *b, const char *pattern) {
  static const char level[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": ";
  if (!pattern) return buffer_print(b, "  \"pre_tokenizer\": %sfalse},\n", level);
  if (strcmp(pattern, pattern_named("gpt2")) == 0) return buffer_print(b, "  \"pre_tokenizer\": %strue},\n", level);
  TRY(buffer_text(b, "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [\n    {\"type\": \"Split\", \"pattern\": {\"Regex\": "));
  TRY(json_quote(b, pattern, strlen(pattern)));
  return buffer_print(b, "}, \"behavior\": \"Isolated\", \"invert\": false},\n    %sfalse}]},\n", level);
}

static Status add_model(Buffer *b, const Learned *m, const TrainOptions *o) {
  TRY(buffer_text(b, "  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null,\n"
                     "    \"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false,\n    \"vocab\": {"));
  for (int32_t id = 0; id < m->tokens; id++) {
    TRY(buffer_text(b, id ? ",\n" : "\n"));
    TRY(add_visible(b, m->text[id], (size_t)m->length[id]));
    TRY(buffer_print(b, ": %d", id));
  }
  for (int i = 0; i < o->specials; i++) {
    TRY(buffer_text(b, ",\n"));
    TRY(json_quote(b, o->special[i], strlen(o->special[i])));
    TRY(buffer_print(b, ": %d", m->tokens + i));
  }
  TRY(buffer_text(b, "},\n    \"merges\": ["));
  for (int32_t k = 0; k < m->merges; k++) {
    int32_t first = m->pair[2 * k], second = m->pair[2 * k + 1];
    TRY(buffer_text(b, k ? ",\n[" : "\n["));
    TRY(add_visible(b, m->text[first], (size_t)m->length[first]));
    TRY(buffer_text(b, ","));
    TRY(add_visible(b, m->text[second], (size_t)m->length[second]));
    TRY(buffer_text(b, "]"));
  }
  return buffer_text(b, "]}\n}\n");
}

static Status write_json(Buffer *b, const Learned *m, const TrainOptions *o) {
  TRY(buffer_text(b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"));
  TRY(add_specials(b, m, o));
  TRY(buffer_text(b, "  \"normalizer\": null,\n"));
  TRY(add_pretokenizer(b, o->pattern));
  TRY(buffer_text(b, "  \"post_processor\": null,\n"
                     "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n"));
  return add_model(b, m, o);
}

static Status make(const Learned *m, const TrainOptions *o, Tokenizer **out) {
  Buffer json = {0};
  Status s = write_json(&json, m, o);
  if (s == OK) s = tokenizer_parse(json.data, json.used, "the new tokenizer", out);
  buffer_free(&json);
  return s;
}

/* Words of the text, special tokens left out; what is in front of and behind one is cut there. */
static Status count_words(Trainer *trainer, const Splitter *splitter, const AddedSet *specials, const char *text, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    size_t start = at, end = bytes;
    int hit = added_next(specials, text, bytes, &start, &end);
    TRY(splitter_run(splitter, text + at, (hit < 0 ? bytes : start) - at, trainer_word, trainer));
    TRY(interrupt_check());
    at = end;
  }
  return OK;
}

static Status count_text(Trainer *trainer, const char *text, size_t bytes, const TrainOptions *o) {
  Splitter splitter = {0};
  AddedSet set = {0};
  Arena arena = {0};
  set.item = arena_calloc(&arena, (size_t)o->specials, sizeof *set.item);
  Status s = set.item ? OK : error_code();
  for (int i = 0; i < o->specials && s == OK; i++) {
    if (!o->special[i][0]) s = fail(ERR_ARGUMENT, "train: an empty special token");
    set.item[set.count++] = (Added){.bytes = o->special[i], .length = strlen(o->special[i]), .id = i};
  }
  if (s == OK) added_sort(&set);
  if (s == OK && o->pattern) s = splitter_add(&splitter, o->pattern, strlen(o->pattern), ISOLATED, false);
  if (s == OK) s = count_words(trainer, &splitter, &set, text, bytes);
  splitter_free(&splitter);
  arena_free(&arena);
  return s;
}

Status tokenizer_train(const char *text, size_t bytes, const TrainOptions *o, Tokenizer **out) {
  *out = NULL;
  if (o->vocab_size < 256 + o->specials)
    return fail(ERR_ARGUMENT, "train: vocab_size %d is below 256 bytes + %d special tokens", o->vocab_size, o->specials);
  Trainer *trainer;
  Learned learned;
  TRY(trainer_new(&trainer));
  Status s = count_text(trainer, text, bytes, o);
  if (s == OK) s = trainer_run(trainer, o->vocab_size - o->specials, o->min_count, &learned);
  if (s == OK) s = make(&learned, o, out);
  trainer_free(trainer);
  return s;
}

Status tokenizer_bytes(Tokenizer **out) {
  return tokenizer_train("", 0, &(TrainOptions){.vocab_size = 256}, out);
}
