/* pattern.c - PCRE2 with its JIT where the system allows one, and our allocator. */
#include "io/pattern.h"

#include <string.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"

enum { STACK_FIRST = 32 << 10, STACK_MOST = 8 << 20 };

struct Pattern {
  pcre2_general_context *memory;
  pcre2_code *code;
  pcre2_match_data *match;
  pcre2_match_context *context;
  pcre2_jit_stack *stack;
};

static void *take(PCRE2_SIZE bytes, void *context) {
  (void)context;
  return mem_alloc(bytes);
}

static void give(void *block, void *context) {
  (void)context;
  mem_free(block);
}

const char *pattern_named(const char *name) {
  if (strcmp(name, "gpt2") == 0) return "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
  if (strcmp(name, "llama3") == 0)
    return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  return NULL;
}

Status pattern_compile(const char *regex, size_t bytes, Pattern **out) {
  *out = NULL;
  Pattern *p = mem_calloc(1, sizeof *p);
  if (!p) return error_code();
  int code;
  PCRE2_SIZE at;
  p->memory = pcre2_general_context_create(take, give, NULL);
  pcre2_compile_context *settings = p->memory ? pcre2_compile_context_create(p->memory) : NULL;
  if (settings) p->code = pcre2_compile((PCRE2_SPTR)regex, bytes, PCRE2_UTF | PCRE2_UCP, &code, &at, settings);
  Status s = OK;
  if (!settings) s = error_code();
  else if (!p->code) {
    PCRE2_UCHAR text[256];
    pcre2_get_error_message(code, text, sizeof text);
    s = fail(ERR_FORMAT, "the pattern '%.200s' does not compile: %s at byte %zu", regex, (char *)text, (size_t)at);
  } else {
    pcre2_jit_compile(p->code, PCRE2_JIT_COMPLETE); /* without a JIT the interpreter does the work */
    p->match = pcre2_match_data_create(1, p->memory);
    p->context = pcre2_match_context_create(p->memory);
    p->stack = pcre2_jit_stack_create(STACK_FIRST, STACK_MOST, p->memory);
    if (!p->match || !p->context || !p->stack) s = error_code();
    else pcre2_jit_stack_assign(p->context, NULL, p->stack);
  }
  pcre2_compile_context_free(settings);
  if (s != OK) pattern_free(p);
  else *out = p;
  return s;
}

void pattern_free(Pattern *p) {
  if (!p) return;
  pcre2_jit_stack_free(p->stack);
  pcre2_match_context_free(p->context);
  pcre2_match_data_free(p->match);
  pcre2_code_free(p->code);
  pcre2_general_context_free(p->memory);
  mem_free(p);
}

Status pattern_next(Pattern *p, const char *text, size_t bytes, size_t *start, size_t *end) {
  int n = pcre2_match(p->code, (PCRE2_SPTR)text, bytes, *start, PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, p->match, p->context);
  if (n == PCRE2_ERROR_NOMATCH) return *start = *end = bytes, OK;
  if (n < 0) {
    PCRE2_UCHAR reason[256];
    pcre2_get_error_message(n, reason, sizeof reason);
    return fail(ERR_FORMAT, "the tokenizer's pattern failed on this text: %s", (char *)reason);
  }
  const PCRE2_SIZE *range = pcre2_get_ovector_pointer(p->match);
  *start = range[0], *end = range[1];
  return OK;
}
