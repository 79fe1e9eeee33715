/* buffer.c - see buffer.h. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

Status buffer_reserve(Buffer *b, size_t more) {
  if (b->room - b->used >= more) return OK;
  if (more > SIZE_MAX / 4 || b->used > SIZE_MAX / 4) return fail(ERR_MEMORY, "out of memory: %zu more bytes asked for", more);
  size_t room = 2 * b->room > b->used + more ? 2 * b->room : b->used + more;
  char *grown = mem_realloc(b->data, room < 256 ? 256 : room);
  if (!grown) return error_code();
  b->data = grown;
  b->room = room < 256 ? 256 : room;
  return OK;
}

Status buffer_add(Buffer *b, const void *data, size_t bytes) {
  if (!bytes) return OK;
  TRY(buffer_reserve(b, bytes));
  memcpy(b->data + b->used, data, bytes);
  b->used += bytes;
  return OK;
}

Status buffer_text(Buffer *b, const char *text) { return buffer_add(b, text, strlen(text)); }

Status buffer_print(Buffer *b, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  TRY(buffer_reserve(b, (size_t)n + 1));
  va_start(arguments, format);
  vsnprintf(b->data + b->used, (size_t)n + 1, format, arguments);
  va_end(arguments);
  b->used += (size_t)n;
  return OK;
}

void buffer_free(Buffer *b) {
  mem_free(b->data);
  *b = (Buffer){0};
}
