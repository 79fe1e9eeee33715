/* pattern.h - the regular expressions that cut text into words, through PCRE2.
 *
 * Patterns come from tokenizer.json and were written for Oniguruma or Rust's regex;
 * the constructs that tokenizers use mean the same in PCRE2 with Unicode
 * properties on. Text handed in must be UTF-8. */
#ifndef quench_pattern_h
#define quench_pattern_h

#include <stddef.h>

#include "base/status.h"

typedef struct Pattern Pattern;

/* What GPT-2's and Llama 3's tokenizers split with, by name ("gpt2", "llama3"); NULL for other names. */
const char *pattern_named(const char *name);

Status pattern_compile(const char *regex, size_t bytes, Pattern **out);
void pattern_free(Pattern *p); /* NULL is fine */

/* The first match at or behind *start that is not empty; *start == *end == bytes if there is none. */
Status pattern_next(Pattern *p, const char *text, size_t bytes, size_t *start, size_t *end);

#endif
